"""Resampling that respects tissue: neighbours are alike, so blocks are drawn, not windows.

Two kinds of interval come from here. Means and correlations are bootstrapped: whole sections where there
are five, else spatial blocks within sections. Distances between clouds are not: a window drawn twice is its
own nearest neighbour, and a bootstrap of KID misses its own estimate. They are computed on halves without
duplicates, whose spread about the whole equals the whole's own standard error (the delete-half jackknife).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from stainglass.analysis.block_draws import TAIL, codes, spatial_blocks, strata_of_blocks, tail_of
from stainglass.errors import StainglassError

FEW_SECTIONS = 5
"""Below this many sections, a bootstrap of sections says nothing; blocks within sections are drawn."""

HALVES_LABEL = "halves without duplicates, by spatial block"


@dataclass(frozen=True)
class Resampling:
    """Draws shared by every subject of a split, so that differences between subjects are paired.

    Attributes
    ----------
    weights
        How often each window is drawn in each bootstrap resample, float64 (B, N).
    halves
        B index arrays, each about half of the windows without duplicates.
    label
        What the bootstrap draws, for the card.
    freedom
        Degrees of freedom: how many blocks more than strata there are to draw from.
    """

    weights: Float64[np.ndarray, "b n"]
    halves: tuple[NDArray[np.int64], ...]
    label: str
    freedom: int

    @property
    def tail(self) -> float:
        """Share of draws beyond either end of a 95 % interval (`tail_of`)."""
        return tail_of(self.freedom)

    @classmethod
    def of(
        cls,
        centres_um_yx: Float64[np.ndarray, "n 2"],
        sections: Sequence[str],
        block_um: float,
        times: int,
        rng: np.random.Generator,
    ) -> Resampling:
        """Draw ``times`` bootstrap resamples and as many halves."""
        strata = codes(sections)
        blocks, side = spatial_blocks(centres_um_yx, sections, block_um)
        if strata.max(initial=0) + 1 >= FEW_SECTIONS:
            groups, within, label = strata, np.zeros_like(strata), "sections"
        else:
            groups, within, label = blocks, strata, f"within section, spatial blocks of {side:.0f} µm"
        weights, freedom = _draw(groups, within, times, rng)
        return cls(weights, tuple(_half(blocks, rng) for _ in range(times)), label, freedom)

    def mean(self, values: Float64[np.ndarray, n]) -> Estimate:
        """Mean over windows with its bootstrap interval."""
        draws = self.weights @ values / self.weights.sum(1)
        return Estimate.of(float(values.mean()), draws, self.label, self.tail)

    def statistic(self, function: Callable[[Float64[np.ndarray, n]], float]) -> Estimate:
        """A statistic of window weights with its bootstrap interval."""
        whole = function(np.ones(self.weights.shape[1]))
        return Estimate.of(whole, np.array([function(row) for row in self.weights]), self.label, self.tail)


@dataclass(frozen=True)
class Estimate:
    """A figure with the draws behind its interval; draws of estimates from one `Resampling` are paired.

    Attributes
    ----------
    by_seed
        The figure under each noise seed, where it was kept; their spread is not in the interval, which is over windows.
    tail
        Share of the draws beyond either end of the interval.
    """

    value: float
    draws: Float64[np.ndarray, b]
    label: str
    by_seed: tuple[float, ...] = ()
    tail: float = TAIL

    @classmethod
    def of(cls, value: float, draws: NDArray[np.float64], label: str, tail: float = TAIL) -> Estimate:
        """From a value and its draws."""
        return cls(value, np.asarray(draws, np.float64), label, tail=tail)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return float(np.quantile(self.draws, self.tail))

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return float(np.quantile(self.draws, 1 - self.tail))

    def __sub__(self, other: Estimate) -> Estimate:
        paired = tuple(a - b for a, b in zip(self.by_seed, other.by_seed))
        tail = min(self.tail, other.tail)
        return Estimate(self.value - other.value, self.draws - other.draws, self.label, paired, tail)

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.draws, self.label, tuple(-v for v in self.by_seed), self.tail)

    def centred(self, low: float = -np.inf, high: float = np.inf) -> Estimate:
        """Draws moved so that their mean is the value, kept within what the figure can be.

        Halves are smaller than the whole, and figures that grow or shrink with N would miss their own value.
        """
        moved = self.draws - self.draws.mean() + self.value
        return Estimate(self.value, moved.clip(low, high), self.label, self.by_seed, self.tail)


def _draw(
    groups: Int64[np.ndarray, n], strata: Int64[np.ndarray, n], times: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "b n"], int]:
    """Draw groups with replacement within each stratum; return how often each window is drawn, and the degrees of freedom.

    Of m groups m − 1 are drawn, each with weight m / (m − 1): so the mean varies as much as it should, where m of m would vary
    by (m − 1) / m of that (Rao & Wu 1988). Strata of one group, which would not vary at all, are drawn from together.
    """
    _, first, of_window = np.unique(groups, return_index=True, return_inverse=True)
    stratum_of = strata_of_blocks(strata[first])
    weights, freedom = np.zeros((times, len(groups))), 0
    for stratum in np.unique(stratum_of):
        inside = np.flatnonzero(stratum_of == stratum)
        count = len(inside)
        drawn = rng.multinomial(max(count - 1, 1), np.full(count, 1 / count), size=times)
        scaled = np.zeros((times, len(first)))
        scaled[:, inside] = drawn * (count / max(count - 1, 1))
        weights += scaled[:, of_window.reshape(-1)]
        freedom += count - 1
    return weights, freedom


def _half(blocks: Int64[np.ndarray, n], rng: np.random.Generator) -> NDArray[np.int64]:
    """Whole blocks in random order until half of the windows are in (the last block is cut)."""
    order = rng.permutation(int(blocks.max(initial=0)) + 1)[blocks]
    shuffled = np.lexsort((rng.random(len(blocks)), order))
    return np.sort(shuffled[: max(2, len(blocks) // 2)]).astype(np.int64)


def derange(
    centres_um_yx: Float64[np.ndarray, "n 2"],
    sections: Sequence[str],
    min_distance_um: float,
    rng: np.random.Generator,
) -> Int64[np.ndarray, n]:
    """A permutation that gives every window the condition of another, far enough away.

    Window i gets the condition of window ``index[i]``, at least ``min_distance_um`` away in the same
    section, or in another section. A random perfect matching of the graph of allowed pairs.

    Raises
    ------
    StainglassError
        When no such permutation exists.
    """
    n, section = len(centres_um_yx), codes(sections)
    allowed = np.empty((n, n), dtype=bool)
    for i in range(n):  # row by row, as thousands of windows would not fit into memory otherwise
        away = centres_um_yx[i] - centres_um_yx
        allowed[i] = (section[i] != section) | (np.hypot(away[:, 0], away[:, 1]) >= min_distance_um)
    np.fill_diagonal(allowed, False)
    # The matching takes the first free column of a row: shuffled rows and columns make it a random one.
    rows, columns = rng.permutation(n), rng.permutation(n)
    graph = csr_matrix(allowed[np.ix_(rows, columns)])
    matched = maximum_bipartite_matching(graph, perm_type="column") if n else np.zeros(0, np.int64)
    if n == 0 or (matched < 0).any():
        raise StainglassError(
            f"{n} windows of {', '.join(sorted(set(sections))) or 'no section'}",
            f"conditions cannot be exchanged among windows {min_distance_um:.0f} µm apart",
            "Lower derange_um, or give more windows or sections",
        )
    index = np.empty(n, np.int64)
    index[rows] = columns[matched]
    return index


def derange_as_far_as_possible(
    centres_um_yx: Float64[np.ndarray, "n 2"],
    sections: Sequence[str],
    min_distance_um: float,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, n], float]:
    """`derange`, halving the distance while the tissue is too small for it; returns the distance kept."""
    distance = min_distance_um
    for _ in range(6):
        try:
            return derange(centres_um_yx, sections, distance, rng), distance
        except StainglassError:
            distance /= 2
    return derange(centres_um_yx, sections, 0.0, rng), 0.0
