"""Spots told less deeply than they were measured, each the same in every window that hears it."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from scipy.stats import binom

from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError


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

    Raises
    ------
    StainglassError
        When the share is none.
    """
    if not 0 <= share < 1:
        raise StainglassError(
            "sampling.thinning", f"{share:g} is not possible", "Give a share from 0 to below 1"
        )
    if share == 0:
        return conditions
    counts = conditions.counts.copy()
    for window, names in zip(counts, conditions.barcodes):
        for slot, name in enumerate(names):
            window[slot] = _kept(window[slot], 1 - share, [seed % 2**64, zlib.crc32(name.encode())])
    return replace(conditions, counts=counts)


def _kept(counts: Float32[np.ndarray, g], share: float, seeds: list[int]) -> Float32[np.ndarray, g]:
    """Of whole counts the quantile of one draw a gene, so that more are never told as fewer; of parts of a count, the share."""
    drawn = np.random.default_rng(seeds).random(len(counts))
    there = np.flatnonzero(counts)
    whole = np.floor(counts[there])
    kept = np.zeros_like(counts)
    kept[there] = binom.ppf(drawn[there], whole, share) + (counts[there] - whole) * share
    return kept
