"""What a frozen tiny autoencoder sees of a picture's texture: how much each of its filters answers, and how unevenly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.errors import StainglassError
from stainglass.models.autoencoder import load_autoencoder

CELLS = 4
"""A picture is also looked at in so many cells a side."""
FAINT = 1e-6


@dataclass(frozen=True)
class Seen:
    """Of a batch of pictures."""

    whole: Float[Tensor, "b d"]
    cells: Float[Tensor, "b k d"]


class Eyes(nn.Module):
    """Mean and deviation of every channel after every block of the encoder, over the picture and over each of its cells.

    Textures are told by such statistics of filters (Portilla & Simoncelli 2000; of a network's, Gatys et al. 2015). The tiny
    autoencoders of Stable Diffusion's family (5 MB) were taught pictures of all kinds to the pixel, so they see detail that
    networks taught to name objects pass over.

    Parameters
    ----------
    autoencoder
        Whose encoder looks; frozen.
    """

    def __init__(self, autoencoder: AutoencoderTiny) -> None:
        super().__init__()
        self.layers = autoencoder.encoder.layers.float().requires_grad_(False)

    @classmethod
    def load(cls, folder: str | Path) -> Eyes:
        """From a folder of diffusers' ``AutoencoderTiny``.

        Raises
        ------
        StainglassError
            When it is another autoencoder.
        """
        found = load_autoencoder(folder)
        if not isinstance(found, AutoencoderTiny):
            raise StainglassError(
                folder, f"is a {type(found).__name__}, whose layers are no eyes for texture",
                "Give a folder of diffusers' AutoencoderTiny, for instance taesd3",
            )  # fmt: skip
        return cls(found)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Seen:
        """Of pictures in −1…1 whose sides are multiples of 32."""
        wholes, cells = [], []
        x = pixels.contiguous(memory_format=torch.channels_last).add(1).div(2)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if isinstance(layer, nn.Conv2d) and i + 1 < len(self.layers):
                continue  # what only leads to the next block
            mean, squares = (F.adaptive_avg_pool2d(part, CELLS) for part in (x.float(), x.float().square()))
            cells += [mean, _deviation(mean, squares)]
            mean, squares = mean.mean((2, 3)), squares.mean((2, 3))
            wholes += [mean, _deviation(mean, squares)]
        return Seen(torch.cat(wholes, 1), torch.cat(cells, 1).flatten(2).movedim(1, 2))


def _deviation(mean: Tensor, squares: Tensor) -> Tensor:
    return ((squares - mean.square()).clamp_min(0) + FAINT).sqrt()
