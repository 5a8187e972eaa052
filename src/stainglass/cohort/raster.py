"""A section's pixels at the cohort's mpp: resampled strip by strip into a chunked multiscale zarr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, UInt8
from PIL import Image

from stainglass.cohort.tissue import TISSUE_MPP
from stainglass.errors import StainglassError
from stainglass.sections.slides import WHITE as WHITE
from stainglass.sections.slides import Slide

CHUNK_PX = 256
"""Chunks are neither compressed nor sharded: windows are then read 3.0 × as fast as OpenSlide reads and scales them
(benchmarks/windows.py; 1.2 × with shards and zstd) for 1.4 × the disk. White chunks are not stored at all."""
STRIP_PX = 2048
SAME_PLACE_PX = 0.5
"""A level whose far edge is off by less than this is taken as it is: resampling would blur and gain nothing."""
SAME_SCALE = 1e-3
"""A wanted mpp finer by less than this share is no upsampling: the µm/px is not known better."""


def raster_size_px(slide: Slide, slide_mpp: float, mpp: float) -> tuple[int, int]:
    """(height, width) of the slide at ``mpp``, rounded up to whole px."""
    height, width = slide.size_px_yx
    scale = slide_mpp / mpp
    return int(np.ceil(height * scale - 1e-6)), int(np.ceil(width * scale - 1e-6))


def resampled_strips(
    slide: Slide, slide_mpp: float, mpp: float, rows: int = STRIP_PX
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """Yield (top, strip) of the slide at ``mpp``, top to bottom, each at most ``rows`` high.

    A pyramid's coarsest level that is still at least as fine as ``mpp`` is read; the rest is Lanczos with
    the exact fractional box, so that strips join without a seam and nothing drifts.

    Raises
    ------
    StainglassError
        When ``mpp`` is finer than the slide.
    """
    if mpp < slide_mpp * (1 - SAME_SCALE):
        raise StainglassError(
            slide.path,
            f"the image has {slide_mpp:.3f} µm/px, {mpp:.3f} would need upsampling",
            f"Pass --mpp {slide_mpp:.3f} or coarser, or give the full-resolution slide",
        )
    height, width = raster_size_px(slide, slide_mpp, mpp)
    full = slide.size_px_yx
    level = _level_for(slide, mpp / slide_mpp)
    level_height, level_width = slide.levels[level]
    scale_y = mpp / slide_mpp * level_height / full[0]
    scale_x = mpp / slide_mpp * level_width / full[1]
    for top in range(0, height, rows):
        count = min(rows, height - top)
        if abs(scale_y - 1) * level_height < SAME_PLACE_PX and abs(scale_x - 1) * level_width < SAME_PLACE_PX:
            yield top, slide.read(top, 0, count, width, level)
            continue
        pad = int(np.ceil(3 * scale_y)) + 1
        first = max(int(np.floor(top * scale_y)) - pad, 0)
        last = min(int(np.ceil((top + count) * scale_y)) + pad, level_height)
        source = Image.fromarray(slide.read(first, 0, last - first, level_width, level))
        box = (
            0.0,
            top * scale_y - first,
            min(width * scale_x, level_width),
            min((top + count) * scale_y, level_height) - first,
        )
        yield top, np.asarray(source.resize((width, count), Image.Resampling.LANCZOS, box=box))


def _level_for(slide: Slide, downsample: float) -> int:
    ratios = [slide.size_px_yx[0] / size[0] for size in slide.levels]
    return max(i for i, ratio in enumerate(ratios) if ratio <= downsample * (1 + SAME_SCALE) or i == 0)


def create_raster(group: zarr.Group, size_px: tuple[int, int], mpp: float) -> list[zarr.Array]:
    """Create an empty OME-Zarr 0.5 multiscale image in ``group``; white is not stored."""
    levels: list[zarr.Array] = []
    datasets: list[dict[str, Any]] = []
    size, downsample = size_px, 1
    while not levels or max(size) > CHUNK_PX:
        if levels:
            size, downsample = (-(-size[0] // 2), -(-size[1] // 2)), downsample * 2
        levels.append(
            group.create_array(
                str(len(levels)),
                shape=(*size, 3),
                dtype="uint8",
                chunks=(CHUNK_PX, CHUNK_PX, 3),
                compressors=None,
                fill_value=WHITE,
                dimension_names=("y", "x", "c"),
            )
        )
        scale = [mpp * downsample, mpp * downsample, 1.0]
        shift = [mpp * (downsample - 1) / 2, mpp * (downsample - 1) / 2, 0.0]
        datasets.append(
            {
                "path": str(len(levels) - 1),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"] + [
        {"name": "c", "type": "channel"}
    ]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "he", "axes": axes, "datasets": datasets}],
    }
    return levels


def halved(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    """Mean of 2 × 2 blocks; of what there is at an odd last row or column."""
    return np.asarray(Image.fromarray(image).reduce(2))


def write_raster(
    levels: list[zarr.Array], slide: Slide, slide_mpp: float, mpp: float, keep: Bool[np.ndarray, "h w"]
) -> None:
    """Fill a raster and its pyramid; what lies outside ``keep`` (cells of ``TISSUE_MPP``) stays white."""
    cell_px = TISSUE_MPP / mpp
    carried: list[tuple[int, UInt8[np.ndarray, "h w 3"]]] = []
    for top, strip in resampled_strips(slide, slide_mpp, mpp):
        strip = _whitened(strip, top, keep, cell_px)
        levels[0][top : top + strip.shape[0]] = strip
        carried.append((top // 2, halved(strip)))
    half = np.concatenate([piece for _, piece in carried])
    for level in levels[1:]:
        level[:] = half
        half = halved(half)


def _whitened(
    strip: UInt8[np.ndarray, "h w 3"], top: int, keep: Bool[np.ndarray, "a b"], cell_px: float
) -> UInt8[np.ndarray, "h w 3"]:
    rows = np.minimum(((np.arange(strip.shape[0]) + top) / cell_px).astype(int), keep.shape[0] - 1)
    columns = np.minimum((np.arange(strip.shape[1]) / cell_px).astype(int), keep.shape[1] - 1)
    veil = np.repeat(np.where(keep, 0, WHITE).astype(np.uint8)[:, columns], 3, axis=1)
    # Row by row over flat pixels: seven times faster than indexing by a mask of the whole strip.
    whitened = np.maximum(strip.reshape(len(strip), -1), veil[rows])
    return np.asarray(whitened).reshape(strip.shape)
