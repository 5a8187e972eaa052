"""TIFF through tifffile: OME-TIFF with SubIFD pyramids, BigTIFF, ImageJ, tiles or strips, 8 or 16 bit."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.sections.backends.openslide_ import OpenSlideSlide, detects
from stainglass.sections.backends.tiff_claim import claimed_mpp
from stainglass.sections.slides import Slide

CACHE_BYTES = 128 * 2**20
"""Decoded tiles and strips kept for the neighbouring window."""

# tifffile logs what it finds wrong and goes on; what matters is checked below and told as an error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(path: Path) -> Slide:
    """Open a TIFF: OpenSlide for scanners' formats and generic pyramids, tifffile for the rest.

    OpenSlide sees one level of an OME-TIFF whose pyramid lies in SubIFDs, so OME goes to tifffile.
    """
    vendor = detects(path)
    if vendor is not None and vendor != "generic-tiff":
        return OpenSlideSlide(path)
    slide = TifffileSlide(path)
    if vendor == "generic-tiff" and slide.plain_rgb and not slide.is_ome:
        slide.close()
        return OpenSlideSlide(path, mpp_claim=slide.mpp_claim)
    return slide


class TifffileSlide(Slide):
    """A TIFF read tile by tile (or strip by strip) with a bounded cache."""

    backend = "tifffile"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cache: OrderedDict[tuple[int, int, int], tuple[NDArray[Any], tuple[int, ...]]] = OrderedDict()
        self._cached_bytes = 0
        self._open()
        page = self._pages[0][0]
        self.is_ome = bool(self._tiff.is_ome)
        self.plain_rgb = page.dtype == np.uint8 and page.samplesperpixel == 3 and page.planarconfig == 1
        super().__init__(path, [_size(pages[0]) for pages in self._pages], claimed_mpp(self._tiff))
        self._white_at: float | None = None

    def _open(self) -> None:
        try:
            self._tiff = tifffile.TiffFile(self.path)
            series = self._tiff.series[0]
            self._pages = [_planes(self.path, level) for level in series.levels]
            if len(self._pages) == 1:
                self._pages += _reduced_pages(self._tiff, self._pages[0])
        except StainglassError:
            raise
        except Exception as error:  # tifffile raises whatever the broken byte led to
            raise _broken(self.path, str(error) or type(error).__name__) from error
        size = self.path.stat().st_size
        for page in (page for pages in self._pages for page in pages):
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True) if n]
            if max(ends, default=0) > size:
                raise _broken(self.path, f"its pixels end at byte {max(ends)} but the file has {size}")

    def _reopen(self) -> None:
        self._tiff.close()
        self._cache.clear()
        self._cached_bytes = 0
        self._open()

    def close(self) -> None:
        """Close the file and free the cache."""
        self._tiff.close()
        self._cache.clear()
        self._cached_bytes = 0

    def __del__(self) -> None:
        if hasattr(self, "_tiff"):  # not so when the file could not be opened at all
            self._tiff.close()

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        pages = self._pages[level]
        channels = len(pages) if len(pages) > 1 else pages[0].samplesperpixel
        region = np.zeros((height, width, channels), dtype=pages[0].dtype)
        for plane, page in enumerate(pages):
            for index in _segments(page, top, left, height, width):
                pixels, (sample, _, y, x, _) = self._segment(level, plane, index)
                first = plane + sample if len(pages) > 1 or page.planarconfig == 2 else 0
                _paste(region[:, :, first : first + pixels.shape[2]], pixels, y - top, x - left)
        return _to_rgb(region, pages[0], self._white(pages[0]))

    def _segment(self, level: int, plane: int, index: int) -> tuple[NDArray[Any], tuple[int, ...]]:
        key = (level, plane, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        page = self._pages[level][plane]
        try:
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            pixels, where, shape = page.decode(data or None, index, jpegtables=page.jpegtables)
        except Exception as error:  # the codecs raise their own kinds
            raise _broken(self.path, f"tile {index} of level {level}: {error}") from error
        if pixels is None:  # a sparse tile: nothing was stored
            pixels = np.full(shape, page.nodata, dtype=page.dtype)
        found = pixels[0], where
        self._cache[key] = found
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, (old, _) = self._cache.popitem(last=False)
            self._cached_bytes -= old.nbytes
        return found

    def _white(self, page: Any) -> float:
        """The value that stands for white: the top of the bit depth that the coarsest level uses."""
        if page.dtype == np.uint8:
            return 255.0
        if self._white_at is None:
            self._white_at = 1.0  # while the pixels are looked at
            highest = int(max(_planes_max(self)))
            self._white_at = float(next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if highest < 2**bits))
        return self._white_at


def _planes(path: Path, level: Any) -> list[Any]:
    """The pages that hold the channels of one level: one (RGB or grey) or three."""
    axes, shape = level.axes, level.shape
    pages = [page.aspage() for page in level.pages[: level.sizes.get("channel", 1) if "C" in axes else 1]]
    first = pages[0]
    planes = max(len(pages), 1)
    if any(size > 1 for axis, size in zip(axes, shape, strict=True) if axis not in "YXSC"):
        raise StainglassError(
            path, f"a stack of planes ({axes} {shape}), not one image", "Export the H&E plane as a flat TIFF"
        )
    if (planes > 1 and planes != 3) or first.samplesperpixel not in (1, 2, 3, 4):
        raise StainglassError(
            path,
            f"{max(planes, first.samplesperpixel)} channels, not an H&E picture",
            "Export it as an RGB TIFF",
        )
    if first.dtype not in (np.uint8, np.uint16):
        raise StainglassError(path, f"pixels of type {first.dtype}", "Export it with 8 or 16 bits a channel")
    return pages


def _reduced_pages(tiff: tifffile.TiffFile, finest: list[Any]) -> list[list[Any]]:
    """The coarser levels of a generic pyramid, which are pages of their own, marked as reduced."""
    if len(finest) > 1:
        return []
    first = finest[0]
    pages = [page.aspage() for page in tiff.pages[1:]]
    return [
        [page]
        for page in pages
        if page.is_reduced
        and (page.dtype, page.samplesperpixel) == (first.dtype, first.samplesperpixel)
        and abs(page.imagelength / page.imagewidth * first.imagewidth / first.imagelength - 1) < 0.02
    ]


def _planes_max(slide: TifffileSlide) -> Iterator[int]:
    coarsest = len(slide.levels) - 1
    for plane, page in enumerate(slide._pages[coarsest]):
        for index in range(len(page.dataoffsets)):
            yield int(slide._segment(coarsest, plane, index)[0].max())


def _size(page: Any) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)


def _segments(page: Any, top: int, left: int, height: int, width: int) -> Iterator[int]:
    """Indices of the tiles or strips that touch a region; all samples' when they are stored apart."""
    tall = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    wide = page.tilewidth if page.is_tiled else page.imagewidth
    down = -(-page.imagelength // tall)
    across = -(-page.imagewidth // wide)
    apart = page.samplesperpixel if page.planarconfig == 2 else 1
    for sample in range(apart):
        for row in range(top // tall, (top + height - 1) // tall + 1):
            for column in range(left // wide, (left + width - 1) // wide + 1):
                yield (sample * down + row) * across + column


def _paste(region: NDArray[Any], pixels: NDArray[Any], y: int, x: int) -> None:
    """Copy a segment whose corner lies at (y, x) of the region, as far as it overlaps."""
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + pixels.shape[0], region.shape[0]), min(x + pixels.shape[1], region.shape[1])
    if y1 > y0 and x1 > x0:
        region[y0:y1, x0:x1] = pixels[y0 - y : y1 - y, x0 - x : x1 - x]


def _to_rgb(region: NDArray[Any], page: Any, white: float) -> NDArray[np.uint8]:
    """Any channels and depth → RGB of 8 bit; a palette is looked up, alpha is laid on white."""
    if page.photometric == 3 and page.colormap is not None:
        return np.asarray(np.moveaxis(page.colormap, 0, -1)[region[:, :, 0]] >> 8, dtype=np.uint8)
    if region.dtype == np.uint8 and region.shape[2] == 3:
        return region
    unit = region.astype(np.float32) / white
    if page.photometric == 0:  # white is zero
        unit = 1.0 - unit
    if region.shape[2] in (2, 4):
        alpha = unit[:, :, -1:]
        unit = unit[:, :, :-1] * alpha + (1.0 - alpha)
    if unit.shape[2] == 1:
        unit = np.repeat(unit, 3, axis=2)
    return np.asarray(np.clip(unit, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)


def _broken(path: Path, finding: str) -> StainglassError:
    return StainglassError(
        path,
        f"the TIFF is cut short or damaged ({finding})",
        "Copy the slide again and compare its size with the original",
    )
