"""The generator as its users know it: load, hand over an AnnData, get pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import progress_bar
from stainglass.spread import spread
from stainglass.synthesis.order import Order
from stainglass.synthesis.paint import paint_batch, paint_windows
from stainglass.synthesis.spots import conditions_of, windows_of_adata
from stainglass.synthesis.stamp import write_picture
from stainglass.training.checkpoint import hash_of_weights

if TYPE_CHECKING:
    from anndata import AnnData

UNFINISHED = ".painting.json"
"""Stands in a folder while pictures are painted into it."""


@dataclass(frozen=True)
class Painted:
    """Pictures and where they come from.

    Attributes
    ----------
    pixels
        uint8 (N, size, size, 3).
    order
        What was painted, from what, and how.
    """

    pixels: UInt8[np.ndarray, "n size size 3"]
    order: Order

    def __len__(self) -> int:
        return len(self.order)

    @property
    def windows(self) -> tuple[Window, ...]:
        """One a picture."""
        return self.order.windows

    @property
    def conditions(self) -> Conditions:
        """What each was told, before thinning."""
        return self.order.conditions

    def save(self, folder: str | Path, suffix: str = ".png") -> Path:
        """Write one stamped picture a window and ``patches.csv``; returns the table's path."""
        folder = Path(folder)
        for i, pixels in enumerate(self.pixels):
            write_picture(pixels, self.order.stamp(i), folder / self.order.file(i, suffix))
        return self.order.write_table(folder, suffix)


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
        order = self.order(adata, n, mpp=mpp, seed=seed, settings=settings, section=section)
        return self.paint(order, batch)

    def order(
        self, adata: AnnData, n: int | None = None, *, mpp: float | None = None, seed: int = 0,
        settings: SamplerSettings | None = None, section: str = "adata",
    ) -> Order:  # fmt: skip
        """What `generate` paints."""
        windows, conditions = windows_of_adata(adata, self.facts, mpp, section)
        return Order(tuple(windows), conditions, self.facts, seed, settings or self.facts.sampler).spread(n)

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
        return self.paint(
            self.order_cohort(cohort, sections, n, layout=layout, seed=seed, settings=settings), batch
        )

    def order_cohort(
        self, cohort: Cohort, sections: Sequence[str], n: int | None = None, *, layout: str = "patches", seed: int = 0,
        settings: SamplerSettings | None = None,
    ) -> Order:  # fmt: skip
        """What `generate_cohort` paints."""
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
        windows = [windows[i] for i in spread(len(windows), n)]  # first, as conditions of all take memory
        facts = replace(self.facts, mpp=cohort.mpp)  # positions are the cohort's
        told = conditions_of(cohort, windows, self.facts)
        return Order(tuple(windows), told, facts, seed, settings or self.facts.sampler)

    def paint(self, order: Order, batch: int = 16) -> Painted:
        """Paint what was ordered, all in memory."""
        pixels = paint_windows(
            self.pipeline, order.windows, order.conditions, order.seed, order.settings, batch
        )
        return Painted(pixels, order)

    def paint_into(self, order: Order, folder: str | Path, *, batch: int = 16, suffix: str = ".png") -> Path:
        """Paint what was ordered straight into a folder; a painting that was stopped goes on.

        Returns
        -------
        The table, ``patches.csv``.
        """
        folder = Path(folder)
        mark, todo = folder / UNFINISHED, list(range(len(order)))
        pipe = self.pipeline
        parts = (pipe.autoencoder, pipe.condnet, pipe.denoiser, pipe.selector)
        weights = hash_of_weights(*(part for part in parts if part is not None))
        began = {"order": order.digest(), "weights": weights}
        if mark.is_file() and read_json(mark, "mark of a painting") == began:
            since = mark.stat().st_mtime_ns  # what is older was there before
            todo = [i for i in todo if not _is_newer(folder / order.file(i, suffix), since)]
        else:
            write_json(mark, began)
        with progress_bar("painting", len(order), len(order) - len(todo)) as advance:
            for first in range(0, len(todo), batch):
                some = order.take(todo[first : first + batch])
                for i, pixels in enumerate(
                    paint_batch(self.pipeline, some.windows, some.conditions, some.seed, some.settings)
                ):
                    write_picture(pixels, some.stamp(i), folder / some.file(i, suffix))
                    advance(1)
        table = order.write_table(folder, suffix)
        mark.unlink()
        return table

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


def _is_newer(path: Path, since_ns: int) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= since_ns
