"""Pictures as data URIs: the page loads nothing from outside."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

TILE_PX = 256
PROOF_PX = 1100


def data_uri(image: Image.Image, longest_px: int, quality: int = 85) -> str:
    """A JPEG no longer than ``longest_px`` on its longer side, as ``data:`` URI, without metadata."""
    small = image.convert("RGB")
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def tile(pixels: UInt8[np.ndarray, "h w 3"], longest_px: int = TILE_PX) -> str:
    """A window as ``data:`` URI."""
    return data_uri(Image.fromarray(pixels), longest_px)


def picture_file(path: Path, longest_px: int = PROOF_PX) -> str | None:
    """An image file as ``data:`` URI, smaller; None when it cannot be read."""
    try:
        with Image.open(path) as image:
            return data_uri(image, longest_px, quality=80)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def scale_bar_um(window_um: float) -> float:
    """A round length of a fifth to a half of the window, in µm."""
    lengths = [step * 10.0**power for power in range(-1, 5) for step in (1, 2, 5)]
    return max((length for length in lengths if length <= window_um / 2), default=window_um / 2)
