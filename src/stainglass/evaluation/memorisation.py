"""Does the generator paint, or does it hand out training windows?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from stainglass.evaluation.distances import euclidean

COPY_QUANTILE = 0.01
"""A copy is nearer to a training window than all but this share of real held-out windows."""


def nearest_training(
    features: NDArray[np.floating], training: NDArray[np.floating]
) -> tuple[Float64[np.ndarray, n], Int64[np.ndarray, n]]:
    """Distance to, and index of, the nearest training window in feature space ((n, d) and (m, d))."""
    distance = euclidean(features, training)
    at = distance.argmin(1)
    return distance[np.arange(len(at)), at], at.astype(np.int64)


def copy_threshold(real_nearest: Float64[np.ndarray, n]) -> float:
    """The distance below which a picture is called a copy, from real held-out windows' nearest distances."""
    return float(np.quantile(real_nearest, COPY_QUANTILE))
