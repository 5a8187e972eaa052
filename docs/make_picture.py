"""The pictures of README and docs, from a run.

    python docs/make_picture.py runs/demo docs/images/demo.jpg                  # real above, painted below
    python docs/make_picture.py runs/her2st/generated docs/images/her2st.jpg    # painted alone, the first 36
    python docs/make_picture.py runs/her2st docs/images/worst.jpg --worst       # painted alone, the ten least like the real one
    python docs/make_picture.py runs/her2st real.jpg --real                   # real above, painted below: to look at, not to ship

Takes the first windows, none picked. The first form is for simulated tissue only: real pixels are not ours to ship.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stainglass.synthesis.stamp import SENTENCE

SHOWN, GAP, SIDE = 6, 4, 160
COLUMNS, GRID_SIDE, GRID_SHOWN = 9, 120, 36


def pairs(run: Path, ours: bool = False) -> Image.Image:
    """Real windows of the judged split above, what was painted from their spots below; simulated tissue unless ``ours``."""
    if not ours and not (run / "simulated").is_dir():
        raise SystemExit(
            f"{run}: its real windows are of patients, not ours to ship; give {run / 'generated'}, or --real to look"
        )
    pictures = np.load(run / "evaluation" / "pictures.npz", allow_pickle=False)
    split = str(pictures["splits"][0])
    canvas = Image.new("RGB", (SHOWN * SIDE + (SHOWN - 1) * GAP, 2 * SIDE + GAP), "white")
    for row, name in enumerate(("real", "generated")):
        for column, pixels in enumerate(pictures[f"{split}/{name}"][:SHOWN]):
            window = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(window, (column * (SIDE + GAP), row * (SIDE + GAP)))
    return canvas


def grid(folder: Path) -> Image.Image:
    """The first painted patches of a folder with ``patches.csv``."""
    files = pd.read_csv(folder / "patches.csv")["file"][:GRID_SHOWN]
    return tiled([Image.open(folder / name) for name in files], COLUMNS)


def worst(run: Path) -> Image.Image:
    """The painted windows least like the real one of their place, in the eyes of the first judge; the least like first."""
    pictures = np.load(run / "evaluation" / "pictures.npz", allow_pickle=False)
    return tiled([Image.fromarray(pixels) for pixels in pictures[f"{pictures['splits'][0]}/worst"]], 5)


def tiled(windows: list[Image.Image], columns: int) -> Image.Image:
    """Windows in rows, each made small."""
    rows = -(-len(windows) // columns)
    canvas = Image.new("RGB", (columns * (GRID_SIDE + GAP) - GAP, rows * (GRID_SIDE + GAP) - GAP), "white")
    for i, window in enumerate(windows):
        small = window.resize((GRID_SIDE, GRID_SIDE), Image.Resampling.LANCZOS)
        canvas.paste(small, (i % columns * (GRID_SIDE + GAP), i // columns * (GRID_SIDE + GAP)))
    return canvas


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--worst", action="store_true")
    shown.add_argument("--real", action="store_true")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.worst:
        picture = worst(options.source)
    elif (options.source / "patches.csv").is_file():
        picture = grid(options.source)
    else:
        picture = pairs(options.source, options.real)
    picture.save(options.out, quality=88, optimize=True, comment=SENTENCE)
