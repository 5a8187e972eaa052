"""The picture of the README: real windows above, painted ones below, from a run's evaluation.

    python docs/make_picture.py runs/demo docs/images/demo.png

Takes the first windows of the uncurated row, none picked. Only for simulated tissue: real pixels are not ours to ship.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SHOWN, GAP, SIDE = 6, 4, 160


def main(run: Path, out: Path) -> None:
    """Draw the first windows of the judged split."""
    pictures = np.load(run / "evaluation" / "pictures.npz", allow_pickle=False)
    split = str(pictures["splits"][0])
    rows = [pictures[f"{split}/{name}"][:SHOWN] for name in ("real", "generated")]
    width = SHOWN * SIDE + (SHOWN - 1) * GAP
    canvas = Image.new("RGB", (width, 2 * SIDE + GAP), "white")
    for row, windows in enumerate(rows):
        for column, pixels in enumerate(windows):
            window = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(window, (column * (SIDE + GAP), row * (SIDE + GAP)))
    out.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
