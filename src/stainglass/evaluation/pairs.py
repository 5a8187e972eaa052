"""Scores of a picture beside the real window it should resemble.

None of them means much alone: a flat colour scores a higher SSIM than a random real window. They are read
beside the same score under shuffled conditions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from stainglass.evaluation.lpips import Lpips
from stainglass.models.features import to_unit
from stainglass.models.similarity import structural_similarity

BATCH = 16


def ssim(one: UInt8[np.ndarray, "n h w 3"], other: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, n]:
    """Mean structural similarity (Wang et al. 2004) of each pair; 1 for equal pictures."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(one), BATCH):
            a, b = to_unit(one[start : start + BATCH]), to_unit(other[start : start + BATCH])
            found.append(structural_similarity(a, b).mean((1, 2, 3)).double().numpy())
    return np.concatenate(found)


def lpips(
    network: Lpips, one: UInt8[np.ndarray, "n h w 3"], other: UInt8[np.ndarray, "n h w 3"]
) -> Float64[np.ndarray, n]:
    """LPIPS of each pair."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(one), BATCH):
            a, b = (to_unit(pixels[start : start + BATCH]) * 2 - 1 for pixels in (one, other))
            found.append(network(a, b).double().numpy())
    return np.concatenate(found)


def cosine(
    one: NDArray[np.floating], other: NDArray[np.floating], origin: NDArray[np.floating]
) -> Float64[np.ndarray, n]:
    """Cosine of each pair of features (n, d), seen from ``origin`` (d,).

    The origin is the mean of real training tissue: from zero, any two pictures of tissue look alike.
    """
    a, b = np.asarray(one, np.float64) - origin, np.asarray(other, np.float64) - origin
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(lengths > 0, lengths, 1)
