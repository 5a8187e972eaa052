"""Bootstrap draws of whole blocks of tissue, as spots next to each other are alike, and the interval they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        """Draw square blocks of tissue (`spatial_blocks`) within each section.

        Of m blocks m − 1 are drawn, as else few blocks would vary too little (Rao & Wu 1988); sections of one block are drawn
        from together.
        """
        block, _ = spatial_blocks(centres_um_yx, sections, side_um)
        _, first = np.unique(block, return_index=True)
        members = [np.flatnonzero(block == i) for i in range(len(first))]
        strata = strata_of_blocks(sections[first])
        by_stratum = [np.flatnonzero(strata == s) for s in np.unique(strata)]
        drawn = tuple(
            np.concatenate(
                [members[i] for blocks in by_stratum for i in rng.choice(blocks, max(len(blocks) - 1, 1))]
            )
            for _ in range(times)
        )
        return cls(drawn, tail_of(len(first) - len(by_stratum)))

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


def codes(names: Sequence[str] | Int64[np.ndarray, n]) -> Int64[np.ndarray, n]:
    """Integers 0…K-1 for names, equal for equal names."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def spatial_blocks(
    centres_um_yx: Float64[np.ndarray, "n 2"],
    sections: Sequence[str] | Int64[np.ndarray, n],
    block_um: float,
) -> tuple[Int64[np.ndarray, n], float]:
    """Number the square blocks of tissue in which places lie.

    Returns
    -------
    blocks
        Block of each place; blocks of different sections differ.
    side_um
        The side used: halved from ``block_um`` until there are eight blocks, so that small tissue still
        gives an interval.
    """
    side = block_um
    for _ in range(8):
        cells = np.floor(centres_um_yx / side).astype(np.int64)
        keys = np.column_stack([codes(sections), cells])
        _, blocks = np.unique(keys, axis=0, return_inverse=True)
        if blocks.max(initial=0) + 1 >= min(LEAST_BLOCKS, len(centres_um_yx)):
            break
        side /= 2
    return blocks.reshape(-1).astype(np.int64), side


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
