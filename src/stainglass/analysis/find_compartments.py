"""``RUN/analysis/compartments``: every spot's compartment by expression, and as its real and generated picture look.

By appearance a compartment is what a calibrated classifier reads that learnt real training patches, labelled by
expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from stainglass.analysis.agreement import compared, kappa, moved
from stainglass.analysis.block_draws import BlockDraws
from stainglass.analysis.classifier import Embed, confusion, macro_f1
from stainglass.analysis.compartments import COMPARTMENTS, CompartmentScorer, Names, true_compartments
from stainglass.analysis.judged import Judged
from stainglass.analysis.nuclei import NucleusReader
from stainglass.analysis.study import (
    CHUNK,
    JudgedSection,
    Looker,
    Taught,
    TrainingTissue,
    honesty_notes,
    judged_sections,
    names_of,
    scorer_note,
    teach,
)
from stainglass.analysis.unlike import (
    FINDINGS,
    LIMIT,
    MEASURES,
    Nearest,
    RealRange,
    Unlike,
    distance_limit,
    measures,
)
from stainglass.cohort.cohort import Cohort
from stainglass.genes.classes import UNASSIGNED
from stainglass.models.sampler import SamplerSettings
from stainglass.sections.simulate.truth import load_truth
from stainglass.spread import spread
from stainglass.synthesis.generator import Generator

FORMAT = 1
MOST_MEASURED = 600
"""Training patches whose texture is measured, spread evenly."""


@dataclass(frozen=True)
class CompartmentStudy:
    """Everything known of the judged spots, the sections one after the other.

    Attributes
    ----------
    cohort
        Of the run.
    names
        Compartments that the training tissue shows.
    scorer, taught
        Compartments from expression, and the classifier of pictures.
    judged
        The painted sections.
    expression
        The compartment called from expression; ``probability`` in how many redraws.
    appearance
        ``real`` and ``generated`` → what the picture of each spot is read as; None when nothing could be learnt.
    confidence
        Likewise → the classifier's calibrated probability.
    truth
        Of simulated tissue.
    unlike
        ``real`` and ``generated`` → how far from real training patches, and what faults.
    training
        Real training tissue.
    notes
        What a reader must know.
    seed
        Of intervals.
    """

    cohort: Cohort
    names: tuple[str, ...]
    scorer: CompartmentScorer
    taught: Taught
    judged: Judged
    expression: Names
    probability: Float64[np.ndarray, n]
    appearance: Mapping[str, Names]
    confidence: Mapping[str, Float64[np.ndarray, n]]
    truth: Names
    unlike: Mapping[str, Unlike]
    training: TrainingTissue
    notes: tuple[str, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.judged.section)

    def place(self, i: int) -> tuple[JudgedSection, int]:
        """The section of a spot and its row in it."""
        section = int(self.judged.section[i])
        return self.judged.sections[section], i - int(np.searchsorted(self.judged.section, section))

    def patch(self, which: str, i: int) -> NDArray[np.uint8]:
        """The real or the generated picture of a spot, uint8 (size, size, 3)."""
        one, row = self.place(i)
        return one.painted.real[row] if which == "real" else one.painted.generated[row]

    def nearest_pixels(self, i: int) -> NDArray[np.uint8]:
        """The real training patch that is nearest to a generated one, uint8 (size, size, 3)."""
        window = self.training.windows[int(self.unlike["generated"].nearest.at[i])]
        return np.asarray(self.cohort.pixels([window])[0])

    def table(self) -> pd.DataFrame:
        """One row a judged spot."""
        columns: dict[str, Any] = {
            "section": [self.place(i)[0].painted.section for i in range(len(self))],
            "barcode": [barcode for one in self.judged.sections for barcode in one.barcodes],
            "y_um": self.judged.centres_um_yx[:, 0],
            "x_um": self.judged.centres_um_yx[:, 1],
            "by expression": [name or UNASSIGNED for name in self.expression],
            "probability": self.probability,
        }
        if any(self.truth):
            columns["truth"] = self.truth
        for which, names in self.appearance.items():
            columns[f"{which} looks like"] = names
            columns[f"{which} confidence"] = self.confidence[which]
        for which, found in self.unlike.items():
            columns[f"{which} distance"] = found.nearest.distance
            columns[f"{which} found"] = ["; ".join(found.found(i)) for i in range(len(self))]
        return pd.DataFrame(columns)

    def figures(self) -> list[dict[str, Any]]:
        """Expression against appearance, real and generated; on simulated tissue expression against the truth too."""
        draws = BlockDraws.of(
            self.judged.centres_um_yx, self.judged.section, np.random.default_rng(self.seed)
        )
        moves = moved(self.judged.centres_um_yx, self.judged.section)
        pairs = [
            (self.expression, names, "expression", f"{w} picture") for w, names in self.appearance.items()
        ]
        pairs.append((self.truth, self.expression, "truth", "expression"))
        rows = []
        for a, b, against, subject in pairs:
            x, y = self._codes(a), self._codes(b)
            n = int(((x >= 0) & (y >= 0)).sum())
            if n:
                rows += [
                    {"metric": metric, "against": against, "subject": subject, "n": n,
                     **compared(x, y, statistic, draws, moves).record()}
                    for metric, statistic in (("macro_f1", _f1), ("agreement", _share), ("kappa", kappa))
                ]  # fmt: skip
        return rows

    def confusions(self) -> dict[str, Int64[np.ndarray, "k k"]]:
        """Counts: rows by expression, columns by appearance."""
        x = self._codes(self.expression)
        found = {}
        for which, names in self.appearance.items():
            y = self._codes(names)
            both = (x >= 0) & (y >= 0)
            found[which] = confusion(x[both], y[both], len(self.names))
        return found

    def rates(self) -> list[dict[str, Any]]:
        """How many generated patches have each fault, and how many real held-out ones by the same rule."""
        return [
            {"finding": name, "n": len(self), **{w: int(u.flags[:, k].sum()) for w, u in self.unlike.items()}}
            for k, name in enumerate(FINDINGS)
        ]

    def failures(self) -> pd.DataFrame:
        """Generated patches with a finding, the worst first; ``spot`` is their row of `table`."""
        found, table = self.unlike["generated"], self.table()
        at = found.worst()
        rows = table.loc[at, ["section", "barcode", "y_um", "x_um", "by expression"]].reset_index(drop=True)
        rows.insert(0, "spot", at)
        rows["found"] = ["; ".join(found.found(int(i))) for i in at]
        rows["distance"], rows["limit"] = found.nearest.distance[at], found.limit
        near = [self.training.windows[int(found.nearest.at[i])] for i in at]
        rows["nearest training patch"] = [f"{w.section} {w.spot}" for w in near]
        for k, name in enumerate(MEASURES):
            rows[name] = found.measured[at, k]
        return rows

    def _codes(self, names: Sequence[str | None]) -> Int64[np.ndarray, n]:
        index = {name: i for i, name in enumerate(self.names)}
        return np.array([index.get(str(name), -1) for name in names], np.int64)

    def tree(self) -> dict[str, Any]:
        """What stands in ``compartments.json``."""
        counts = {
            "expression": self.expression,
            **{f"{which} picture": names for which, names in self.appearance.items()},
        }
        return {
            "format": FORMAT,
            "sections": [one.painted.section for one in self.judged.sections],
            "spots": len(self),
            "compartments": {name: list(COMPARTMENTS[name]) for name in self.names},
            "classes": scorer_note(self.scorer.scorer),
            "fitted_on": sorted(set(self.training.sections)),
            "training_patches": len(self.training),
            "folds": None if self.taught.folds is None else self.taught.folds.note,
            "called": {
                key: pd.Series([n or UNASSIGNED for n in names]).value_counts().to_dict()
                for key, names in counts.items()
            },
            "figures": self.figures(),
            "confusion": self.confusions(),
            "findings": self.rates(),
            "limits": {"distance": self.unlike["real"].limit, "share_of_real_within": LIMIT},
            "notes": list(self.notes),
        }


def _share(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    both = (a >= 0) & (b >= 0)
    return float((a[both] == b[both]).mean()) if both.any() else float("nan")


def _f1(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    both = (a >= 0) & (b >= 0)
    return macro_f1(a[both], b[both])


def study_compartments(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str] = (),
    most: int | None = None,
    embed: Embed | None = None,
    noise_seed: int = 0,
    seed: int = 0,
) -> CompartmentStudy:
    """Paint the judged sections and put every spot into a compartment, by expression and by appearance.

    Parameters
    ----------
    sections
        Ids; by default the judged part of the run's split.
    most
        At most this many spots a section, spread evenly.
    embed
        Pictures to features, frozen; EfficientNet-Lite0 by default.
    noise_seed
        Of the painted patches, as `painted_section` keeps them.
    seed
        Of redraws and intervals.

    Raises
    ------
    StainglassError
        For an unknown section, a cohort at another µm/px, or tissue that shows fewer than two classes.
    """
    judged = judged_sections(run, cohort, sections)
    looker = Looker(run, embed)
    training = TrainingTissue.of(cohort, generator, judged, looker)
    scorer = CompartmentScorer.fit(training.expressed, seed)
    known = names_of(scorer.call(training.expressed, seed))
    taught = teach(training, known, generator.facts.window_px * cohort.mpp)
    whole = Judged.of(
        [JudgedSection.of(run, cohort, n, generator, settings, looker, most, noise_seed) for n in judged]
    )
    calls = [scorer.call(one.expressed, seed) for one in whole.sections]
    expression = [name for call in calls for name in names_of(call)]
    appearance, confidence = _read(taught, whole)
    return CompartmentStudy(
        cohort,
        tuple(scorer.members),
        scorer,
        taught,
        whole,
        expression,
        np.concatenate([call.probability.max(axis=1) for call in calls]),
        appearance,
        confidence,
        _truth(run, cohort, whole),
        _unlike(cohort, training, known, whole, expression),
        training,
        (*honesty_notes(cohort, generator, judged), *taught.notes),
        seed,
    )


def _truth(run: Path, cohort: Cohort, judged: Judged) -> Names:
    """Of sections that the run simulated; None elsewhere."""
    names: Names = []
    for one in judged.sections:
        section = cohort.sections[one.painted.section]
        folder = run / "simulated" / section.source_id / "truth"
        if (folder / "truth.json").is_file():
            diameter = float(np.median(section.used_spots.obs["diameter_um"]))
            names += true_compartments(load_truth(folder), one.painted.centres_um_yx, diameter)
        else:
            names += [None] * len(one.painted)
    return names


def _read(taught: Taught, judged: Judged) -> tuple[dict[str, Names], dict[str, Float64[np.ndarray, n]]]:
    """What real and generated pictures look like, and how sure that is; nothing where nothing was learnt."""
    if taught.result is None:
        return {}, {}
    names: dict[str, Names] = {}
    confidence = {}
    for which in ("real", "generated"):
        probability = taught.result.classifier.probabilities(judged.features(which))
        names[which] = [taught.classes[k] for k in probability.argmax(axis=1)]
        confidence[which] = probability.max(axis=1)
    return names, confidence


def _unlike(
    cohort: Cohort, training: TrainingTissue, known: Names, judged: Judged, expression: Names
) -> dict[str, Unlike]:
    """Distances and faults of real and generated pictures, by limits that real ones set."""
    nuclei = NucleusReader.fit(training.sample, cohort.mpp)
    at = spread(len(training), MOST_MEASURED)
    parts = [
        measures(cohort.pixels([training.windows[i] for i in at[start : start + CHUNK]]), nuclei)
        for start in range(0, len(at), CHUNK)
    ]
    ordinary = RealRange.fit(np.concatenate(parts), [known[i] for i in at])
    near = {w: Nearest.of(judged.features(w), training.features) for w in ("real", "generated")}
    limit = distance_limit(near["real"])
    found = {}
    for which in near:
        measured = np.concatenate(
            [
                measures(one.painted.real if which == "real" else one.painted.generated, nuclei)
                for one in judged.sections
            ]
        )
        found[which] = Unlike.of(near[which], measured, limit, ordinary, expression)
    return found
