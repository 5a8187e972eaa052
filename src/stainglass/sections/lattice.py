"""The lattice of an array, fitted to the positions of its spots: px per µm without guessing.

The distance to the nearest neighbour misleads as soon as the spots are a subset of the array (by a factor
of 2.7 in one public Visium subset); the array's own row and column numbers do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEX, SQUARE = "hex", "square"


@dataclass(frozen=True)
class LatticeFit:
    """An affine map from the array's plane to the slide, by least squares.

    Attributes
    ----------
    px_per_um
        Geometric mean of the map's two stretches.
    anisotropy
        Larger over smaller stretch; 1 for a slide with square pixels.
    residual_um
        Root mean square distance between a spot and its place on the lattice.
    mirrored
        The array's rows and columns turn the other way round on the slide.
    spots
        Number of spots the fit kept.
    """

    px_per_um: float
    anisotropy: float
    residual_um: float
    mirrored: bool
    spots: int

    @property
    def mpp(self) -> float:
        """µm per px."""
        return 1.0 / self.px_per_um


def lattice_kind(row: NDArray[np.int64], column: NDArray[np.int64]) -> str:
    """``hex`` when every second place is empty, as Visium numbers its staggered rows; else ``square``."""
    parity = (np.asarray(row) + np.asarray(column)) % 2
    return HEX if len(parity) > 1 and np.all(parity == parity[0]) else SQUARE


def lattice_um(
    row: NDArray[np.int64], column: NDArray[np.int64], pitch_um: float, kind: str
) -> NDArray[np.float64]:
    """Places (x, y) in µm of an array's spots, (n, 2); a hex column is half a pitch, a hex row √3/2 of it."""
    step_x, step_y = (pitch_um / 2, pitch_um * np.sqrt(3) / 2) if kind == HEX else (pitch_um, pitch_um)
    return np.stack([np.asarray(column) * step_x, np.asarray(row) * step_y], axis=1).astype(np.float64)


def fit_lattice(
    row: NDArray[np.int64], column: NDArray[np.int64], xy_px: NDArray[np.float64], pitch_um: float, kind: str
) -> LatticeFit | None:
    """Fit the array's lattice to positions on the slide.

    Parameters
    ----------
    row, column
        (n,) array coordinates.
    xy_px
        (n, 2) centres in px.
    pitch_um
        Distance of neighbouring centres.
    kind
        ``hex`` or ``square``.

    Returns
    -------
    The fit, or None when the spots do not span a plane.
    """
    um = lattice_um(row, column, pitch_um, kind)
    design = np.column_stack([um - um.mean(axis=0, keepdims=True), np.ones(len(um))]) if len(um) else um
    if len(um) < 3 or np.linalg.matrix_rank(design) < 3:
        return None
    kept = np.ones(len(um), dtype=np.bool_)
    solution, away = _least_squares(design, xy_px, kept)
    # One trim: a few spots moved by hand or by a warp must not tilt the rest.
    limit = 4 * np.median(away) + 1e-9
    trimmed = away <= limit
    if trimmed.sum() >= max(3, 0.9 * len(um)) and np.linalg.matrix_rank(design[trimmed]) == 3:
        kept = trimmed
        solution, away = _least_squares(design, xy_px, kept)
    stretch = np.linalg.svd(solution[:2], compute_uv=False)
    if stretch[1] <= 0:
        return None
    scale = float(np.sqrt(stretch[0] * stretch[1]))
    return LatticeFit(
        px_per_um=scale,
        anisotropy=float(stretch[0] / stretch[1]),
        residual_um=float(np.sqrt(np.mean(away[kept] ** 2)) / scale),
        mirrored=bool(np.linalg.det(solution[:2]) < 0),
        spots=int(kept.sum()),
    )


def _least_squares(
    design: NDArray[np.float64], xy_px: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    solution = np.asarray(np.linalg.lstsq(design[kept], xy_px[kept], rcond=None)[0], dtype=np.float64)
    away = np.asarray(np.linalg.norm(design @ solution - xy_px, axis=1), dtype=np.float64)
    return solution, away
