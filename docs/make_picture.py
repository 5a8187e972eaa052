"""The pictures of README and docs, from a run.

    python docs/make_picture.py runs/demo docs/images/demo.jpg                  # real above, painted below
    python docs/make_picture.py runs/her2st/generated docs/images/her2st.jpg    # painted alone, the first 36

Takes the first windows, none picked. The first form is for simulated tissue only: real pixels are not ours to ship.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stainglass.synthesis.stamp import SENTENCE

SHOWN, GAP, SIDE = 6, 4, 160
COLUMNS, GRID_SIDE, GRID_SHOWN = 9, 120, 36


def pairs(run: Path) -> Image.Image:
    """Real windows of the judged split above, what was painted from their spots below; simulated tissue only."""
    if not (run / "simulated").is_dir():
        raise SystemExit(
            f"{run}: its real windows are of patients, not ours to ship; give {run / 'generated'}"
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
    rows = -(-len(files) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * (GRID_SIDE + GAP) - GAP, rows * (GRID_SIDE + GAP) - GAP), "white")
    for i, name in enumerate(files):
        window = Image.open(folder / name).resize((GRID_SIDE, GRID_SIDE), Image.Resampling.LANCZOS)
        canvas.paste(window, (i % COLUMNS * (GRID_SIDE + GAP), i // COLUMNS * (GRID_SIDE + GAP)))
    return canvas


if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.parent.mkdir(parents=True, exist_ok=True)
    picture = grid(source) if (source / "patches.csv").is_file() else pairs(source)
    picture.save(out, quality=88, optimize=True, comment=SENTENCE)
