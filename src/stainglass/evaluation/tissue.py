"""What an evaluation is given: real windows all that is measured about them, and something that paints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tissue:
    """Real windows of one part of a split, with all that is measured about them.

    Attributes
    ----------
    name
        Part of the split: ``"train"``, ``"validation"``, ``"other_patient"`` …
    windows
        N spot-centred windows.
    pixels
        The H&E of each window, uint8 (N, H, W, 3).
    counts
        Raw counts of the spot in each window's centre, float32 (N, G), on the model's gene axis.
    symbols
        The G gene symbols (or ids where a gene has none).
    centres_um_yx
        Window centres (y, x) in µm of their section, float64 (N, 2).
    sections, patients
        Section id and patient of each window.
    conditions
        What the generator is told of each window.
    cell_types
        Shares of cell types in each window's spot: N rows in the windows' order, one column a type.
    classes
        Class of each window's spot by its markers, where the tissue shows any.
    programmes
        Scores of programmes in each window's spot (see `stainglass.analysis.programmes`), one column a programme.
    groups
        Groups each window's section belongs to (site, stage …), where the cohort knows them: column → group.
    """

    name: str
    windows: tuple[Window, ...]
    pixels: UInt8[np.ndarray, "n h w 3"]
    counts: Float32[np.ndarray, "n g"]
    symbols: tuple[str, ...]
    centres_um_yx: Float64[np.ndarray, "n 2"]
    sections: tuple[str, ...]
    patients: tuple[str, ...]
    conditions: Conditions
    cell_types: pd.DataFrame | None = None
    classes: tuple[str, ...] | None = None
    programmes: pd.DataFrame | None = None
    groups: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self) -> None:
        lengths = {
            "pixels": len(self.pixels),
            "counts": len(self.counts),
            "centres_um_yx": len(self.centres_um_yx),
            "sections": len(self.sections),
            "patients": len(self.patients),
            "conditions": len(self.conditions),
        }
        if self.cell_types is not None:
            lengths["cell_types"] = len(self.cell_types)
        if self.classes is not None:
            lengths["classes"] = len(self.classes)
        if self.programmes is not None:
            lengths["programmes"] = len(self.programmes)
        if self.groups:
            lengths["groups"] = len(self.groups)
        wrong = {name: n for name, n in lengths.items() if n != len(self.windows)}
        if wrong or self.counts.shape[1] != len(self.symbols):
            raise ValueError(
                f"tissue {self.name!r}: {len(self.windows)} windows and {len(self.symbols)} symbols, "
                f"but {wrong or self.counts.shape}"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, index: Sequence[int] | Int64[np.ndarray, m]) -> Tissue:
        """The tissue of these windows, in this order."""
        at = np.asarray(index, dtype=np.int64)
        return replace(
            self,
            windows=tuple(self.windows[i] for i in at),
            pixels=self.pixels[at],
            counts=self.counts[at],
            centres_um_yx=self.centres_um_yx[at],
            sections=tuple(self.sections[i] for i in at),
            patients=tuple(self.patients[i] for i in at),
            conditions=self.conditions.take(at),
            cell_types=None if self.cell_types is None else self.cell_types.iloc[at],
            classes=None if self.classes is None else tuple(self.classes[i] for i in at),
            programmes=None if self.programmes is None else self.programmes.iloc[at],
            groups=tuple(self.groups[i] for i in at) if self.groups else (),
        )

    def chosen(self, n: int, rng: np.random.Generator) -> Int64[np.ndarray, m]:
        """Indices of at most ``n`` windows, drawn without repeats and kept in their order."""
        if len(self) <= n:
            return np.arange(len(self), dtype=np.int64)
        return np.sort(rng.choice(len(self), size=n, replace=False)).astype(np.int64)


class Painter(Protocol):
    """Whatever paints windows: a trained generator, or a stand-in in a test.

    A painter shows its own progress. The same seed and window give the same noise, whatever the
    condition: that is what makes matched and shuffled pictures a pair.
    """

    def paint(
        self, windows: Sequence[Window], conditions: Conditions, seed: int
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Paint one picture a window."""
        ...

    def reconstruct(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
        """Send real pictures through the autoencoder and back: the ceiling of any latent generator."""
        ...


def require_same_axis(one: Tissue, other: Tissue) -> None:
    """Refuse two tissues on different gene axes or window sizes."""
    if one.symbols != other.symbols:
        raise StainglassError(
            f"tissue {other.name}",
            f"its {len(other.symbols)} genes are not {one.name}'s {len(one.symbols)}, in that order",
            "Read both from one cohort, or put both on the model's gene axis",
        )
    if one.pixels.shape[1:] != other.pixels.shape[1:]:
        raise StainglassError(
            f"tissue {other.name}",
            f"its windows are {other.pixels.shape[1]} px, those of {one.name} {one.pixels.shape[1]} px",
            "Cut both with the window size the model was trained on",
        )
