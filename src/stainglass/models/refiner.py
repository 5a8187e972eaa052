"""Detail that latents do not tell, drawn: the last step from a decoded picture to one that looks like a scan."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.models.residual import ResidualBlock

BLOCK_PX = 4
"""Side of the blocks that it works on."""
NOISE = 16
"""Random numbers a block: one a pixel."""
STEEP = 4000.0
"""Radians that the noise turns by as a picture goes from middle grey to white: a grey level is some thirty."""


class Refiner(nn.Module):
    """Picture and noise → the picture with fine detail added, by residual blocks at a quarter of the resolution.

    A decoder that answers what it cannot know by its mean blurs, and one that answers by one guess repeats it everywhere. This
    one draws (as the noise inputs of StyleGAN do, Karras et al. 2019), so it can be taught by a proper score to be as varied as
    tissue (`stainglass.training.refine`).

    Its noise is a hash of the decoded picture itself: sines of steep random sums of each block's pixels. So the same latents
    give the same picture, wherever a tile begins, and whoever decodes needs to know nothing of it.

    Parameters
    ----------
    width
        Channels.
    blocks
        Residual blocks; each looks two blocks of pixels farther.
    """

    mix: Tensor

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        pixels = 3 * BLOCK_PX**2
        self.first = nn.Conv2d(pixels + NOISE, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.last = nn.Conv2d(width, pixels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mix", torch.randn(NOISE, pixels, 1, 1, generator=generator) / pixels**0.5)

    def forward(
        self, picture: Float[Tensor, "b 3 h w"], phase: Float[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """The refined picture.

        Parameters
        ----------
        picture
            Decoded, in −1…1; h and w multiples of 4.
        phase
            Of the noise, 0…2π for each picture and each of its 16 channels: another draw. None: all zero.
        """
        blocks = F.pixel_unshuffle(picture, BLOCK_PX)
        noise = self.noise(blocks.detach(), phase).to(blocks)
        drawn: Any = self.last(self.body(self.first(torch.cat([blocks, noise], 1))))
        return picture + F.pixel_shuffle(drawn, BLOCK_PX)

    def noise(
        self, blocks: Float[Tensor, "b p y x"], phase: Float[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n y x"]:
        """Numbers of mean zero and deviation one, which neighbouring blocks do not share."""
        with torch.autocast(blocks.device.type, enabled=False):
            turned = F.conv2d(STEEP * blocks.float(), self.mix.float())
            if phase is not None:
                turned = turned + phase[..., None, None]
            return math.sqrt(2) * torch.sin(turned)
