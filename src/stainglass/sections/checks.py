"""Checks that stop a wrong section before anything is learnt from it: its scale and its counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.sections.lattice import LatticeFit

AGREEMENT = 0.05
"""Two sources of µm/px may differ by this share."""
GIVE_MPP = "Give the section's µm per full-resolution pixel (column mpp of a manifest, mpp= of read_section, --mpp of generate)"
MAX_RESIDUAL = 0.2
"""A spot may lie off the lattice by this share of the pitch, in the mean."""


@dataclass(frozen=True)
class Scale:
    """µm per full-resolution px, what it was taken from, and what was noticed."""

    mpp: float
    source: str
    notices: tuple[str, ...]


def lattice_claim(
    fit: LatticeFit | None, pitch_um: float, where: str | Path
) -> tuple[float | None, tuple[str, ...]]:
    """µm/px of a lattice fit when the spots really lie on the lattice.

    Raises
    ------
    StainglassError
        When the positions do not belong to the array coordinates.
    """
    if fit is None:
        return None, ()
    if fit.residual_um > MAX_RESIDUAL * pitch_um or fit.anisotropy > 1 + 2 * AGREEMENT:
        raise StainglassError(
            where,
            f"the spots do not lie on the array's lattice (off by {fit.residual_um:.0f} µm "
            "in the mean of a pitch of "
            f"{pitch_um:g} µm; the axes differ by a factor of {fit.anisotropy:.2f})",
            "Check that positions and array coordinates belong to the same section",
        )
    notices = []
    if fit.mirrored:
        notices.append("the array is mirrored on the slide: check the proof image")
    if fit.anisotropy > 1 + AGREEMENT / 2:
        notices.append(
            f"pixels are not square: the lattice is stretched by {fit.anisotropy - 1:.1%} along one axis"
        )
    return fit.mpp, tuple(notices)


def decide_mpp(
    where: str | Path,
    *,
    explicit: float | None = None,
    lattice: float | None = None,
    metadata: float | None = None,
    stated: float | None = None,
    diameter_px: float | None = None,
    diameter_range_um: tuple[float, float] = (55.0, 75.0),
) -> Scale:
    """Decide µm per full-resolution px from all that is known, or refuse.

    Parameters
    ----------
    where
        The section, for errors.
    explicit
        What the user said; it wins, and is held against the rest.
    lattice
        From the array's lattice (``fit_lattice``): the best source, since it was measured on this very slide.
    metadata
        From the image's metadata, converted to full-resolution px.
    stated
        From the vendor's scale file (Visium HD's ``microns_per_pixel``).
    diameter_px, diameter_range_um
        Diameter of a spot in the scale file and the µm it may stand for: a bound, never a source.

    Raises
    ------
    StainglassError
        When there is no source, or two of them differ by more than 5 %.
    """
    named = {
        "what was given": explicit,
        "the spot lattice": lattice,
        "the scale file": stated,
        "the image's metadata": metadata,
    }
    known = {source: float(value) for source, value in named.items() if value is not None}
    for source, value in known.items():
        if not np.isfinite(value) or value <= 0:
            raise StainglassError(where, f"{value} µm/px from {source} is no scale", GIVE_MPP)
    bound = tuple(um / diameter_px for um in diameter_range_um) if diameter_px else None
    if not known:
        raise _no_scale(where, bound)
    source, mpp = next(iter(known.items()))
    notices = []
    for other, value in list(known.items())[1:]:
        if abs(value / mpp - 1) > AGREEMENT:
            finding = f"{source} gives {mpp:.4g} µm/px but {other} gives {value:.4g}"
            if explicit is None:
                raise StainglassError(
                    where,
                    finding,
                    f"{GIVE_MPP}: {mpp:.4g} or {value:.4g}, whichever the microscope's record confirms",
                )
            notices.append(f"{finding}; {source} was taken")
    if bound is not None and not bound[0] * (1 - AGREEMENT) <= mpp <= bound[1] * (1 + AGREEMENT):
        finding = (
            f"{source} gives {mpp:.4g} µm/px but the spot diameter allows {bound[0]:.4g} to {bound[1]:.4g}"
        )
        if explicit is None:
            raise StainglassError(
                where,
                finding,
                f"Check the scale file. {GIVE_MPP}: {mpp:.4g}, if the microscope's record confirms it",
            )
        notices.append(f"{finding}; {source} was taken")
    if len(known) == 1:
        notices.append(f"µm/px rests on one source: {source} ({mpp:.4g})")
    return Scale(mpp, source, tuple(notices))


def _no_scale(where: str | Path, bound: tuple[float, ...] | None) -> StainglassError:
    hint = f" (the spot diameter only bounds it: {bound[0]:.3g} to {bound[1]:.3g})" if bound else ""
    return StainglassError(
        where,
        f"nothing says how many µm a pixel is{hint}",
        f"{GIVE_MPP}, from the microscope's record",
    )


def checked_counts(matrix: Any, where: str | Path) -> csr_matrix:
    """Raw counts as float32 csr, or an error that says why these are none.

    Raises
    ------
    StainglassError
        For text, NaN, infinite, negative or fractional entries.
    """
    remedy = "Give the raw counts (Space Ranger's matrix, or the layer that holds them)"
    try:
        counts = csr_matrix(matrix)
    except (TypeError, ValueError) as error:
        raise StainglassError(where, f"the matrix does not hold numbers ({error})", remedy) from error
    if counts.dtype.kind not in "buif":
        raise StainglassError(where, f"the matrix does not hold numbers but {counts.dtype}", remedy)
    values: NDArray[Any] = counts.data
    if not np.isfinite(values).all():
        raise StainglassError(where, "the matrix holds NaN or infinite values", remedy)
    if len(values) and values.min() < 0:
        raise StainglassError(where, f"the matrix holds negative values (down to {values.min():.4g})", remedy)
    fractional = values != np.rint(values)
    if fractional.any():
        raise StainglassError(
            where,
            f"the matrix is not raw counts: {fractional.mean():.0%} of its entries are fractions "
            f"(such as {values[fractional][0]:.4g}), it seems normalised",
            remedy,
        )
    counts = counts.astype(np.float32)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts
