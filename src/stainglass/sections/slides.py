"""Slides: one way to read a region of an image, whatever file it lies in."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stainglass.errors import StainglassError

WHITE = 255
UM_PER_INCH = 25_400.0
SCREEN_DPI = (72.0, 96.0, 150.0, 300.0)
"""Resolutions that software writes when it knows nothing; they are no claim about the tissue."""
CLAIM_RANGE_MPP = (0.05, 10.0)
"""µm/px a microscope or a down-scaled slide can have; what lies outside is no claim."""


class Slide(ABC):
    """An opened image.

    Attributes
    ----------
    path
        The file.
    backend
        Which reader has it open: ``openslide``, ``tifffile`` or ``pillow``.
    levels
        (height, width) in px of every resolution, the finest first.
    mpp_claim
        µm/px of level 0 as the file's metadata claim, or None; unchecked.
    """

    backend: str
    holds_pixels = True
    """Whether there is an image at all: `NoSlide` has none, and no bounds."""

    def __init__(self, path: Path, levels: list[tuple[int, int]], mpp_claim: float | None) -> None:
        self.path = path
        self.levels = levels
        self.mpp_claim = mpp_claim
        self._pid = os.getpid()

    @property
    def size_px_yx(self) -> tuple[int, int]:
        """(height, width) of level 0 in px."""
        return self.levels[0]

    def read(self, top: int, left: int, height: int, width: int, level: int = 0) -> NDArray[np.uint8]:
        """Read a region.

        Parameters
        ----------
        top, left
            Corner in px of that level; may be negative.
        height, width
            Size in px of that level.
        level
            0 is the finest.

        Returns
        -------
        (height, width, 3) RGB; white outside the image.

        Raises
        ------
        StainglassError
            When the file cannot be decoded there.
        """
        self._reopen_in_child()
        rows, columns = self.levels[level]
        region = np.full((height, width, 3), WHITE, dtype=np.uint8)
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + height, rows), min(left + width, columns)
        if y1 > y0 and x1 > x0:
            region[y0 - top : y1 - top, x0 - left : x1 - left] = self._read_inside(
                y0, x0, y1 - y0, x1 - x0, level
            )
        return region

    def thumbnail(self, longest_px: int) -> NDArray[np.uint8]:
        """The whole slide, its longest side ``longest_px`` (or less, when the slide is smaller)."""
        fitting = [i for i, size in enumerate(self.levels) if max(size) >= longest_px]
        level = fitting[-1] if fitting else 0
        height, width = self.levels[level]
        step = max(max(height, width) // longest_px, 1)
        # Strips keep a slide without a pyramid from standing in memory whole.
        strip = max(2048 // step, 1) * step
        strips = [
            _block_mean(self.read(top, 0, min(strip, height - top), width, level), step)
            for top in range(0, height, strip)
        ]
        small = np.concatenate(strips)
        longest = max(self.levels[0])
        scale = min(longest_px, longest) / longest
        size = tuple(max(round(side * scale), 1) for side in self.levels[0])
        return small if small.shape[:2] == size else _resized(small, size)

    @abstractmethod
    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        """Read a region that lies inside the level."""

    def _reopen_in_child(self) -> None:
        """File handles must not be shared with a forked worker: it opens its own."""
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self._reopen()

    @abstractmethod
    def _reopen(self) -> None:
        """Open the file anew."""

    def close(self) -> None:  # noqa: B027  (an image in memory has nothing to close)
        """Let go of the file; reading afterwards is an error."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_slide, (self.path,)

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.size_px_yx[0]} × {self.size_px_yx[1]} px, {self.backend})"


def _block_mean(image: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Mean of step × step blocks; the last row and column of blocks may be smaller."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).reduce(step)) if step > 1 else image


def _resized(image: NDArray[np.uint8], size_px_yx: tuple[int, ...]) -> NDArray[np.uint8]:
    from PIL import Image

    resized = Image.fromarray(image).resize((size_px_yx[1], size_px_yx[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def plausible_claim(mpp: float | None) -> float | None:
    """``mpp`` when a slide can have it, else None (nothing, a screen's dpi, a default of 1 px = 1 cm, …)."""
    if mpp is None or not np.isfinite(mpp) or not CLAIM_RANGE_MPP[0] <= mpp <= CLAIM_RANGE_MPP[1]:
        return None
    if any(abs(UM_PER_INCH / mpp - dpi) < 0.05 for dpi in SCREEN_DPI):
        return None
    return float(mpp)


def open_slide(path: str | Path) -> Slide:
    """Open an image by its content: OpenSlide's formats, TIFF of any kind, JPEG, PNG.

    Raises
    ------
    StainglassError
        When there is no file, or it is no image that can be read, or it is cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise StainglassError(path, "no such slide file", "Check the path of the slide")
    with path.open("rb") as handle:
        magic = handle.read(8)
    if magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from stainglass.sections.backends.tifffile_ import open_tiff

        return open_tiff(path)
    if magic[:3] == b"\xff\xd8\xff" or magic == b"\x89PNG\r\n\x1a\n":
        from stainglass.sections.backends.pillow_ import PillowSlide

        return PillowSlide(path)
    from stainglass.sections.backends.openslide_ import OpenSlideSlide, detects

    if detects(path):
        return OpenSlideSlide(path)
    raise StainglassError(
        path,
        "not an image that can be read (no TIFF, JPEG, PNG or OpenSlide format)",
        "Give the slide as TIFF, OME-TIFF, SVS, JPEG or PNG",
    )
