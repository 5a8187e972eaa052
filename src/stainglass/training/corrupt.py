"""What training does to counts so that a model leans on no single gene and no single depth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from stainglass.config import GeneEncoder


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
