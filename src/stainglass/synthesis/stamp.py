"""Every picture written says in its metadata that it is synthetic, by which model and from which spots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from stainglass.errors import StainglassError
from stainglass.files import atomic_path

KEY = "stainglass"
SENTENCE = (
    "Synthetic image painted from gene expression by stainglass. Not tissue of a patient. Not for diagnosis."
)
CM_PER_UM = 1e-4


@dataclass(frozen=True)
class Stamp:
    """Where a picture comes from."""

    model: str
    section: str
    spots: tuple[str, ...]
    seed: int
    mpp: float
    centre_um_yx: tuple[float, float]
    condition: str = "matched"
    synthetic: bool = True
    sampler: dict[str, Any] | None = None
    """Solver, steps, guidance, and how much of the spots' counts was left out; None where it is not told."""


def write_picture(pixels: UInt8[np.ndarray, "h w 3"], stamp: Stamp, path: Path) -> Path:
    """Write a PNG or TIFF (by suffix) with its stamp and its resolution."""
    text = json.dumps(asdict(stamp), ensure_ascii=True)
    with atomic_path(path) as temporary:
        if path.suffix.lower() in (".tif", ".tiff"):
            per_cm = 1 / (stamp.mpp * CM_PER_UM)
            tifffile.imwrite(
                temporary, pixels, photometric="rgb", compression="zlib", resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER", description=f"{SENTENCE} {KEY}={text}", software="stainglass", metadata=None,
            )  # fmt: skip
        else:
            info = PngImagePlugin.PngInfo()
            info.add_text("Description", SENTENCE)
            info.add_text(KEY, text)
            per_inch = 25_400 / stamp.mpp
            Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=info, dpi=(per_inch, per_inch))
    return path


def read_stamp(path: Path) -> Stamp:
    """Read back what `write_picture` wrote.

    Raises
    ------
    StainglassError
        When the picture carries no stamp.
    """
    text = ""
    if path.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            description = str(tiff.pages[0].description)  # type: ignore[union-attr]
        text = description.partition(f"{KEY}=")[2]
    else:
        with Image.open(path) as image:
            text = str(image.info.get(KEY, ""))
    if not text:
        raise StainglassError(
            path,
            "no stamp of stainglass in this picture",
            "It was not written by stainglass, or was re-saved",
        )
    tree = json.loads(text)
    return Stamp(**{**tree, "spots": tuple(tree["spots"]), "centre_um_yx": tuple(tree["centre_um_yx"])})
