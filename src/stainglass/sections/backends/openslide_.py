"""Vendor formats and generic tiled pyramids through OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.sections.slides import WHITE, Slide, plausible_claim


def detects(path: Path) -> str | None:
    """OpenSlide's name for the format of the file, or None."""
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None
    return str(vendor) if vendor is not None else None


class OpenSlideSlide(Slide):
    """A slide read by OpenSlide; see-through pixels become white."""

    backend = "openslide"

    def __init__(self, path: Path, mpp_claim: float | None = None) -> None:
        self.path = path
        self._handle = self._open()
        claim = self._handle.properties.get(openslide.PROPERTY_NAME_MPP_X)
        levels = [(height, width) for width, height in self._handle.level_dimensions]
        super().__init__(path, levels, mpp_claim or plausible_claim(_number(claim)))

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(str(self.path))
        except (openslide.OpenSlideError, OSError) as error:
            raise _broken(self.path, error) from error

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        down_y = self.levels[0][0] / self.levels[level][0]
        down_x = self.levels[0][1] / self.levels[level][1]
        corner = (round(left * down_x), round(top * down_y))
        try:
            region = self._handle.read_region(corner, level, (width, height))
        except openslide.OpenSlideError as error:
            # An error poisons the handle for good; a fresh one reads the rest of the slide.
            self._reopen()
            raise _broken(self.path, error) from error
        rgba = np.asarray(region)
        alpha = rgba[:, :, 3:]
        if (alpha == WHITE).all():
            return rgba[:, :, :3]
        share = alpha.astype(np.float32) / WHITE
        return np.asarray(rgba[:, :, :3] * share + WHITE * (1 - share) + 0.5, dtype=np.uint8)

    def _reopen(self) -> None:
        self._handle.close()
        self._handle = self._open()

    def close(self) -> None:
        """Close OpenSlide's handle."""
        self._handle.close()


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _broken(path: Path, error: BaseException) -> StainglassError:
    return StainglassError(
        path, f"OpenSlide cannot read it ({error})", "Copy the slide again, or convert it to a tiled TIFF"
    )
