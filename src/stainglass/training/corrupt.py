"""What training does to counts so that a model leans on no single gene, no single depth and no single section."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from stainglass.config import GeneEncoder
from stainglass.genes.normalise import COUNTS_PER

FAINT = 0.1
"""Added to a gene's mean, in counts per 10,000, so that one that is hardly seen is hardly moved."""
MOST_FOLD = 10.0
"""Between two sections' means of a gene."""
FARTHEST = 1.5
"""How far towards another section expression is moved at most; to just there, sections could still be told apart."""


def corrupted(
    counts: Float32[np.ndarray, "s g"], genes: GeneEncoder, rng: np.random.Generator
) -> Float32[np.ndarray, "s g"]:
    """Binomial thinning (patients differ in depth 15-fold) and dropout of genes."""
    if genes.thinning > 0:
        kept = 1 - genes.thinning * rng.random((len(counts), 1))
        # Of parts of a count, such as a section's mean has, the share is kept.
        whole = counts.astype(np.int64)
        counts = (rng.binomial(whole, kept) + (counts - whole) * kept).astype(np.float32)
    if genes.gene_dropout > 0:
        counts = counts * (rng.random(counts.shape[1]) >= genes.gene_dropout)
    return counts.astype(np.float32)


@dataclass(frozen=True)
class SectionMean:
    """Mean counts of a section's spots, and which genes were measured there."""

    counts: Float32[np.ndarray, g]
    measured: Bool[np.ndarray, g]

    def fold_to(self, other: SectionMean) -> Float32[np.ndarray, g]:
        """By how much more of each gene there is in another section; 1 for genes that were not measured in both."""
        both = self.measured & other.measured
        own, its = (
            mean.counts[both] / max(float(mean.counts[both].sum()), 1e-9) * COUNTS_PER
            for mean in (self, other)
        )
        fold = np.ones(len(both), np.float32)
        fold[both] = ((its + FAINT) / (own + FAINT)).clip(1 / MOST_FOLD, MOST_FOLD)
        return fold


def moved(
    counts: Float32[np.ndarray, "s g"], own: SectionMean, other: SectionMean, rng: np.random.Generator
) -> Float32[np.ndarray, "s g"]:
    """Counts on the way from their section's mean expression to another's, or half as far beyond it at most.

    Sections' depth is left out of it (means are compared in shares), though a spot's own sum changes by up to a fifth or so.
    All spots of a window are moved alike, so what sets them apart within their section stays; what sets sections apart, of which
    handling and chemistry are a part, tells a model less of how a slide was stained or how thick it was cut.
    """
    return (counts * own.fold_to(other) ** (FARTHEST * rng.random())).astype(np.float32)
