"""Spots told less deeply than they were measured, each the same in every window that hears it."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from scipy.stats import binom

from stainglass.cohort.windows import Conditions


def thinned(conditions: Conditions, share: float, seed: int) -> Conditions:
    """The same windows, each spot told with this share of its counts left out (binomial thinning).

    What training keeps telling a model less of (``genes.thinning``), it need not be told in full when it paints. A spot's draws
    are a function of the seed and its name alone: windows that share a spot hear the same of it, whatever batch they are in, and
    a gene told more strongly leaves what is drawn of the others as it is.

    Parameters
    ----------
    share
        0 leaves everything; below 1.
    seed
        Of the noise field.
    """
    if share == 0:
        return conditions
    counts = conditions.counts.copy()
    for i, names in enumerate(conditions.barcodes):
        for slot, name in zip(np.flatnonzero(conditions.present[i]), names, strict=True):
            counts[i, slot] = _kept(counts[i, slot], 1 - share, [seed, zlib.crc32(name.encode())])
    return replace(conditions, counts=counts)


def _kept(counts: Float32[np.ndarray, g], share: float, seeds: list[int]) -> Float32[np.ndarray, g]:
    """Of each gene the quantile of one draw, so that more counts are never told as fewer; parts of a count, in proportion."""
    drawn = np.random.default_rng(seeds).random(len(counts))
    there = np.flatnonzero(counts)
    whole = np.floor(counts[there])
    kept = np.zeros_like(counts)
    kept[there] = binom.ppf(drawn[there], whole, share) + (counts[there] - whole) * share
    return kept
