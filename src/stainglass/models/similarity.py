"""How alike two pictures are place by place: a score of painted windows, and what a decoder may be trained by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SIGMA, RADIUS = 1.5, 5


def structural_similarity(
    one: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h-10 w-10"]:
    """Structural similarity (Wang et al. 2004) round every place, colour by colour; 1 for equal pictures.

    Parameters
    ----------
    one, other
        In 0…1. The Gaussian window has σ = 1.5 px and 11 taps; places whose window leaves the picture are left out.
    """
    mean_a, mean_b = _blur(one), _blur(other)
    square_a, square_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    var_a, var_b = (_blur(one * one) - square_a).clamp_min(0), (_blur(other * other) - square_b).clamp_min(0)
    covariance = _blur(one * other) - product
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * product + c1) * (2 * covariance + c2)
    return similar / ((square_a + square_b + c1) * (var_a + var_b + c2))


def _blur(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h-10 w-10"]:
    """Gaussian mean round every place whose window lies inside, one axis after the other."""
    at = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-(at**2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).repeat(x.shape[1], 1, 1, 1)
    # cuDNN may round to ten bits (TF32), and variances are small differences.
    with torch.backends.cudnn.flags(enabled=False):
        across = F.conv2d(x, taps, groups=x.shape[1])
        return F.conv2d(across, taps.transpose(2, 3), groups=x.shape[1])
