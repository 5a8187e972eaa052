"""Spots told less deeply than they were measured, each the same in every window that hears it."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from scipy.stats import binom

from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError

MOSTLY = 0.5
"""Share of a spot's genes above which parts of a count say that it is told expected counts."""


def thinned(conditions: Conditions, share: float, seed: int, depth: float | None = None) -> Conditions:
    """The same windows, each spot told with a share of its counts left out (binomial thinning).

    What training keeps telling a model less of (``genes.thinning``), it need not be told in full when it paints. A spot's draws
    are a function of the seed and its name alone: windows that share a spot hear the same of it, whatever batch they are in, and
    a gene told more strongly leaves what is drawn of the others as it is.

    With ``depth`` sections are brought to one depth, as Space Ranger's ``aggr`` does before it compares them: all spots of a
    section keep the same share.

    Parameters
    ----------
    share
        Left out of every spot; 0 leaves nothing out; below 1.
    seed
        Of the noise field.
    depth
        More is left out of a section whose spots have more counts in the median than this, so that they have as many; none is
        left out, for this, of shallower ones.

    Raises
    ------
    StainglassError
        When the share is none, or the depth of the sections is not known.
    """
    if depth is not None and not depth > 0:
        raise StainglassError("sampling.depth", f"{depth:g} is not possible", "Give counts a spot, above 0")
    if not 0 <= share < 1:
        raise StainglassError(
            "sampling.thinning", f"{share:g} is not possible", "Give a share from 0 to below 1"
        )
    kept = np.full(len(conditions), 1.0 - share)
    if depth is not None:
        depths = _depths(conditions)
        deeper = depths > depth
        kept[deeper] = np.minimum(kept[deeper], depth / depths[deeper])
    if (kept == 1).all():
        return conditions
    counts = conditions.counts.copy()
    for window, names, share_kept in zip(counts, conditions.barcodes, kept, strict=True):
        for slot, name in enumerate(names):
            window[slot] = _kept(window[slot], share_kept, [seed % 2**64, zlib.crc32(name.encode())])
    return replace(conditions, counts=counts)


def _depths(conditions: Conditions) -> Float32[np.ndarray, " n"]:
    if conditions.depths is None:
        raise StainglassError(
            "sampling.depth", "needs to know how deep the windows' sections are",
            "Take conditions from a cohort or an AnnData, or give their depths",
        )  # fmt: skip
    return conditions.depths


def _kept(counts: Float32[np.ndarray, g], share: float, seeds: list[int]) -> Float32[np.ndarray, g]:
    """Of whole counts the quantile of one draw a gene, so that more are never told as fewer; of parts of a count, the share.

    A spot most of whose counts have parts is told what is expected there, a section's mean for instance. It has no noise to begin
    with, and is given none: one draw would be the same at every spot, and another mean.
    """
    there = np.flatnonzero(counts)
    whole = np.floor(counts[there])
    if not len(there) or (whole != counts[there]).mean() > MOSTLY:
        return np.asarray(counts * share, dtype=np.float32)
    drawn = np.random.default_rng(seeds).random(len(counts))
    kept = np.zeros_like(counts)
    kept[there] = binom.ppf(drawn[there], whole, share) + (counts[there] - whole) * share
    return kept
