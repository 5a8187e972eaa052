"""What the middle of a denoiser is held to beside its answer: what a frozen network sees at the same place (REPA)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.models.denoiser import middle_of
from stainglass.models.features import EfficientNetLite0

FEATURES = 1280
HIDDEN = 256


class Represent(nn.Module):
    """1 − cosine between the denoiser's middle, through a small head, and EfficientNet-Lite0's maps of the clean picture.

    Yu et al. 2025 (REPA). The frozen network is neither trained nor saved, and judges no generator that was trained so.

    Parameters
    ----------
    denoiser
        Whose middle is listened to until `release`.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        middle, width = middle_of(denoiser)
        self.head = nn.Sequential(nn.Conv2d(width, HIDDEN, 1), nn.SiLU(), nn.Conv2d(HIDDEN, FEATURES, 1))
        self._frozen = [EfficientNetLite0()]  # in a list, so that it is not trained or saved with this module
        self._heard: list[Tensor] = []
        self._hook = middle.register_forward_hook(self._hear)

    def _hear(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._heard[:] = [output[0] if isinstance(output, tuple) else output]

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Tensor:
        """Of the pictures whose noisy latents the denoiser has just been given."""
        middle = self._heard.pop()
        if middle.ndim == 3:  # a transformer's tokens
            side = int(middle.shape[1] ** 0.5)
            middle = middle.movedim(1, -1).unflatten(-1, (side, side))
        found = self.head(middle)
        wanted = self._maps(pixels, middle.shape[-2:])
        return 1 - F.cosine_similarity(found.float(), wanted.float(), dim=1).mean()

    @torch.no_grad()
    def _maps(self, pixels: UInt8[Tensor, "b h w 3"], size: torch.Size) -> Float[Tensor, "b 1280 y x"]:
        frozen = self._frozen[0]
        frozen.network.to(pixels.device)
        maps = frozen.maps(pixels.movedim(-1, 1).float() / 255)
        return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)

    def release(self) -> None:
        """Stop listening."""
        self._hook.remove()
