"""What is to be painted: windows, what each is told, and how."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from stainglass.cohort.windows import Conditions, Window
from stainglass.files import atomic_path
from stainglass.models.facts import Facts
from stainglass.models.sampler import SamplerSettings
from stainglass.spread import spread
from stainglass.synthesis.stamp import Stamp


@dataclass(frozen=True)
class Order:
    """Windows to paint.

    Attributes
    ----------
    windows
        One a picture.
    conditions
        What each is told, before thinning.
    facts, seed
        Of the model; the noise seed.
    settings
        How they are painted.
    """

    windows: tuple[Window, ...]
    conditions: Conditions
    facts: Facts
    seed: int
    settings: SamplerSettings

    def __len__(self) -> int:
        return len(self.windows)

    def spread(self, n: int | None) -> Order:
        """So many of them, spread evenly; all where there are no more."""
        return self.take(spread(len(self), n))

    def take(self, which: list[int]) -> Order:
        """Some of them."""
        windows = tuple(self.windows[i] for i in which)
        return Order(windows, self.conditions.take(which), self.facts, self.seed, self.settings)

    def stamp(self, i: int) -> Stamp:
        """Provenance of picture ``i``, as it is written into its metadata."""
        window = self.windows[i]
        y, x = window.centre_um_yx(self.facts.mpp)
        spots = self.conditions.barcodes[i]
        how = {**asdict(self.settings), "interval": list(self.settings.interval)}  # as JSON has it
        return Stamp(self.facts.name, window.section, spots, self.seed, self.facts.mpp, (float(y), float(x)),
                     "matched" if spots else "null", sampler=how)  # fmt: skip

    def file(self, i: int, suffix: str) -> str:
        """Name of picture ``i``."""
        window = self.windows[i]
        return f"{window.section}_{window.spot or f'{window.top_px}_{window.left_px}'}{suffix}"

    def write_table(self, folder: Path, suffix: str) -> Path:
        """Write ``patches.csv``, a row a picture."""
        rows = []
        for i, window in enumerate(self.windows):
            stamp = self.stamp(i)
            y, x = stamp.centre_um_yx
            rows.append({"file": self.file(i, suffix), "section": window.section, "spot": window.spot, "y_um": round(y, 2),
                         "x_um": round(x, 2), "mpp": stamp.mpp, "seed": self.seed, "spots": " ".join(stamp.spots)})  # fmt: skip
        table = folder / "patches.csv"
        with atomic_path(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        return table

    def digest(self) -> str:
        """A hash of all that pictures depend on besides the model's weights."""
        told = (self.windows, self.facts, self.seed, self.settings, self.conditions.digest())
        return hashlib.sha256(repr(told).encode()).hexdigest()
