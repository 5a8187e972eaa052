"""JPEG and PNG through Pillow: no pyramid, decoded once at the first read and kept."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stainglass.errors import StainglassError
from stainglass.sections.slides import UM_PER_INCH, Slide, plausible_claim

_lock = threading.Lock()


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's size limit for one file: real slides (92 Mpx) are above it, and the user named the
    file.
    """
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class PillowSlide(Slide):
    """A JPEG or PNG. EXIF orientation is not applied: spot coordinates refer to the pixels as stored."""

    backend = "pillow"

    def __init__(self, path: Path) -> None:
        try:
            with _any_size(), Image.open(path) as image:
                width, height = image.size
                dpi = image.info.get("dpi")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise _broken(path, error) from error
        self._pixels: NDArray[np.uint8] | None = None
        claim = UM_PER_INCH / float(dpi[0]) if dpi and float(dpi[0]) > 0 else None
        super().__init__(path, [(height, width)], plausible_claim(claim))

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = _decode(self.path)
        return self._pixels[top : top + height, left : left + width]

    def _reopen(self) -> None:
        """Nothing to do: the decoded pixels are shared memory after a fork, and no handle stays open."""

    def close(self) -> None:
        """Free the decoded pixels."""
        self._pixels = None


def _decode(path: Path) -> NDArray[np.uint8]:
    try:
        with _any_size(), warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error")
            if image.mode.startswith(("I", "F")):
                return _from_deep_grey(np.asarray(image))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                layered = image.convert("RGBA")
                ground = Image.new("RGBA", layered.size, (255, 255, 255, 255))
                ground.alpha_composite(layered)
                return np.asarray(ground.convert("RGB"))
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, SyntaxError, UserWarning) as error:
        raise _broken(path, error) from error


def _from_deep_grey(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16-bit grey to RGB: 65535 is white."""
    grey = (np.clip(pixels.astype(np.float32), 0, 65535) / 257.0 + 0.5).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _broken(path: Path, error: BaseException) -> StainglassError:
    return StainglassError(
        path,
        f"the image is cut short or damaged ({error})",
        "Copy the slide again and compare its size with the original",
    )
