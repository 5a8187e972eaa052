"""KID, precision, recall, density and coverage of large clouds in one pass over pairs of blocks.

The dense way (`distances.Kernels`, `distances.Neighbourhoods`) keeps matrices of N × N numbers; here nothing larger than a
block × block is kept, beside k distances a row and one number a row and resample. Every pair of blocks is read and
multiplied once, and its one Gram matrix gives kernel and distances alike. The pairs come in this order: within the real
cloud, within the generated cloud, and only then across, because a ball has to be known before one can ask what lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from stainglass.evaluation.clouds import BLOCK, Cloud, slices
from stainglass.evaluation.distances import CLOSED, NEIGHBOURS, Overlap

Halves = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Rows of the real and of the generated cloud, a pair a resample."""


@dataclass(frozen=True)
class Compared:
    """What one pass finds.

    Attributes
    ----------
    kid
        Kernel distance of the whole clouds.
    kid_of_halves
        (B,) of each pair of halves.
    overlap
        Precision, recall, density and coverage of the whole clouds.
    """

    kid: float
    kid_of_halves: Float64[np.ndarray, b]
    overlap: Overlap


def compare(
    real: Cloud, generated: Cloud, halves: Halves = (), k: int = NEIGHBOURS, block: int = BLOCK
) -> Compared:
    """Compare two clouds (n, d) and (m, d) in memory that grows with ``block``, not with n × m.

    Raises
    ------
    ValueError
        When there are too few rows for balls to the k-th neighbour.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(f"balls to the {k}th neighbour need more than {k} windows on each side")
    chosen = _weights([i for i, _ in halves], len(real)), _weights([j for _, j in halves], len(generated))
    within_real, real_radius = _within(real, chosen[0], k, block)
    within_generated, generated_radius = _within(generated, chosen[1], k, block)
    across, overlap = _across(real, generated, chosen, (real_radius, generated_radius), k, block)
    n, m = chosen[0].sum(1), chosen[1].sum(1)
    kid = within_real / (n * (n - 1)) + within_generated / (m * (m - 1)) - 2 * across / (n * m)
    return Compared(float(kid[0]), kid[1:], overlap)


def _weights(halves: Sequence[NDArray[np.int64]], n: int) -> Float64[np.ndarray, "1+b n"]:
    """1 where a row takes part: everywhere in the first line, then in each half."""
    found = np.zeros((1 + len(halves), n))
    found[0] = 1
    for line, half in zip(found[1:], halves, strict=True):
        line[half] = 1
    return found


def _gram(
    x: Float64[np.ndarray, "a d"], y: Float64[np.ndarray, "b d"]
) -> tuple[Float64[np.ndarray, "a b"], Float64[np.ndarray, "a b"]]:
    """Kernels and Euclidean distances of two blocks, of one product."""
    product = x @ y.T
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * product
    return (product / x.shape[1] + 1) ** 3, np.sqrt(squared.clip(0))


def _within(
    cloud: Cloud, chosen: Float64[np.ndarray, "w n"], k: int, block: int
) -> tuple[Float64[np.ndarray, w], Float64[np.ndarray, n]]:
    """Sums of kernels between different rows, by resample, and each row's distance to its k-th neighbour."""
    sums, near = np.zeros(len(chosen)), np.full((len(cloud), k), np.inf)
    for at in slices(len(cloud), block):
        x = cloud.block(at)
        for other in slices(at.stop, block):  # the pair (other, at) was seen as (at, other)
            same = other.start == at.start
            kernel, distance = _gram(x, x if same else cloud.block(other))
            if same:
                np.fill_diagonal(kernel, 0)
                np.fill_diagonal(distance, np.inf)
            else:
                near[other] = _nearest(near[other], distance.T)
            near[at] = _nearest(near[at], distance)
            sums += (1 if same else 2) * _weighed(kernel, chosen[:, at], chosen[:, other])
    return sums, near.max(1) * CLOSED


def _nearest(
    near: Float64[np.ndarray, "a k"], more: Float64[np.ndarray, "a b"]
) -> Float64[np.ndarray, "a k"]:
    """The k smallest of those known and of more."""
    k = near.shape[1]
    return np.partition(np.concatenate([near, more], axis=1), k - 1, axis=1)[:, :k]


def _weighed(
    kernel: Float64[np.ndarray, "a b"], i: Float64[np.ndarray, "w a"], j: Float64[np.ndarray, "w b"]
) -> Float64[np.ndarray, w]:
    """Sum of the kernel over the rows and columns of each resample."""
    return np.asarray(((i @ kernel) * j).sum(1))


def _across(
    real: Cloud,
    generated: Cloud,
    chosen: tuple[Float64[np.ndarray, "w n"], Float64[np.ndarray, "w m"]],
    radius: tuple[Float64[np.ndarray, n], Float64[np.ndarray, m]],
    k: int,
    block: int,
) -> tuple[Float64[np.ndarray, w], Overlap]:
    """Sums of kernels between the clouds, and what lies in whose balls."""
    sums, inside_count = np.zeros(len(chosen[0])), 0
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    nearest = np.full(len(real), np.inf)
    for at in slices(len(real), block):
        x = real.block(at)
        for other in slices(len(generated), block):
            kernel, distance = _gram(x, generated.block(other))
            sums += _weighed(kernel, chosen[0][:, at], chosen[1][:, other])
            inside = distance <= radius[0][at, None]
            inside_count += int(inside.sum())
            precise[other] |= inside.any(0)
            recalled[at] |= (distance <= radius[1][None, other]).any(1)
            nearest[at] = np.minimum(nearest[at], distance.min(1))
    return sums, Overlap(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=inside_count / (k * len(generated)),
        coverage=float((nearest <= radius[0]).mean()),
    )
