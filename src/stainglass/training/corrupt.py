"""What training does to counts so that a model leans on no single gene, no single depth and no single section."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from stainglass.config import GeneEncoder
from stainglass.genes.normalise import COUNTS_PER

FAINT = 0.1
"""Counts per 10,000 below which a gene's mean says nothing."""
MOST_FOLD = 10.0
FARTHEST = 1.5


def corrupted(
    counts: Float32[np.ndarray, "s g"], genes: GeneEncoder, rng: np.random.Generator
) -> Float32[np.ndarray, "s g"]:
    """Binomial thinning (patients differ in depth 15-fold) and dropout of genes."""
    if genes.thinning > 0:
        kept = 1 - genes.thinning * rng.random((len(counts), 1))
        counts = rng.binomial(counts.astype(np.int64), kept).astype(np.float32)
    if genes.gene_dropout > 0:
        counts = counts * (rng.random(counts.shape[1]) >= genes.gene_dropout)
    return counts.astype(np.float32)


def section_mean(counts: Float32[np.ndarray, "s g"]) -> Float32[np.ndarray, g]:
    """Mean expression of a section's spots, in counts per 10,000."""
    whole = counts.sum(0, dtype=np.float64)
    return (whole / max(whole.sum(), 1.0) * COUNTS_PER).astype(np.float32)


def shifted(
    counts: Float32[np.ndarray, "s g"],
    own: Float32[np.ndarray, g],
    other: Float32[np.ndarray, g],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "s g"]:
    """Counts on the way from their section's mean expression to another's, or half as far beyond it at most.

    All spots of a window are moved alike, so what sets them apart within their section stays; what sets sections apart, of which
    handling and chemistry are a part, can no longer tell a model how a slide was stained or how thick it was cut.

    Parameters
    ----------
    own, other
        What `section_mean` finds.
    """
    fold = ((other + FAINT) / (own + FAINT)).clip(1 / MOST_FOLD, MOST_FOLD)
    return (counts * fold ** (FARTHEST * rng.random())).astype(np.float32)
