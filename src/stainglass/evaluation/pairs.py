"""Scores of a picture beside the real window it should resemble.

None of them means much alone: a flat colour scores a higher SSIM than a random real window. They are read
beside the same score under shuffled conditions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stainglass.evaluation.lpips import Lpips
from stainglass.models.features import to_unit

SIGMA, RADIUS = 1.5, 5
BATCH = 16


def ssim(one: UInt8[np.ndarray, "n h w 3"], other: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, n]:
    """Structural similarity (Wang et al. 2004) of each pair, mean over colours; 1 for equal pictures.

    Gaussian window of σ = 1.5 px and 11 taps; positions whose window leaves the picture are left out.
    """
    found = []
    with torch.inference_mode():
        for start in range(0, len(one), BATCH):
            a, b = to_unit(one[start : start + BATCH]), to_unit(other[start : start + BATCH])
            found.append(_ssim_map(a, b).mean((1, 2, 3)).double().numpy())
    return np.concatenate(found)


def _ssim_map(a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 y x"]:
    mean_a, mean_b = _blur(a), _blur(b)
    square_a, square_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    var_a, var_b, covariance = _blur(a * a) - square_a, _blur(b * b) - square_b, _blur(a * b) - product
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * product + c1) * (2 * covariance + c2)
    return similar / ((square_a + square_b + c1) * (var_a + var_b + c2))


def _blur(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 y x"]:
    """Gaussian mean round every position whose window lies inside, one axis after the other."""
    at = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype)
    taps = torch.exp(-(at**2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).repeat(x.shape[1], 1, 1, 1)
    across = F.conv2d(x, taps, groups=x.shape[1])
    return F.conv2d(across, taps.transpose(2, 3), groups=x.shape[1])


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
