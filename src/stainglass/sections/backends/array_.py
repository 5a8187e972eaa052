"""An image that is in memory already (out of an AnnData)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.sections.slides import Slide


class ArraySlide(Slide):
    """An RGB array, (height, width, 3 or 4): uint8, or floats from 0 to 1."""

    backend = "array"

    def __init__(self, pixels: NDArray[Any], path: Path) -> None:
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
            raise StainglassError(path, f"the image has shape {pixels.shape}", "Give an RGB image")
        rgb = pixels[:, :, :3]
        if rgb.dtype != np.uint8:
            rgb = (np.clip(rgb.astype(np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)
        self._pixels: NDArray[np.uint8] = rgb
        super().__init__(path, [(rgb.shape[0], rgb.shape[1])], None)

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        return self._pixels[top : top + height, left : left + width]

    def _reopen(self) -> None:
        """Nothing is open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ArraySlide, (self._pixels, self.path)
