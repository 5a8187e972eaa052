"""The generator as its users know it: load, hand over an AnnData, get pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.models.facts import Facts
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.paint import paint_windows
from stainglass.synthesis.spots import conditions_of, windows_of_adata
from stainglass.synthesis.stamp import Stamp, write_picture

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Painted:
    """Pictures and where they come from.

    Attributes
    ----------
    pixels
        uint8 (N, size, size, 3).
    windows
        One a picture.
    conditions
        What each was told, before thinning.
    facts, seed
        Of the model; the noise seed.
    settings
        How they were painted.
    """

    pixels: UInt8[np.ndarray, "n size size 3"]
    windows: tuple[Window, ...]
    conditions: Conditions
    facts: Facts
    seed: int
    settings: SamplerSettings

    def __len__(self) -> int:
        return len(self.windows)

    def stamp(self, i: int) -> Stamp:
        """Provenance of picture ``i``, as it is written into its metadata."""
        window = self.windows[i]
        y, x = window.centre_um_yx(self.facts.mpp)
        spots = self.conditions.barcodes[i]
        how = {**asdict(self.settings), "interval": list(self.settings.interval)}  # as JSON has it
        return Stamp(self.facts.name, window.section, spots, self.seed, self.facts.mpp, (float(y), float(x)),
                     "matched" if spots else "null", sampler=how)  # fmt: skip

    def save(self, folder: str | Path, suffix: str = ".png") -> Path:
        """Write one stamped picture a window and ``patches.csv``; returns the table's path."""
        folder = Path(folder)
        rows = []
        for i, window in enumerate(self.windows):
            stamp = self.stamp(i)
            name = f"{window.section}_{window.spot or f'{window.top_px}_{window.left_px}'}{suffix}"
            write_picture(self.pixels[i], stamp, folder / name)
            y, x = stamp.centre_um_yx
            rows.append({"file": name, "section": window.section, "spot": window.spot, "y_um": round(y, 2),
                         "x_um": round(x, 2), "mpp": stamp.mpp, "seed": self.seed, "spots": " ".join(stamp.spots)})  # fmt: skip
        table = folder / "patches.csv"
        with atomic_path(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        return table


class Generator:
    """Paints H&E from expression.

    Parameters
    ----------
    pipeline
        The network's parts; see `stainglass.models.pipeline.TissuePipeline`.

    Examples
    --------
    >>> generator = Generator.from_pretrained("runs/demo/generator")  # doctest: +SKIP
    >>> painted = generator.generate(adata, n=16, seed=1)  # doctest: +SKIP
    >>> painted.save("painted")  # doctest: +SKIP
    """

    def __init__(self, pipeline: TissuePipeline) -> None:
        self.pipeline = pipeline
        if pipeline.facts is None:
            raise ValueError("a generator needs its facts")
        self.facts = pipeline.facts

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | None = None, **kwargs: Any) -> Generator:
        """Load a generator from a folder, a hub id or ``builtin:NAME``; on the GPU when there is one."""
        pipeline = TissuePipeline.from_pretrained(folder, **kwargs)
        pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(pipeline)

    def generate(
        self,
        adata: AnnData,
        n: int | None = None,
        *,
        mpp: float | None = None,
        seed: int = 0,
        settings: SamplerSettings | None = None,
        batch: int = 16,
        section: str = "adata",
    ) -> Painted:
        """Paint one patch a spot of an AnnData.

        Parameters
        ----------
        adata
            Raw counts and positions; see `stainglass.synthesis.spots.windows_of_adata`.
        n
            This many spots, spread evenly; None paints all.
        mpp
            µm per px of ``obsm["spatial"]``, when the data do not tell.
        seed
            Of the noise field.
        settings
            Solver, steps, guidance; by default the model's own.
        batch
            Windows at once; it does not change the pictures.

        Raises
        ------
        StainglassError
            When the data do not fit the model: too few of its genes, no positions, no raw counts.
        """
        windows, conditions = windows_of_adata(adata, self.facts, mpp, section)
        return self._paint(windows, conditions, n, seed, settings, batch)

    def generate_cohort(
        self,
        cohort: Cohort,
        sections: Sequence[str],
        n: int | None = None,
        *,
        layout: str = "patches",
        seed: int = 0,
        settings: SamplerSettings | None = None,
        batch: int = 16,
    ) -> Painted:
        """Paint windows of a cohort's sections: round its spots (``patches``) or tiling its tissue (``grid``)."""
        if abs(cohort.mpp / self.facts.mpp - 1) > 0.05:
            raise StainglassError(
                cohort.path,
                f"has {cohort.mpp:g} µm/px, the model {self.facts.name!r} paints {self.facts.mpp:g}",
                f"Prepare the cohort with --mpp {self.facts.mpp:g}",
            )
        size = self.facts.window_px
        windows = cohort.patches(sections, size) if layout == "patches" else cohort.grid(sections, size)
        if not windows:
            raise StainglassError(
                cohort.path, f"no window on {', '.join(sections)}", "Look at the proof images"
            )
        conditions = conditions_of(cohort, windows, self.facts)
        painted = self._paint(windows, conditions, n, seed, settings, batch)
        return replace(painted, facts=replace(self.facts, mpp=cohort.mpp))  # positions are the cohort's

    def paint_windows(
        self,
        cohort: Cohort,
        windows: Sequence[Window],
        *,
        seed: int = 0,
        settings: SamplerSettings | None = None,
        batch: int = 16,
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """Pictures of given windows of a cohort, each told of the spots in its reach."""
        conditions = conditions_of(cohort, windows, self.facts)
        return paint_windows(self.pipeline, windows, conditions, seed, settings or self.facts.sampler, batch)

    def _paint(
        self, windows: Sequence[Window], conditions: Conditions, n: int | None, seed: int,
        settings: SamplerSettings | None, batch: int,
    ) -> Painted:  # fmt: skip
        if n is not None and n < len(windows):
            chosen = np.linspace(0, len(windows) - 1, n).round().astype(np.int64)
            windows, conditions = [windows[i] for i in chosen], conditions.take(chosen)
        how = settings or self.facts.sampler
        pixels = paint_windows(self.pipeline, windows, conditions, seed, how, batch)
        return Painted(pixels, tuple(windows), conditions, self.facts, seed, how)
