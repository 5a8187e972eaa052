"""The one normalisation of counts used everywhere: log1p of counts per 10,000."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

COUNTS_PER = 10_000.0


def log_normalised(counts: Float32[np.ndarray, "n g"]) -> Float32[np.ndarray, "n g"]:
    """log1p of counts per 10,000 a row; a row without counts stays zero."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1e-6)
    return np.asarray(np.log1p(counts / total * COUNTS_PER), dtype=np.float32)
