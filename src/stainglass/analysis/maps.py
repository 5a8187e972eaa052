"""From a value a spot to a smooth map of the tissue: natural neighbours, nothing beyond the tissue.

Sibson's interpolation (1981) on a raster (Park et al. 2006): every cell hands the value of its nearest spot to all
cells of the disk round it that reaches just that spot. A map is everywhere a weighted mean of the spots around, so a
constant stays constant and no value leaves the range of the spots; it depends on distances alone, so a section that
is flipped has the flipped map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.spatial import KDTree

from stainglass.cohort.tissue import TISSUE_MPP
from stainglass.errors import StainglassError

CELLS_A_PITCH = 14
LONGEST = 800
"""Cells of a map: this many from spot to spot, unless its longer side would have more than ``LONGEST``."""

TIED = 4
"""Spots that may be equally near to a cell (the middle of a square of a grid)."""


@dataclass(frozen=True)
class SmoothMap:
    """A signal over a section.

    Attributes
    ----------
    values
        float32 (h, w); NaN off the tissue and farther than one pitch from any spot.
    cell_um_yx
        Height and width of a cell; the map begins at the slide's top-left corner.
    pitch_um
        Distance from spot to spot.
    """

    values: Float32[np.ndarray, "h w"]
    cell_um_yx: tuple[float, float]
    pitch_um: float

    def crop(self, top_um: float, left_um: float, side_um: float, px: int) -> Float32[np.ndarray, "px px"]:
        """A square of the map at ``px`` × ``px``, between cells linear, NaN where the map has none."""
        at = (np.arange(px) + 0.5) * side_um / px
        rows, columns = ((at + start) / cell - 0.5 for start, cell in zip((top_um, left_um), self.cell_um_yx))
        return _bilinear(self.values, rows, columns)


def pitch_um(centres_um_yx: Float64[np.ndarray, "n 2"]) -> float:
    """Median distance of a spot to its nearest neighbour.

    Raises
    ------
    StainglassError
        When there are fewer than two spots.
    """
    if len(centres_um_yx) < 2:
        raise StainglassError(
            "map",
            f"{len(centres_um_yx)} spot gives no map",
            "Show a section with more spots, or raise --most",
        )
    distance, _ = KDTree(centres_um_yx).query(centres_um_yx, k=2)
    return float(np.median(distance[:, 1]))


def smooth_map(
    centres_um_yx: Float64[np.ndarray, "n 2"],
    values: Float64[np.ndarray, n],
    tissue: Bool[np.ndarray, "th tw"],
    tissue_um: float = TISSUE_MPP,
    cell_um: float | None = None,
) -> SmoothMap:
    """Interpolate between spots, on the tissue, no farther than one pitch from a spot.

    Parameters
    ----------
    centres_um_yx
        Centres of the spots in µm from the slide's corner.
    values
        One a spot; spots whose value is not finite are left out.
    tissue
        Tissue mask, cells of ``tissue_um``.
    cell_um
        Side of a cell of the map; by default a fraction of the pitch.
    """
    known = np.isfinite(values)
    centres, values = centres_um_yx[known], np.asarray(values, np.float64)[known]
    pitch = pitch_um(centres)
    height_um, width_um = tissue.shape[0] * tissue_um, tissue.shape[1] * tissue_um
    cell = cell_um or max(pitch / CELLS_A_PITCH, max(height_um, width_um) / LONGEST)
    # The mask's cells seldom divide by the map's: both ends are treated alike, so that flips commute.
    shape = max(1, round(height_um / cell)), max(1, round(width_um / cell))
    steps = height_um / shape[0], width_um / shape[1]
    grid = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, steps)), indexing="ij"), -1)
    nearest, radius = _nearest(grid.reshape(-1, 2), centres, values)
    nearest, radius = nearest.reshape(shape), radius.reshape(shape)
    within = radius <= pitch
    total, weight = _scatter(nearest, np.where(within, radius / cell, -1.0))
    on_tissue = tissue[np.ix_(*((g / tissue_um).astype(int) for g in (grid[:, 0, 0], grid[0, :, 1])))]
    shown = within & on_tissue & (weight > 0)
    found = np.where(shown, total / np.where(weight > 0, weight, 1), np.nan)
    # Rounding must not carry a mean beyond what it is a mean of.
    return SmoothMap(np.clip(found, values.min(), values.max()).astype(np.float32), steps, pitch)


def _nearest(
    cells: Float64[np.ndarray, "m 2"], centres: Float64[np.ndarray, "n 2"], values: Float64[np.ndarray, n]
) -> tuple[Float64[np.ndarray, m], Float64[np.ndarray, m]]:
    """Value of the nearest spot (the mean of those equally near) and its distance."""
    k = min(TIED, len(centres))
    distance, index = KDTree(centres).query(cells, k=k)
    distance, index = distance.reshape(-1, k), index.reshape(-1, k)
    tied = distance <= distance[:, :1] * (1 + 1e-9) + 1e-9
    return (values[index] * tied).sum(1) / tied.sum(1), distance[:, 0]


def _scatter(
    value: Float64[np.ndarray, "h w"], radius: Float64[np.ndarray, "h w"]
) -> tuple[Float64[np.ndarray, "h w"], Float64[np.ndarray, "h w"]]:
    """Add every cell's value to all cells within its radius (in cells): one shift an offset of the disk."""
    reach = max(int(np.ceil(radius.max(initial=0))), 0)
    height, width = value.shape
    total, weight = np.zeros_like(value), np.zeros_like(value)
    for dy in range(-min(reach, height - 1), min(reach, height - 1) + 1):
        for dx in range(-min(reach, width - 1), min(reach, width - 1) + 1):
            far = np.hypot(dy, dx)
            if far > reach:
                continue
            source = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
            target = (slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx)))
            # A soft rim of one cell instead of a hard one: rings do not show.
            share = np.clip(radius[source] - far + 0.5, 0, 1)
            total[target] += value[source] * share
            weight[target] += share
    return total, weight


def _bilinear(
    values: Float32[np.ndarray, "h w"], rows: Float64[np.ndarray, r], columns: Float64[np.ndarray, c]
) -> Float32[np.ndarray, "r c"]:
    """Linear between cells that hold a value; NaN where the nearest cell has none."""
    height, width = values.shape
    total, weight = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    y0, x0 = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = y0 + dy, x0 + dx
            share = np.outer(1 - np.abs(rows - y), 1 - np.abs(columns - x))
            inside = np.outer((y >= 0) & (y < height), (x >= 0) & (x < width))
            cell = values[np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))]
            known = inside & np.isfinite(cell)
            total += np.where(known, cell, 0) * np.where(known, share, 0)
            weight += np.where(known, share, 0)
    return np.where(weight > 0.5, total / np.where(weight > 0, weight, 1), np.nan).astype(np.float32)
