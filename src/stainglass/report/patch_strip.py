"""Patches side by side at 1:1 with a class name, labels and a scale bar: what a pathologist compares by eye."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from stainglass.files import atomic_path
from stainglass.report.images import scale_bar_um
from stainglass.report.panels import SOFT, SYNTHETIC
from stainglass.synthesis.stamp import KEY, SENTENCE, Stamp

LEAST_PX = 256
"""A smaller patch is enlarged by a whole number until it is this wide."""
GAP, HEAD, LABEL, BAR = 16, 34, 26, 30
INK = "#1c1b22"


@dataclass(frozen=True)
class Cell:
    """A patch and what stands under it.

    Attributes
    ----------
    pixels
        uint8 (size, size, 3).
    label
        In words.
    synthetic
        Whether it was painted.
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    label: str
    synthetic: bool = False


def enlargement(size_px: int) -> int:
    """By which whole number a patch of this side is shown larger; 1 from `LEAST_PX` on."""
    return max(1, -(-LEAST_PX // size_px))


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def strip(cells: Sequence[Cell], title: str, mpp: float) -> Image.Image:
    """Patches in a row, the title above, a label under each, one scale bar under the first.

    Parameters
    ----------
    mpp
        µm per px of the patches.
    """
    size = cells[0].pixels.shape[0]
    times = enlargement(size)
    side = size * times
    sheet = Image.new(
        "RGB", (GAP + (side + GAP) * len(cells), GAP + HEAD + side + LABEL + BAR + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, _font(17))
    top = GAP + HEAD
    for i, cell in enumerate(cells):
        picture = Image.fromarray(cell.pixels).resize((side, side), Image.Resampling.BICUBIC)
        left = GAP + i * (side + GAP)
        sheet.paste(picture, (left, top))
        draw.text((left, top + side + 6), cell.label, SYNTHETIC if cell.synthetic else SOFT, _font(14))
    bar_um = scale_bar_um(size * mpp * 0.8)
    y, length = top + side + LABEL + 16, round(bar_um / mpp * times)
    draw.rectangle((GAP, y, GAP + length - 1, y + 3), fill="black")
    draw.text((GAP + length + 8, y - 9), f"{bar_um:g} µm", INK, _font(14))
    return sheet


def stacked(strips: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Several strips on one sheet, row by row."""
    width, height = max(s.width for s in strips), max(s.height for s in strips)
    columns = min(columns, len(strips))
    sheet = Image.new("RGB", (width * columns, height * -(-len(strips) // columns)), "white")
    for i, one in enumerate(strips):
        sheet.paste(one, (i % columns * width, i // columns * height))
    return sheet


def save_strip(
    image: Image.Image, path: Path, mpp: float, stamp: Stamp | None, about: str = SENTENCE
) -> None:
    """Write a PNG with its resolution, a sentence on what it is, and the stamp of what was painted.

    Parameters
    ----------
    mpp
        µm per px of the sheet, as it is shown.
    stamp
        None in a blinded reading, where every file says the same.
    """
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", about)
    if stamp is not None:
        info.add_text(KEY, json.dumps(asdict(stamp), ensure_ascii=True))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info, dpi=(25_400 / mpp, 25_400 / mpp))
