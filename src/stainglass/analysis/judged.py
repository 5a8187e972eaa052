"""The judged sections as one, and what is known of their spots otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from stainglass.analysis.study import (
    JudgedSection,
)
from stainglass.cohort.cohort import Cohort
from stainglass.genes.classes import tissue_classes
from stainglass.sections.simulate.truth import load_truth

Names = Sequence[str | None]


@dataclass(frozen=True)
class Judged:
    """The judged sections put one after the other."""

    sections: tuple[JudgedSection, ...]
    section: Int64[np.ndarray, n]
    centres_um_yx: Float64[np.ndarray, "n 2"]

    @classmethod
    def of(cls, sections: Sequence[JudgedSection]) -> Judged:
        """In this order."""
        return cls(
            tuple(sections),
            np.repeat(np.arange(len(sections)), [len(one.painted) for one in sections]).astype(np.int64),
            np.concatenate([one.painted.centres_um_yx for one in sections]),
        )

    def features(self, which: str) -> NDArray[np.floating]:
        """Of real or generated pictures."""
        return np.concatenate([one.features[which] for one in self.sections])


def reference(run: Path, cohort: Cohort, judged: Judged) -> tuple[pd.DataFrame | None, Names, str | None]:
    """Shares of the classes that are known otherwise: truth of simulated tissue, else the cohort's cell types.

    Returns
    -------
    Shares (NaN rows where nothing is known), the leading class of each spot (None: unknown, or a tissue that is
    none of the classes), and where they come from (``truth``, ``cell_types`` or None).
    """
    parts, source = [], None
    of = tissue_classes().of_reference
    for one in judged.sections:
        section = one.painted.section
        folder = run / "simulated" / cohort.sections[section].source_id / "truth"
        if (folder / "truth.json").is_file():
            diameter = float(np.median(cohort.sections[section].used_spots.obs["diameter_um"]))
            truth = load_truth(folder)
            found = truth.at(one.painted.centres_um_yx, diameter)[list(truth.classes)]
            source = source or "truth"
        else:
            types = cohort.cell_types(list(one.painted.windows))
            found = (
                pd.DataFrame(index=range(len(one.painted))) if types is None else types.reset_index(drop=True)
            )
            source = source or (None if types is None else "cell_types")
        parts.append(found)
    if source is None:
        return None, [None] * len(judged.section), None
    whole = pd.concat(parts, ignore_index=True)
    known = whole.notna().any(axis=1) & (whole.sum(axis=1) > 0)
    whole = whole.fillna(0.0)
    shares = whole.T.groupby(lambda name: of.get(str(name), f"({name})")).sum().T
    shares = shares.where(known, np.nan)
    classes = shares.columns[shares.fillna(0.0).to_numpy(np.float64).argmax(axis=1)]
    # The class that leads when its parts are summed; a tissue that is no class (necrosis) leads as itself, and is none.
    names: Names = [
        str(name) if ok and not str(name).startswith("(") else None for name, ok in zip(classes, known)
    ]
    return shares, names, source
