"""Autoencoders: our own small one for H&E, and any that diffusers can load from a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.config import Autoencoder as AutoencoderSettings
from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.models.builtin import resolve_autoencoder
from stainglass.models.turns import Frequency
from stainglass.units import LATENT_STEP_PX


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), without normalisation.

    A norm over the whole image would make the encoding of a tile depend on what lies outside it, and a
    raster encoded in tiles would show seams.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(F.silu(self.first(F.silu(x))))


@dataclass
class Encoded:
    """What ``encode`` returns: ``latents`` (b, c, h/8, w/8), as `AutoencoderTiny` does."""

    latents: Tensor


OPPONENT_COLOURS = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)
"""Orthonormal colour axes: brightness, red against blue, magenta against green."""

FREQUENCIES: tuple[Frequency, ...] = (
    (0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 0, 2), (0, 2, 0),
    (0, 1, 2), (0, 2, 1), (0, 2, 2), (0, 0, 3), (0, 3, 0), (0, 1, 3), (0, 3, 1), (0, 3, 3),
)  # fmt: skip
"""Cosine coefficients of an 8 × 8 block, those that carry most of an H&E image's variance."""

_CLOSED = (1, 3, 5, 6, 8, 10, 11, 13, 15, 16)
"""Channel counts at which the table is closed under swapping rows and columns."""


def cosine_basis(
    frequencies: Sequence[Frequency], block_px: int = LATENT_STEP_PX
) -> Float[Tensor, "c 3 k k"]:
    """Orthonormal colour-times-cosine (DCT-II) basis pictures of a block."""
    at = (torch.arange(block_px, dtype=torch.float64) + 0.5) * math.pi / block_px
    waves = torch.stack(
        [torch.cos(at * f) * math.sqrt((1 if f == 0 else 2) / block_px) for f in range(block_px)]
    )
    colours = torch.tensor(OPPONENT_COLOURS, dtype=torch.float64)
    return torch.stack(
        [colours[c][:, None, None] * waves[u][:, None] * waves[v] for c, u, v in frequencies]
    ).float()


class TissueAutoencoder(ModelMixin, ConfigMixin):
    """Small convolutional autoencoder for H&E: 8 × down, no normalisation, no attention.

    The latent is the low cosine coefficients of each 8 × 8 block plus what a small network adds, and the
    picture is their inverse plus what a second network adds: residual autoencoding (Chen et al., DC-AE,
    2024) with a cosine transform in the shortcut. It therefore starts at the quality of the transform
    (32 dB on breast H&E at 0.73 µm/px) rather than at noise, and a flip or turn of the picture acts on
    the latent as a known change of sign and order of channels (`turns.channel_action`); training holds
    the two networks to it (as EQ-VAE, Kouzelis et al. 2025, does for the trivial action), so flips and
    turns can be done on a cached latent raster.

    A pixel-unshuffle stem keeps all work at 1/4 and 1/8 of the resolution.

    Parameters
    ----------
    latent_channels
        Channels of the latent: one of 1, 3, 5, 6, 8, 10, 11, 13, 15, 16.
    widths
        Channels at 1/4 and at 1/8 of the resolution.
    blocks
        Residual blocks at 1/4 and at 1/8.
    decoder_widths, decoder_blocks
        The same of the decoder; by default it is the encoder's mirror.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        widths: Sequence[int] = (64, 128),
        blocks: Sequence[int] = (1, 2),
        decoder_widths: Sequence[int] | None = None,
        decoder_blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if latent_channels not in _CLOSED:
            raise StainglassError(
                "autoencoder.latent_channels",
                f"{latent_channels} is not possible",
                f"Choose one of {_CLOSED}",
            )
        self.frequencies: tuple[Frequency, ...] | None = FREQUENCIES[:latent_channels]
        self.register_buffer("basis", cosine_basis(FREQUENCIES[:latent_channels]), persistent=False)
        quarter, eighth = widths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, quarter, 3, padding=1),
            *(ResidualBlock(quarter) for _ in range(blocks[0])),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * quarter, eighth, 1),
            *(ResidualBlock(eighth) for _ in range(blocks[1])),
            _silent(nn.Conv2d(eighth, latent_channels, 1)),
        )
        self.decoder = _decoder(latent_channels, decoder_widths or widths, decoder_blocks or blocks)

    @property
    def halo_px(self) -> int:
        """Farthest a pixel reaches in the encoder: a tile encoded with this margin equals the whole's encoding."""
        at_quarter, at_eighth = 1 + 2 * self.config.blocks[0], 2 * self.config.blocks[1]
        return -(-(4 * at_quarter + 8 * at_eighth) // LATENT_STEP_PX) * LATENT_STEP_PX

    def with_decoder(self, widths: Sequence[int], blocks: Sequence[int]) -> TissueAutoencoder:
        """The same encoder with a fresh decoder of another shape."""
        own = self.config
        other = TissueAutoencoder(own.latent_channels, own.widths, own.blocks, tuple(widths), tuple(blocks))
        other.encoder.load_state_dict(self.encoder.state_dict())
        return other

    def encode(self, pixels: Float[Tensor, "b 3 h w"], return_dict: bool = True) -> Any:
        """Pixels in −1…1 → latents (b, c, h/8, w/8); h and w must be multiples of 8."""
        latents = F.conv2d(pixels, self.basis.to(pixels.dtype), stride=LATENT_STEP_PX) + self.encoder(pixels)
        return Encoded(latents) if return_dict else (latents,)

    def decode(self, latents: Float[Tensor, "b c h w"], return_dict: bool = True) -> Any:
        """Latents → pixels, about −1…1 (not clipped)."""
        basis = self.basis.to(latents.dtype)
        pixels = F.conv_transpose2d(latents, basis, stride=LATENT_STEP_PX) + self.decoder(latents)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


def make_autoencoder(settings: AutoencoderSettings) -> TissueAutoencoder:
    """Build the network that a recipe asks for, with fresh weights."""
    return TissueAutoencoder(
        settings.latent_channels, settings.widths, settings.blocks,
        settings.decoder_widths, settings.decoder_blocks,
    )  # fmt: skip


def _decoder(latent_channels: int, widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    quarter, eighth = widths
    return nn.Sequential(
        nn.Conv2d(latent_channels, eighth, 3, padding=1),
        *(ResidualBlock(eighth) for _ in range(blocks[1])),
        nn.Conv2d(eighth, 4 * quarter, 1),
        nn.PixelShuffle(2),
        *(ResidualBlock(quarter) for _ in range(blocks[0])),
        _silent(nn.Conv2d(quarter, 48, 3, padding=1)),
        nn.PixelShuffle(4),
    )


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Start at zero, so that the shortcut alone speaks."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def load_autoencoder(folder: str | Path) -> Any:
    """Load our own or any diffusers autoencoder from a folder (``config.json``, safetensors), or that of ``builtin:NAME``.

    Returns
    -------
    A module with ``encode`` and ``decode`` as in diffusers, in evaluation mode, float32.

    Raises
    ------
    StainglassError
        When the folder is not an autoencoder, or not one with 8 × 8 px a latent.
    """
    import diffusers

    path = resolve_autoencoder(folder)
    name = str(read_json(path / "config.json", "autoencoder").get("_class_name", ""))
    kind = TissueAutoencoder if name == TissueAutoencoder.__name__ else getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "encode"):
        raise StainglassError(
            path,
            f"{name or 'this'} is not an autoencoder that diffusers knows",
            "Give a folder of AutoencoderKL, AutoencoderTiny or TissueAutoencoder",
        )
    try:
        model = kind.from_pretrained(path, use_safetensors=True, torch_dtype=torch.float32)
    except OSError as error:
        raise StainglassError(
            path, f"cannot be loaded ({_first_line(error)})", "Give a folder with safetensors weights"
        ) from None
    model.eval().requires_grad_(False)
    if not torch.cuda.is_available():
        model.to(
            memory_format=torch.channels_last
        )  # convolutions at full resolution: a quarter to a half faster on CPUs
    side = 8 * LATENT_STEP_PX
    latents = encode_pixels(model, torch.zeros(1, 3, side, side))
    if latents.shape[-1] != side // LATENT_STEP_PX:
        raise StainglassError(
            path,
            f"one latent covers {side // latents.shape[-1]} px, not {LATENT_STEP_PX}",
            "Use an autoencoder of 8 × down",
        )
    return model


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def encode_pixels(autoencoder: Any, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h/8 w/8"]:
    """Latents of pixels in −1…1, whatever the autoencoder calls them (the mean, where it gives a distribution)."""
    encoded = autoencoder.encode(pixels.to(autoencoder.dtype))
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return latents.to(pixels.dtype)


def decode_latents(autoencoder: Any, latents: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b h*8 w*8 3"]:
    """Pixels as bytes, channels last.

    Raises
    ------
    FloatingPointError
        When the decoder gives a value that is not finite (half precision overflow).
    """
    pixels = autoencoder.decode(latents.to(autoencoder.dtype)).sample.float()
    if not torch.isfinite(pixels).all():
        raise FloatingPointError("the autoencoder decoded a value that is not finite; use full precision")
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1)


def pixels_to_input(pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Bytes, channels last → −1…1, channels first."""
    return pixels.movedim(-1, 1).float() / 127.5 - 1
