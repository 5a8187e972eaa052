"""An image that is in memory already (out of an AnnData)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.sections.slides import Slide

OVERSHOT = 1.5
"""Floats up to here are taken to be from 0 to 1: resizing overshoots a little."""


class ArraySlide(Slide):
    """An RGB array, (height, width, 3 or 4): whole numbers of 8 or 16 bits, or floats from 0 to 1 or to 255."""

    backend = "array"

    def __init__(self, pixels: NDArray[Any], path: Path) -> None:
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
            raise StainglassError(path, f"the image has shape {pixels.shape}", "Give an RGB image")
        rgb = _bytes(pixels[:, :, :3], path)
        self._pixels: NDArray[np.uint8] = rgb
        super().__init__(path, [(rgb.shape[0], rgb.shape[1])], None)

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        return self._pixels[top : top + height, left : left + width]

    def _reopen(self) -> None:
        """Nothing is open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ArraySlide, (self._pixels, self.path)


def _bytes(rgb: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Brightness as bytes, whatever the array counts it in."""
    if rgb.dtype == np.uint8:
        return np.asarray(rgb, np.uint8)
    values = rgb.astype(np.float32)
    highest = float(np.nanmax(values, initial=0))
    if rgb.dtype == np.uint16 and highest > 255:
        white = 65535.0
    elif highest > 255 or not np.isfinite(values).all():
        raise StainglassError(
            path, f"the image has values up to {highest:g}", "Give bytes, or floats from 0 to 1"
        )
    else:
        white = 1.0 if highest <= OVERSHOT else 255.0
    return np.asarray(np.clip(values / white, 0, 1) * 255 + 0.5).astype(np.uint8)
