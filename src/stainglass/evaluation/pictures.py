"""The few pictures a report shows, kept while the rest is let go; ``pictures.npz``.

Arrays, all uint8 (n, H, W, 3) unless said otherwise::

    <split>/real, <split>/<subject>     the same evenly chosen windows (8), one noise seed
    <split>/captions                    str (8): section and barcode
    <split>/uncurated                   36 generated windows, drawn without looking
    <split>/worst, <split>/worst_real   the 10 generated windows furthest from their real one
    <split>/worst_captions              str (10)
    <split>/neighbours_generated        8 generated windows
    <split>/neighbours_train            the training window nearest to each
    <split>/neighbours_captions         str (8): the distance
    splits                              str: the splits, the judged one first
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from stainglass.evaluation.measure import Measured
from stainglass.evaluation.tissue import Tissue
from stainglass.files import atomic_path
from stainglass.spread import spread

SHOWN, UNCURATED, WORST = 8, 36, 10


class Pictures:
    """Collects pictures while subjects are measured.

    Parameters
    ----------
    training
        Pixels of the training windows the nearest neighbours are indices of.
    judge
        Name of the judge that finds the worst windows.
    """

    def __init__(self, training: UInt8[np.ndarray, "m h w 3"], judge: str) -> None:
        self.training = training
        self.judge = judge
        self.arrays: dict[str, NDArray[np.uint8] | NDArray[np.str_]] = {}
        self.splits: list[str] = []
        self._real: Tissue | None = None
        self._at: NDArray[np.int64] = np.zeros(0, np.int64)

    def start(self, split: str, real: Tissue) -> None:
        """Begin a split: its real windows, evenly chosen, are shown."""
        self.splits.append(split)
        self._real = real
        self._at = np.array(spread(len(real), SHOWN), np.int64)
        self.arrays[f"{split}/real"] = real.pixels[self._at]
        self.arrays[f"{split}/captions"] = np.array([_caption(real, i) for i in self._at])

    def keep(
        self, split: str, subject: str, images: UInt8[np.ndarray, "n h w 3"], measured: Measured
    ) -> None:
        """Keep what the report shows of a subject's pictures."""
        self.arrays[f"{split}/{subject}"] = images[self._at]
        if subject == "generated":
            self._keep_generated(split, images, measured)

    def _keep_generated(self, split: str, images: UInt8[np.ndarray, "n h w 3"], measured: Measured) -> None:
        real = self._real
        if real is None:
            raise ValueError("start() a split before keeping its pictures")
        drawn = np.random.default_rng(len(images)).permutation(len(images))[:UNCURATED]
        self.arrays[f"{split}/uncurated"] = images[drawn]
        likeness = measured.pairs["cosine", self.judge]
        worst = np.argsort(likeness, kind="stable")[:WORST]
        self.arrays[f"{split}/worst"] = images[worst]
        self.arrays[f"{split}/worst_real"] = real.pixels[worst]
        self.arrays[f"{split}/worst_captions"] = np.array(
            [f"{_caption(real, i)} · cosine {likeness[i]:.2f}" for i in worst]
        )
        self.arrays[f"{split}/neighbours_generated"] = images[self._at]
        self.arrays[f"{split}/neighbours_train"] = self.training[measured.neighbour[self._at]]
        self.arrays[f"{split}/neighbours_captions"] = np.array(
            [f"distance {measured.nearest[i]:.3g}" for i in self._at]
        )

    def write(self, path: Path) -> None:
        """Write the archive atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, splits=np.array(self.splits), **self.arrays)  # type: ignore[arg-type]


def _caption(real: Tissue, i: int) -> str:
    return f"{real.sections[i]} · {real.windows[i].spot or 'no spot'}"
