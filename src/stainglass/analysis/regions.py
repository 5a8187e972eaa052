"""Spots as a neighbourhood graph and as a map: signals over spots become connected regions of tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes

from stainglass.analysis.polygons import Polygon, polygons_of_mask

REACH = 1.6
"""Spots within this many pitches are neighbours: six on a hexagonal lattice, eight on a square one, printed unevenly."""
COVER, BRIDGE = 0.56, 0.2
"""Tissue within ``COVER`` pitches belongs to its nearest spot: a disc as large as a cell of a square lattice. Gaps between
discs are bridged (a closing by ``BRIDGE`` pitches), so that an unevenly printed array is no sieve; the place of a spot that
is missing stays a hole."""
CELLS = 16
"""Cells of a map along one pitch."""


def pitch_um(centres_um_yx: Float64[np.ndarray, "n 2"]) -> float:
    """Median distance of a spot from its nearest neighbour; 0 for fewer than two spots.

    Of these spots, not of the array they come from: where only some spots are looked at, what is next to each
    other among them is what matters.
    """
    if len(centres_um_yx) < 2:
        return 0.0
    return float(np.median(cKDTree(centres_um_yx).query(centres_um_yx, k=2)[0][:, 1]))


def neighbours(centres_um_yx: Float64[np.ndarray, "n 2"], reach: float = REACH) -> Int64[np.ndarray, "m 2"]:
    """Pairs of spots within ``reach`` pitches of each other."""
    radius = reach * pitch_um(centres_um_yx)
    if not radius > 0:
        return np.zeros((0, 2), np.int64)
    return cKDTree(centres_um_yx).query_pairs(radius, output_type="ndarray").astype(np.int64).reshape(-1, 2)


def connected(groups: Int64[np.ndarray, n], links: Int64[np.ndarray, "m 2"]) -> Int64[np.ndarray, n]:
    """Number the connected components of equal groups 1, 2, …, the largest first; 0 where the group is negative.

    Parameters
    ----------
    groups
        What each spot belongs to (a class, a cluster, above a threshold); negative: to nothing.
    links
        Pairs of neighbours.
    """
    n = len(groups)
    kept = links[(groups[links[:, 0]] == groups[links[:, 1]]) & (groups[links[:, 0]] >= 0)]
    graph = coo_matrix((np.ones(len(kept)), (kept[:, 0], kept[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    member = groups >= 0
    found = np.zeros(n, np.int64)
    if member.any():
        names, first, inverse, size = np.unique(
            component[member], return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.empty(len(names), np.int64)
        rank[np.lexsort((first, -size))] = np.arange(1, len(names) + 1)
        found[member] = rank[inverse]
    return found


def touching(components: Int64[np.ndarray, n], links: Int64[np.ndarray, "m 2"]) -> dict[int, tuple[int, ...]]:
    """Component → the components it touches, in order."""
    pairs = components[links]
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs > 0).all(axis=1)]
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    return {
        int(one): tuple(int(other) for other in both[both[:, 0] == one, 1])
        for one in np.unique(components[components > 0])
    }


def above(values: Float64[np.ndarray, n], threshold: float) -> Int64[np.ndarray, n]:
    """1 where a signal is above the threshold, 0 below, -1 where it has no value."""
    return np.where(np.isnan(values), -1, (values > threshold).astype(np.int64)).astype(np.int64)


def signal_threshold(training: Float64[np.ndarray, n]) -> float:
    """Otsu's threshold (1979) of a signal over training spots; a constant signal is never above it."""
    finite = training[np.isfinite(training)]
    if not len(finite) or np.ptp(finite) < 1e-12:
        return float(finite.max(initial=0.0))
    return float(threshold_otsu(finite))


def same_share(measured: Float64[np.ndarray, n], threshold: float, read: Float64[np.ndarray, n]) -> float:
    """The threshold of what is read from pictures that as many training spots pass as pass ``threshold``.

    A regression pulls its readings to the mean; the measured signal's own threshold would be passed by too few.
    """
    return float(np.quantile(read, float((measured <= threshold).mean())))


@dataclass(frozen=True)
class SpotMap:
    """Which spot every cell of a fine grid belongs to: the Voronoi cells of the spots, cut off at the array's rim (`COVER`).

    Attributes
    ----------
    spot
        (h, w) index of the nearest spot, -1 where none is near.
    corner_um_yx
        Position of the grid's corner.
    cell_um
        Side of a cell.
    """

    spot: Int64[np.ndarray, "h w"]
    corner_um_yx: tuple[float, float]
    cell_um: float

    @classmethod
    def of(cls, centres_um_yx: Float64[np.ndarray, "n 2"], lone_um: float = 100.0) -> SpotMap:
        """Map of these spots; ``lone_um`` is the pitch taken for a single spot."""
        pitch = pitch_um(centres_um_yx) or lone_um
        cell = pitch / CELLS
        # A whole number of cells beyond the outermost spots, so that moving all spots moves the map and no more.
        margin = (int(np.ceil((COVER + BRIDGE) * CELLS)) + 1) * cell
        low, high = centres_um_yx.min(axis=0) - margin, centres_um_yx.max(axis=0) + margin
        shape = np.ceil((high - low) / cell).astype(int)
        y, x = np.mgrid[: shape[0], : shape[1]]
        points = (np.stack([y.ravel(), x.ravel()], axis=1) + 0.5) * cell + low
        distance, nearest = cKDTree(centres_um_yx).query(points)
        wide = (distance <= (COVER + BRIDGE) * pitch).reshape(tuple(shape))
        covered = distance_transform_edt(wide) > BRIDGE * CELLS
        covered = remove_small_holes(covered, max_size=CELLS**2 // 2)
        spot = np.where(covered, nearest.reshape(tuple(shape)), -1)
        return cls(spot.astype(np.int64), (float(low[0]), float(low[1])), float(cell))

    def mask(self, members: Bool[np.ndarray, n]) -> Bool[np.ndarray, "h w"]:
        """Cells that belong to any of these spots."""
        return np.asarray(np.append(members, False)[self.spot])

    def within(self, corners_um_yx: Float64[np.ndarray, "m 2"], side_um: float) -> Bool[np.ndarray, "h w"]:
        """Cells whose middle lies in any of these squares, given by their corners."""
        seen = np.zeros(self.spot.shape, bool)
        first = np.ceil((corners_um_yx - np.asarray(self.corner_um_yx)) / self.cell_um - 0.5).astype(np.int64)
        last = np.ceil((corners_um_yx + side_um - np.asarray(self.corner_um_yx)) / self.cell_um - 0.5)
        for (top, left), (bottom, right) in zip(first.clip(0), last.astype(np.int64).clip(0), strict=True):
            seen[top:bottom, left:right] = True
        return seen

    def outline(self, members: Bool[np.ndarray, n]) -> list[Polygon]:
        """The tissue these spots stand for, as polygons in µm, holes kept."""
        return polygons_of_mask(self.mask(members), self.corner_um_yx, self.cell_um)

    def spot_at(self, positions_um_yx: NDArray[np.float64]) -> Int64[np.ndarray, m]:
        """The spot to which each position belongs; -1 where there is none."""
        cell = np.floor((positions_um_yx - np.asarray(self.corner_um_yx)) / self.cell_um).astype(np.int64)
        inside = ((cell >= 0) & (cell < np.array(self.spot.shape))).all(axis=1)
        at = np.clip(cell, 0, np.array(self.spot.shape) - 1)
        return np.where(inside, self.spot[at[:, 0], at[:, 1]], -1).astype(np.int64)
