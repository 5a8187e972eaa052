"""The Inception network of 2015 with which FID is defined, as published for PyTorch, and what it is shown.

Szegedy et al. 2015 as exported by TensorFlow (`pt_inception-2015-12-05`, 1,008 classes). It differs from the
network in today's libraries in two ways that move every FID: average pooling in the branches does not count
the padding, and the last block pools by maximum. `tests/evaluation/test_inception.py` compares it block by block with
torch-fidelity's.

A third thing moves every FID: how a picture comes to 299 px. The network was exported with TensorFlow's bilinear resize,
which aliases when it shrinks. `resized` does as Pillow does instead (bicubic, antialiased, in floats, not rounded) and
`scaled` clips what overshoots: the convention of clean-fid (Parmar et al. 2022), which most papers since then state. A FID
computed the old way is another number; the card names the way with every FID.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 1008
SIDE_PX = 299
RESIZE = "299 px, bicubic, antialiased"
"""How pictures come to the network's size, for the card."""


def resized(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 299 299"]:
    """Pictures at the network's size, on the scale they came on; bicubic may overshoot it a little.

    Torch's antialiased bicubic is Pillow's: cubic of a = −½, widened by the factor of shrinking.
    """
    size = (SIDE_PX, SIDE_PX)
    return F.interpolate(rgb, size, mode="bicubic", align_corners=False, antialias=True)


def scaled(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures of 0…1 as the network was trained on them: (x − 128) / 128 of 0…255, as in TensorFlow's graph.

    What a bicubic resize throws beyond 0…255 is clipped first, as clean-fid does.
    """
    return (rgb.clamp(0, 1) * 255 - 128) / 128


class ConvBnRelu(nn.Module):
    """Convolution without bias, batch norm (ε = 0.001), ReLU; named as in the published weights."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Apply the three."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Block35(nn.Module):
    """`Mixed_5b` … `Mixed_5d`: 35 × 35, 5 × 5 and double 3 × 3 branches."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBnRelu(inputs, 64, 1)
        self.branch5x5_1 = ConvBnRelu(inputs, 48, 1)
        self.branch5x5_2 = ConvBnRelu(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBnRelu(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvBnRelu(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBnRelu(96, 96, 3, padding=1)
        self.branch_pool = ConvBnRelu(inputs, pooled, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Concatenate the four branches."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], 1)


class Reduce35(nn.Module):
    """`Mixed_6a`: 35 × 35 → 17 × 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBnRelu(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBnRelu(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvBnRelu(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBnRelu(96, 96, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Concatenate two convolutions and the pooled input."""
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], 1)


class Block17(nn.Module):
    """`Mixed_6b` … `Mixed_6e`: 17 × 17, 7 × 7 factored into 1 × 7 and 7 × 1."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        wide, tall = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvBnRelu(inputs, 192, 1)
        self.branch7x7_1 = ConvBnRelu(inputs, inner, 1)
        self.branch7x7_2 = ConvBnRelu(inner, inner, **wide)  # type: ignore[arg-type]
        self.branch7x7_3 = ConvBnRelu(inner, 192, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = ConvBnRelu(inputs, inner, 1)
        self.branch7x7dbl_2 = ConvBnRelu(inner, inner, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = ConvBnRelu(inner, inner, **wide)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = ConvBnRelu(inner, inner, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = ConvBnRelu(inner, 192, **wide)  # type: ignore[arg-type]
        self.branch_pool = ConvBnRelu(inputs, 192, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Concatenate the four branches."""
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_average(x))], 1)


class Reduce17(nn.Module):
    """`Mixed_7a`: 17 × 17 → 8 × 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBnRelu(inputs, 192, 1)
        self.branch3x3_2 = ConvBnRelu(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBnRelu(inputs, 192, 1)
        self.branch7x7x3_2 = ConvBnRelu(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvBnRelu(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvBnRelu(192, 192, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Concatenate two convolutions and the pooled input."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class Block8(nn.Module):
    """`Mixed_7b` (average pooling) and `Mixed_7c` (the published export pools by maximum there)."""

    def __init__(self, inputs: int, pool_by_maximum: bool) -> None:
        super().__init__()
        self.pool_by_maximum = pool_by_maximum
        self.branch1x1 = ConvBnRelu(inputs, 320, 1)
        self.branch3x3_1 = ConvBnRelu(inputs, 384, 1)
        self.branch3x3_2a = ConvBnRelu(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBnRelu(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBnRelu(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvBnRelu(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBnRelu(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBnRelu(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvBnRelu(inputs, 192, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2048 h w"]:
        """Concatenate six convolutions' outputs."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.pool_by_maximum else _average(x)
        branches: Sequence[Tensor] = (
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(list(branches), 1)


class Inception2015Network(nn.Module):
    """The whole network; its state dict has the published names and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBnRelu(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBnRelu(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBnRelu(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBnRelu(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBnRelu(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = Block35(192, 32), Block35(256, 64), Block35(288, 64)
        self.Mixed_6a = Reduce35(288)
        self.Mixed_6b, self.Mixed_6c = Block17(768, 128), Block17(768, 160)
        self.Mixed_6d, self.Mixed_6e = Block17(768, 160), Block17(768, 192)
        self.Mixed_7a = Reduce17(768)
        self.Mixed_7b, self.Mixed_7c = Block8(1280, False), Block8(2048, True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Float[Tensor, "n 3 299 299"]) -> Float[Tensor, "n 2048"]:
        """Pooled features of pictures that were `resized` and `scaled`."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))
