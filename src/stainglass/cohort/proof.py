"""The proof image: spots drawn on the tissue, what a person looks at before trusting anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stainglass.files import atomic_path

# Okabe–Ito: told apart by every common kind of colour vision.
USED = (0, 114, 178)
DROPPED = {"no counts": (230, 159, 0), "outside tissue": (204, 121, 167), "outside the image": (213, 94, 0)}
OTHER = (90, 90, 90)


def draw_proof(
    picture: UInt8[np.ndarray, "h w 3"],
    picture_mpp: float,
    spots_um_yx: NDArray[np.float64],
    spots: pd.DataFrame,
    title: str,
    path: Path,
) -> None:
    """Draw every spot at its true diameter: blue when used, else coloured by why it was dropped.

    Parameters
    ----------
    picture
        The section at ``picture_mpp`` µm/px.
    spots_um_yx
        (n, 2) centres in µm.
    spots
        ``obs`` of the section: ``used``, ``why_dropped``, ``diameter_um``.
    """
    image = Image.fromarray(picture).convert("RGB")
    pen = ImageDraw.Draw(image)
    font = _font(max(14, image.width // 60))
    for (y, x), used, why, diameter in zip(
        spots_um_yx / picture_mpp, spots["used"], spots["why_dropped"], spots["diameter_um"]
    ):
        r = max(float(diameter) / 2 / picture_mpp, 2)
        colour = USED if used else DROPPED.get(str(why), OTHER)
        pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=2)
    _scale_bar(pen, image.size, picture_mpp, font)
    legend = [("used", USED, int(spots["used"].sum()))]
    reasons = spots.loc[~spots["used"].astype(bool), "why_dropped"].value_counts()
    legend += [
        (f"dropped: {why}", DROPPED.get(str(why), OTHER), int(count)) for why, count in reasons.items()
    ]
    line = font.size * 1.3
    pen.text((8, 6), title, fill=(0, 0, 0), font=font)
    for i, (name, colour, count) in enumerate(legend, start=1):
        pen.text((8, 6 + i * line), f"{name}: {count}", fill=colour, font=font)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own DejaVu Sans: Pillow's default has no µ."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _scale_bar(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], mpp: float, font: ImageFont.FreeTypeFont
) -> None:
    """A bar of a round length, about a sixth of the width."""
    target = size[0] * mpp / 6
    length_um = next(n for n in (10000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10) if n <= max(target, 10))
    width, y = length_um / mpp, size[1] - 16
    pen.rectangle((12, y - 5, 12 + width, y), fill=(0, 0, 0))
    pen.text((12, y - 8), f"{length_um} µm", fill=(0, 0, 0), font=font, anchor="lb")
