"""Bootstrap draws of whole blocks of tissue, as spots next to each other are alike, and the interval they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

BLOCK_UM = 500.0
LEAST_BLOCKS = 8
TIMES = 200
TAIL = 0.025
"""Beyond either end of a 95 % interval."""


@dataclass(frozen=True)
class BlockDraws:
    """Draws of spots by blocks of tissue, shared by every figure of a study.

    Attributes
    ----------
    spots
        The spots of each draw (indices, with repeats).
    tail
        Share of draws beyond either end of a 95 % interval (`tail_of`).
    """

    spots: tuple[Int64[np.ndarray, m], ...]
    tail: float

    @classmethod
    def of(
        cls,
        centres_um_yx: Float64[np.ndarray, "n 2"],
        sections: Int64[np.ndarray, n],
        rng: np.random.Generator,
        times: int = TIMES,
        side_um: float = BLOCK_UM,
    ) -> BlockDraws:
        """Draw square blocks of tissue within each section.

        The side is halved until there are eight blocks, so that small tissue still gives an interval. Of m blocks m − 1 are
        drawn, as else few blocks would vary too little (Rao & Wu 1988); sections of one block are drawn from together.
        """
        for _ in range(8):
            cells = np.column_stack([sections, np.floor(centres_um_yx / side_um).astype(np.int64)])
            keys, block = np.unique(cells, axis=0, return_inverse=True)
            if len(keys) >= min(LEAST_BLOCKS, len(sections)):
                break
            side_um /= 2
        members = [np.flatnonzero(block.reshape(-1) == i) for i in range(len(keys))]
        strata = strata_of_blocks(keys[:, 0])
        by_stratum = [np.flatnonzero(strata == s) for s in np.unique(strata)]
        drawn = tuple(
            np.concatenate(
                [members[i] for blocks in by_stratum for i in rng.choice(blocks, max(len(blocks) - 1, 1))]
            )
            for _ in range(times)
        )
        return cls(drawn, tail_of(len(keys) - len(by_stratum)))

    def among(self, known: NDArray[np.bool_]) -> BlockDraws:
        """The same draws of some spots only; draws that hold none of them are left out."""
        kept = (at[known[at]] for at in self.spots)
        return BlockDraws(tuple(at for at in kept if len(at)), self.tail)

    def interval(self, statistic: Callable[[Int64[np.ndarray, m]], float]) -> tuple[float, float]:
        """95 % interval of a statistic of drawn spots; draws where it is not defined (NaN) are left out, NaN without any."""
        drawn = np.array([statistic(at) for at in self.spots], np.float64)
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            return float("nan"), float("nan")
        low, high = np.quantile(drawn, [self.tail, 1 - self.tail])
        return float(low), float(high)


def strata_of_blocks(sections: Int64[np.ndarray, b]) -> Int64[np.ndarray, b]:
    """The stratum each block is drawn in: its section, or, of sections of one block, all of these together.

    A single one of them joins the section with the fewest blocks, as alone it would never vary.
    """
    names, count = np.unique(sections, return_counts=True)
    lone, others = names[count == 1], names[count > 1]
    if not len(lone):
        return sections
    joined = lone[0] if len(lone) > 1 or not len(others) else others[np.argmin(count[count > 1])]
    return np.where(np.isin(sections, lone), joined, sections)


def tail_of(freedom: int) -> float:
    """Share of draws beyond either end of a 95 % interval: fewer than .025, as Student's t has it for few blocks
    (the expanded percentile interval, Hesterberg 2015).

    Parameters
    ----------
    freedom
        Degrees of freedom: how many blocks more than strata there are to draw from.
    """
    return float(norm.cdf(student.ppf(TAIL, freedom))) if freedom > 0 else TAIL
