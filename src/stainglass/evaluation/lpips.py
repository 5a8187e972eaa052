"""LPIPS with AlexNet (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stainglass.errors import StainglassError

CHANNELS = (64, 192, 384, 256, 256)
"""Channels of the five taps."""

# LPIPS expects pictures in −1…1 and moves them to ImageNet's mean and deviation itself.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class AlexTrunk(nn.Module):
    """AlexNet's convolutions, tapped behind each of its five ReLUs; weights named ``features.<index>``."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None], persistent=False)

    @classmethod
    def load(cls, path: Path) -> AlexTrunk:
        """From LPIPS weights (safetensors)."""
        trunk = cls()
        state = read_weights(path)
        _load(trunk, {key: value for key, value in state.items() if key.startswith("features.")}, path)
        return trunk

    def forward(self, rgb: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c y x"]]:
        """The five taps of pictures in −1…1, at least 63 px wide."""
        x, taps = (rgb - self.shift) / self.scale, []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                taps.append(x)
        return taps


class Lpips(nn.Module):
    """Perceptual distance of two pictures: learned weights on squared differences of normalised taps.

    Parameters
    ----------
    path
        Safetensors with ``features.*`` and ``lin0 … lin4.model.1.weight``.
    """

    name = "LPIPS-AlexNet"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.trunk = AlexTrunk.load(path)
        state = read_weights(path)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in CHANNELS)
        lin = {
            f"{i}.weight": state[f"lin{i}.model.1.weight"]
            for i in range(len(CHANNELS))
            if f"lin{i}.model.1.weight" in state
        }
        _load(self.heads, lin, path)

    def forward(self, one: Float[Tensor, "n 3 h w"], other: Float[Tensor, "n 3 h w"]) -> Float[Tensor, n]:
        """Distance of each pair of pictures in −1…1; 0 for equal ones."""
        total = torch.zeros(len(one))
        for head, a, b in zip(self.heads, self.trunk(one), self.trunk(other), strict=True):
            total = total + head((_unit(a) - _unit(b)) ** 2).mean((1, 2, 3))
        return total


def _unit(x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
    """Each position's channels scaled to length one; ε as published, added to the norm."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors; a broken file is a `StainglassError`."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise StainglassError(
            path,
            f"not readable LPIPS weights ({error})",
            "Give LPIPS (AlexNet) as safetensors, or leave lpips_weights out",
        ) from None


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise StainglassError(
            path,
            f"not LPIPS (AlexNet) weights ({str(error).splitlines()[-1].strip()})",
            "Give safetensors with features.* and lin0 … lin4",
        ) from None
    module.eval().requires_grad_(False)
