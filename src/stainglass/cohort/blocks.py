"""One patient only: each section divided into a training and a held-out block, with a strip between that is neither.

Blocks are sections of their own (``S1.train``, ``S1.test``): the same rasters, fewer spots. So whatever reads sections
needs to know nothing of blocks, and a training window is never told a held-out spot. It is a fallback: what is shown
holds elsewhere in the same tissue, not for other patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json

FORMAT = 1
FILE = "blocks.json"
Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
LEAST_SPOTS = 16


@dataclass(frozen=True)
class Block:
    """How one section is divided, by a strip across its longer side.

    Attributes
    ----------
    axis
        0: the strip is horizontal (positions along y decide), 1: vertical.
    train_below_um, test_from_um
        Spots below the one train, spots from the other on are held out; between lies the buffer.
    train_spots, test_spots
        How many.
    """

    axis: int
    train_below_um: float
    test_from_um: float
    train_spots: int
    test_spots: int

    def of(self, part: Part, centres_um_yx: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, n]:
        """Which spots belong to a part."""
        along = centres_um_yx[:, self.axis]
        found: Bool[np.ndarray, n] = (
            along < self.train_below_um if part == "train" else along >= self.test_from_um
        )
        return found

    def spots(self, part: Part) -> int:
        """Spots of a part."""
        return self.train_spots if part == "train" else self.test_spots


@dataclass(frozen=True)
class Blocks:
    """All sections' blocks and the buffer they were cut with."""

    buffer_um: float
    sections: Mapping[str, Block]

    def write(self, cohort: Path) -> None:
        """Write ``blocks.json``."""
        write_json(cohort / FILE, {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, cohort: Path) -> Blocks | None:
        """Read ``blocks.json``; None where the cohort is not divided."""
        path = cohort / FILE
        if not path.is_file():
            return None
        tree = read_json(path, "blocks")
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise StainglassError(path, f"not blocks of format {FORMAT}", "Delete it and prepare again")
        return cls(
            float(tree["buffer_um"]), {name: Block(**block) for name, block in tree["sections"].items()}
        )


def buffer_for(centres: Mapping[str, Float[np.ndarray, "n 2"]], window_um: float, reach_um: float) -> float:
    """The least buffer in µm.

    Training windows are cut up to half a pitch off a spot: with a buffer of a window and a pitch no training window
    shares a pixel with a held-out one; with the reach and a pitch none reaches a held-out spot.
    """
    pitch = max(float(np.median(cKDTree(c).query(c, k=2)[0][:, 1])) for c in centres.values() if len(c) > 1)
    return max(window_um, reach_um) + pitch


def divide(
    centres: Mapping[str, Float[np.ndarray, "n 2"]], share: float, buffer_um: float, where: str | Path
) -> Blocks:
    """Hold out the far end of every section along its longer side.

    Parameters
    ----------
    centres
        Section id → centres (y, x) of its used spots in µm.
    share
        Of the spots, held out; the buffer is taken from the rest.

    Raises
    ------
    StainglassError
        When a section is too small for two blocks and a buffer.
    """
    found = {}
    for name, positions in centres.items():
        axis = int(np.argmax(np.ptp(positions, axis=0)))
        along = positions[:, axis]
        edge = float(np.quantile(along, 1 - share))
        block = Block(axis, edge - buffer_um, edge, 0, 0)
        counts = [int(block.of(part, positions).sum()) for part in PARTS]
        if min(counts) < LEAST_SPOTS:
            raise StainglassError(
                where,
                f"one patient only, and {name} is too small for blocks: {counts[0]} spots to train, {counts[1]} held out, "
                f"{buffer_um:.0f} µm between",
                "Add sections of another patient, or use smaller windows",
            )
        found[name] = Block(axis, edge - buffer_um, edge, *counts)
    return Blocks(buffer_um, found)
