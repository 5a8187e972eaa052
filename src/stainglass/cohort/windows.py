"""Windows of a section and what is measured within reach of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stainglass.units import LATENT_STEP_PX, snapped_top_left_px, window_centre_um_yx

CHUNK = 1024
"""Windows whose neighbours are held at once."""
MANY_WINDOWS = 32
"""From so many on a tree of the spots is worth its making."""


@dataclass(frozen=True)
class Window:
    """A square of a section at the cohort's mpp, snapped to the latent grid.

    Attributes
    ----------
    section
        Section id.
    top_px, left_px
        Corner in px of the section's raster; multiples of 8, may be negative (outside is white).
    size_px
        Side in px, a multiple of 8.
    spot
        Barcode of the spot the window is centred on (a *patch*); None for a window of a grid.
    """

    section: str
    top_px: int
    left_px: int
    size_px: int
    spot: str | None = None

    def __post_init__(self) -> None:
        if self.top_px % LATENT_STEP_PX or self.left_px % LATENT_STEP_PX or self.size_px % LATENT_STEP_PX:
            raise ValueError(f"{self} is not on the latent grid of {LATENT_STEP_PX} px")

    def centre_um_yx(self, mpp: float) -> NDArray[np.float64]:
        """Centre (y, x) in µm; shape (2,)."""
        centres = window_centre_um_yx(np.array([[self.top_px, self.left_px]]), mpp, self.size_px)
        return np.asarray(centres[0])


@dataclass(frozen=True)
class Conditions:
    """What a generator is told of N windows: up to S spots each, on G genes.

    A slot without a spot has ``present`` False and zeros elsewhere. A window without any spot is the
    null condition.

    Attributes
    ----------
    counts
        Raw counts, float32 (N, S, G).
    offsets_um_yx
        Spot centre minus window centre (y, x) in µm, float32 (N, S, 2).
    diameters_um
        Spot diameters in µm, float32 (N, S).
    present
        Which slots hold a spot, bool (N, S); slots are ordered by distance, nearest first.
    barcodes
        Names of the spots, one tuple a window, for provenance.
    measured
        Which genes the window's section measured at all, bool (N, G); None: every one.
    images
        CLIP embedding of a picture the window shall show, float32 (N, D), zeros where none is told; None: nowhere.
    depths
        Counts a spot of the window's section, float32 (N,): see `depth_of`; None: not known.
    """

    counts: Float32[np.ndarray, "n s g"]
    offsets_um_yx: Float32[np.ndarray, "n s 2"]
    diameters_um: Float32[np.ndarray, "n s"]
    present: Bool[np.ndarray, "n s"]
    barcodes: tuple[tuple[str, ...], ...]
    measured: Bool[np.ndarray, "n g"] | None = None
    images: Float32[np.ndarray, "n d"] | None = None
    depths: Float32[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.present)

    def digest(self) -> str:
        """A hash of all that is told: windows told the same have the same."""
        found = hashlib.sha256(repr(self.barcodes).encode())
        for array in (
            self.counts,
            self.offsets_um_yx,
            self.diameters_um,
            self.present,
            self.measured,
            self.images,
            self.depths,
        ):
            found.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def take(self, index: Sequence[int] | Int64[np.ndarray, m]) -> Conditions:
        """The conditions of these windows, in this order (repeats allowed)."""
        at = np.asarray(index, dtype=np.int64)
        return Conditions(
            self.counts[at],
            self.offsets_um_yx[at],
            self.diameters_um[at],
            self.present[at],
            tuple(self.barcodes[int(i)] for i in at),
            None if self.measured is None else self.measured[at],
            None if self.images is None else self.images[at],
            None if self.depths is None else self.depths[at],
        )

    def null(self) -> Conditions:
        """The same number of windows, told nothing."""
        return Conditions(
            np.zeros_like(self.counts),
            np.zeros_like(self.offsets_um_yx),
            np.zeros_like(self.diameters_um),
            np.zeros_like(self.present),
            tuple(() for _ in self.barcodes),
            depths=self.depths,
        )

    def told_images(self, images: Float32[np.ndarray, "n d"]) -> Conditions:
        """The same windows, told embeddings of pictures and no genes."""
        return replace(self.null(), images=images.astype(np.float32))

    def with_counts_everywhere(self, counts: Float32[np.ndarray, "n g"], name: str) -> Conditions:
        """Every present spot of window i is given ``counts[i]``: the *bulk* control."""
        filled = np.where(self.present[:, :, None], counts[:, None, :], 0).astype(np.float32)
        names = tuple(tuple(name for _ in row) for row in self.barcodes)
        return replace(self, counts=filled, barcodes=names)


def depth_of(counts: Float32[np.ndarray, "spots g"]) -> float:
    """How deeply a section was sequenced: the median of its spots' counts, on the genes of the axis."""
    return float(np.median(counts.sum(1))) if len(counts) else 0.0


def as_bulk(counts: Float32[np.ndarray, "spots g"]) -> Float32[np.ndarray, "spots g"]:
    """The section's mean counts at every spot: what a bulk measurement of it would tell."""
    return np.repeat(counts.mean(0, keepdims=True), len(counts), 0).astype(np.float32)


def patch_windows(
    section: str, centres_um_yx: NDArray[np.float64], barcodes: Sequence[str], mpp: float, size_px: int
) -> list[Window]:
    """One window around each spot, snapped to the latent grid."""
    corners = snapped_top_left_px(centres_um_yx, mpp, size_px)
    return [
        Window(section, int(top), int(left), size_px, str(name))
        for (top, left), name in zip(corners, barcodes)
    ]


def grid_windows(
    section: str, tissue: Bool[np.ndarray, "h w"], tissue_px: float, size_px: int, least_tissue: float = 0.5
) -> list[Window]:
    """Windows side by side that tile the tissue.

    Parameters
    ----------
    tissue
        Tissue mask; one cell covers ``tissue_px`` raster px.
    least_tissue
        Share of a window that must be tissue.
    """
    height, width = (round(n * tissue_px) for n in tissue.shape)
    found = []
    for top in range(0, height, size_px):
        for left in range(0, width, size_px):
            rows = slice(
                int(top / tissue_px), max(int(top / tissue_px) + 1, int((top + size_px) / tissue_px))
            )
            columns = slice(
                int(left / tissue_px), max(int(left / tissue_px) + 1, int((left + size_px) / tissue_px))
            )
            if tissue[rows, columns].mean() >= least_tissue:
                found.append(Window(section, top, left, size_px))
    return found


def _close(
    centres: NDArray[np.float64], spots: NDArray[np.float64], reach_um: float
) -> Iterator[NDArray[np.int64]]:
    """Of each window the spots that may be in reach, in their own order; of a few windows all of them."""
    if len(centres) < MANY_WINDOWS or not len(spots):
        yield from repeat(np.arange(len(spots)), len(centres))
        return
    tree = cKDTree(spots)
    for first in range(0, len(centres), CHUNK):
        # A hair farther than the reach, as the tree may round otherwise than the comparison that decides.
        some = centres[first : first + CHUNK]
        for one in tree.query_ball_point(some, reach_um * (1 + 1e-9), return_sorted=True):
            yield np.asarray(one, dtype=np.int64)


def gather_conditions(
    centres_um_yx: NDArray[np.float64],
    spots_um_yx: NDArray[np.float64],
    counts: Float32[np.ndarray, "spots g"],
    diameters_um: NDArray[np.float64],
    barcodes: Sequence[str],
    reach_um: float,
    max_spots: int,
) -> Conditions:
    """Link windows of one section with the spots within reach of their centres.

    Parameters
    ----------
    centres_um_yx
        (n, 2) window centres.
    spots_um_yx
        (spots, 2) spot centres.
    reach_um
        A spot belongs to a window when its centre is within this distance of the window's centre.
    max_spots
        Nearest first; further ones are left out.
    """
    n, genes = len(centres_um_yx), counts.shape[1]
    shape = (n, max_spots)
    out_counts = np.zeros((*shape, genes), np.float32)
    offsets, diameters, present = (
        np.zeros((*shape, 2), np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
    )
    names: list[tuple[str, ...]] = []
    for i, (centre, close) in enumerate(zip(centres_um_yx, _close(centres_um_yx, spots_um_yx, reach_um))):
        delta = spots_um_yx[close] - centre
        distance = np.hypot(delta[:, 0], delta[:, 1])
        order = np.argsort(distance, kind="stable")[:max_spots]
        order = order[distance[order] <= reach_um]
        near, k = close[order], len(order)
        out_counts[i, :k], offsets[i, :k] = counts[near], delta[order]
        diameters[i, :k], present[i, :k] = diameters_um[near], True
        names.append(tuple(str(barcodes[j]) for j in near))
    return Conditions(out_counts, offsets, diameters, present, tuple(names))
