"""The adversary of few-step training: does this latent window look like tissue, and like tissue of these spots?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SQUARE = 2
"""Latents a side of the squares it looks at first: 16 px, about a nucleus."""


class Adversary(nn.Module):
    """Convolutional discriminator of noisy latents at three scales, with the condition by projection.

    It answers a field of logits a scale, so that every place is judged (Isola et al., pix2pix, 2017); the pooled vector of
    GeneCondNet takes part by its inner product with the features (Miyato & Koyama 2018); windows come noised, which keeps
    it from telling real from painted by what does not matter (Sauer et al., latent adversarial diffusion distillation,
    2024). Spectral norms bound its slope (Miyato et al. 2018).

    Parameters
    ----------
    latent_channels
        Channels of the latents.
    condition_width
        Width of the pooled vector.
    width
        Channels at the finest scale, doubled at the next.
    """

    def __init__(self, latent_channels: int, condition_width: int, width: int = 96) -> None:
        super().__init__()
        widths = (width, 2 * width, 2 * width)
        self.stem = _conv(latent_channels * SQUARE**2 + 1, width, 3)
        self.deeper = nn.ModuleList(
            nn.ModuleList([_conv(before, w, 4 if i else 3, 2 if i else 1), _conv(w, w, 3)])
            for i, (before, w) in enumerate(zip((width, *widths), widths))
        )
        self.logits = nn.ModuleList(_conv(w, 1, 1) for w in widths)
        self.heard = nn.ModuleList(spectral_norm(nn.Linear(condition_width, w, bias=False)) for w in widths)

    def forward(
        self, x: Float[Tensor, "b c h w"], level: Float[Tensor, b], pooled: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b n"]:
        """Logits of every place at every scale, positive for tissue; scales weigh alike in their mean.

        Parameters
        ----------
        x
            Latents at noise ``level`` 0…1.
        pooled
            What GeneCondNet says of the window's spots.
        """
        squares = F.pixel_unshuffle(x, SQUARE)
        told = level[:, None, None, None].to(x.dtype).expand(-1, 1, *squares.shape[2:])
        features = F.leaky_relu(self.stem(torch.cat([squares, told], 1)), 0.2)
        found = []
        for layers, logit, heard in zip(self.deeper, self.logits, self.heard):
            for layer in layers:  # type: ignore[attr-defined]
                features = F.leaky_relu(layer(features), 0.2)
            match = (features * heard(pooled)[:, :, None, None]).sum(1, keepdim=True) / features.shape[
                1
            ] ** 0.5
            found.append((logit(features) + match).flatten(1))
        finest = found[0].shape[1]
        return torch.cat([field.repeat_interleave(finest // field.shape[1], 1) for field in found], 1)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the while, gradients pass through to what is judged and do not reach the adversary's own weights."""
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=(kernel - 1) // 2))
