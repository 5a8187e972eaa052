"""Image towers of CLIP: our own small ConvNet, or a frozen network that somebody else trained."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.errors import StainglassError
from stainglass.models.features import EfficientNetLite0, in_batches
from stainglass.progress import Advance

PREPROCESSOR = "preprocessor_config.json"

CONVNET = "convnet"
TIMM = "timm:"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ConvTower(nn.Module):
    """Our own image tower, trained from scratch: a window, scaled to ``image_px``, → one vector.

    Residual blocks of 3 × 3 convolutions between halvings; the mean and the deviation of the last map over the
    window are the vector, since tissue is texture as much as it is objects.

    Parameters
    ----------
    widths
        Channels of each stage; every stage halves the side of the one before, the first has a quarter of it.
    image_px
        Side the window is scaled to (area average).
    """

    def __init__(self, widths: tuple[int, ...] = (48, 96, 192), image_px: int = 128) -> None:
        super().__init__()
        self.image_px = image_px
        self.width = 2 * widths[-1]
        self.stem = nn.Conv2d(3, widths[0], 4, stride=4)
        stages: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i:
                stages.append(nn.Conv2d(widths[i - 1], width, 2, stride=2))
            stages.append(_Residual(width))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.GroupNorm(8, widths[-1])

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b w"]:
        """Vectors of windows given as pixels in 0…1."""
        small = F.interpolate(pixels, (self.image_px, self.image_px), mode="area")
        found = F.silu(self.norm(self.stages(self.stem(small * 2 - 1))))
        return torch.cat([found.mean((2, 3)), (found.var((2, 3)) + 1e-4).sqrt()], 1)


class _Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b w h v"]) -> Float[Tensor, "b w h v"]:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class FrozenTower(Protocol):
    """A network that is not trained here; `TissueCLIP` learns a projection of its features."""

    @property
    def name(self) -> str:
        """Name on the card; a tower that was used never judges there."""
        ...

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n d"]:
        """One row of features a picture."""
        ...


class TransformersTower:
    """Any image model of transformers (DINOv2 and its kin) from a folder or hub id; class token beside patch mean.

    Pixels are scaled and normalised as the model's ``preprocessor_config.json`` says (ImageNet's values without
    one), by our own resize: the model's own processor would need torchvision.

    Parameters
    ----------
    source
        Folder, or hub id.
    revision
        Of the hub id; pin it.
    """

    def __init__(self, source: str, revision: str | None = None, batch: int = 16) -> None:
        from transformers import AutoModel

        self.name, self.batch = Path(source).name if Path(source).is_dir() else source, batch
        try:
            self.network: Any = AutoModel.from_pretrained(source, revision=revision, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise StainglassError(
                source,
                f"no image model that transformers can load ({str(error).splitlines()[0]})",
                "Give a folder with config.json and model.safetensors, or a hub id with clip.revision",
            ) from None
        self.network.eval().requires_grad_(False)
        self.side = int(getattr(self.network.config, "image_size", 224))
        self.mean, self.std = _normalisation(source, revision)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n d"]:
        """Class token and mean of the patch tokens, side by side."""
        return in_batches(pixels, self._look, self.batch, advance)

    def _look(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        out = self.network(pixel_values=_scaled(rgb, self.side, self.mean, self.std)).last_hidden_state
        return torch.cat([out[:, 0], out[:, 1:].mean(1)], 1)


class TimmTower:
    """A pathology encoder through timm (UNI, Virchow, …: gated, so they load from your own hub cache).

    timm is an extra (``pip install stainglass[pathology]``): it needs torchvision, which the core does without.

    Parameters
    ----------
    source
        Model name as timm knows it, e.g. ``hf-hub:MahmoodLab/UNI``.
    """

    def __init__(self, source: str, batch: int = 16) -> None:
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise StainglassError(
                f"clip.tower {TIMM}{source}",
                "timm is not installed",
                "pip install 'stainglass[pathology]', or choose convnet or efficientnet-lite0",
            ) from None
        self.name, self.batch = source, batch
        self.network = timm.create_model(source, pretrained=True, num_classes=0).eval().requires_grad_(False)
        about = self.network.pretrained_cfg
        self.side = int(about.get("input_size", (3, 224, 224))[-1])
        self.mean, self.std = about.get("mean", IMAGENET_MEAN), about.get("std", IMAGENET_STD)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n d"]:
        """The model's pooled features."""
        return in_batches(pixels, self._look, self.batch, advance)

    def _look(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        found: Tensor = self.network(_scaled(rgb, self.side, self.mean, self.std))
        return found


def load_tower(kind: str, revision: str | None = None) -> FrozenTower:
    """A frozen tower by its name in a recipe.

    Parameters
    ----------
    kind
        ``efficientnet-lite0``, ``timm:MODEL``, or a folder or hub id of a transformers image model.
    """
    if kind == "efficientnet-lite0":
        return EfficientNetLite0()
    if kind.startswith(TIMM):
        return TimmTower(kind.removeprefix(TIMM))
    return TransformersTower(kind, revision)


def _scaled(
    rgb: Float[Tensor, "b 3 h w"], side: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "b 3 side side"]:
    small = F.interpolate(rgb, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    return (small - rgb.new_tensor(mean)[:, None, None]) / rgb.new_tensor(std)[:, None, None]


def _normalisation(source: str, revision: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that the model's own preprocessor tells, in its folder or on the hub; ImageNet's where it has none."""
    path = Path(source) / PREPROCESSOR
    if not Path(source).is_dir():
        try:
            path = Path(hf_hub_download(source, PREPROCESSOR, revision=revision))
        except EntryNotFoundError:
            return IMAGENET_MEAN, IMAGENET_STD
    if not path.is_file():
        return IMAGENET_MEAN, IMAGENET_STD
    told = json.loads(path.read_text(encoding="utf-8"))
    return tuple(told.get("image_mean", IMAGENET_MEAN)), tuple(told.get("image_std", IMAGENET_STD))
