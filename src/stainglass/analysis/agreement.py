"""Do two ways to divide the same spots agree? ARI, Dice and kappa, each with an interval and beside its chance level.

Spots next to each other are alike, so intervals draw blocks of tissue, not spots; and what two maps of blobs share
by chance is measured by moving one of them along the section, not by shuffling its spots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from stainglass.analysis.block_draws import BlockDraws

MOVES = 20
Statistic = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


@dataclass(frozen=True)
class Interval:
    """A figure, its 95 % interval over blocks of tissue, and what it is by chance; NaN where it is not defined."""

    value: float
    low: float
    high: float
    chance: float

    def record(self) -> dict[str, float | None]:
        """As JSON has it: undefined is null."""
        return {key: None if np.isnan(v) else round(float(v), 6) for key, v in self.__dict__.items()}


def rand_index(a: Int64[np.ndarray, n], b: Int64[np.ndarray, n]) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985) over spots that both sides gave a group (not negative)."""
    both = (a >= 0) & (b >= 0)
    return float(adjusted_rand_score(a[both], b[both])) if both.sum() > 1 else float("nan")


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice's coefficient (1945) of two sets; NaN when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def mean_dice(a: Int64[np.ndarray, n], b: Int64[np.ndarray, n]) -> float:
    """Mean of the Dice of every group that either side has."""
    groups = np.union1d(a[a >= 0], b[b >= 0])
    return float(np.mean([dice(a == g, b == g) for g in groups])) if len(groups) else float("nan")


def matched_dice(a: Int64[np.ndarray, n], b: Int64[np.ndarray, n]) -> float:
    """Dice of every component (from 1) with the one it overlaps most, weighed by size, mean of both directions."""
    return float(np.mean([_best_dice(a, b), _best_dice(b, a)]))


def _best_dice(a: Int64[np.ndarray, n], b: Int64[np.ndarray, n]) -> float:
    names, sizes = np.unique(a[a > 0], return_counts=True)
    if not len(names):
        return float("nan")
    best = []
    for name in names:
        inside = b[(a == name) & (b > 0)]
        other = np.bincount(inside).argmax() if len(inside) else -1
        best.append(dice(a == name, b == other) if len(inside) else 0.0)
    return float(np.average(best, weights=sizes))


def kappa(a: Int64[np.ndarray, n], b: Int64[np.ndarray, n]) -> float:
    """Cohen's kappa (1960) over spots with a group on both sides."""
    both = (a >= 0) & (b >= 0)
    x, y = a[both], b[both]
    if not len(x):
        return float("nan")
    groups = np.union1d(x, y)
    expected = sum(float((x == g).mean() * (y == g).mean()) for g in groups)
    return float(((x == y).mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def moved(
    centres_um_yx: Float64[np.ndarray, "n 2"], sections: Int64[np.ndarray, n], moves: int = MOVES
) -> list[Int64[np.ndarray, n]]:
    """Permutations that give every spot one at least a quarter of its section farther on, row by row.

    A map keeps its blobs when it is moved so; it only loses its place. A section of one spot keeps it. In which order spots
    are handed over makes no difference.
    """
    found, n = [], len(sections)
    row_by_row = np.lexsort((centres_um_yx[:, 1], centres_um_yx[:, 0]))
    for share in np.linspace(0.25, 0.75, moves):
        at = np.arange(n)
        for section in np.unique(sections):
            inside = row_by_row[sections[row_by_row] == section]
            step = min(max(1, round(share * len(inside))), max(len(inside) - 1, 0))
            at[inside] = np.roll(inside, -step)
        found.append(at)
    return found


def compared(
    a: Int64[np.ndarray, n],
    b: Int64[np.ndarray, n],
    statistic: Statistic,
    draws: BlockDraws,
    moves: Sequence[Int64[np.ndarray, n]],
) -> Interval:
    """A statistic of two groupings, its interval and its chance level."""
    low, high = draws.interval(lambda at: statistic(a[at], b[at]))
    chance = np.array([statistic(a, b[at]) for at in moves])
    return Interval(statistic(a, b), low, high, _mean(chance))


def _mean(values: Float64[np.ndarray, b]) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if len(finite) else float("nan")
