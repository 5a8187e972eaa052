"""``RUN/analysis/subtypes``: classes of spots from expression, and read from real and generated pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.stats import spearmanr

from stainglass.analysis.agreement import compared, kappa, moved, rand_index
from stainglass.analysis.block_draws import TAIL, BlockDraws
from stainglass.analysis.classes import ClassScorer
from stainglass.analysis.classifier import Embed, auroc, confusion, macro_f1
from stainglass.analysis.judged import Judged, Names, reference
from stainglass.analysis.labels import SpotLabels, read_labels
from stainglass.analysis.overlay import draw_classes
from stainglass.analysis.study import (
    JudgedSection,
    Looker,
    Taught,
    TrainingTissue,
    as_json,
    honesty_notes,
    judged_sections,
    names_of,
    scorer_note,
    teach,
)
from stainglass.analysis.subtype_figures import f1_of, figures
from stainglass.cohort.cohort import Cohort
from stainglass.files import atomic_path, write_json
from stainglass.genes.classes import UNASSIGNED, tissue_classes
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.generator import Generator

FORMAT = 1
PRESENT = 0.25
"""Share above which a spot counts as holding a class of the reference, for its AUROC."""
SUBJECTS = {
    "real": "real pictures of these spots",
    "generated": "generated pictures of these spots",
    "shuffled": "generated pictures, each held against the label of a spot at least a quarter of the section away",
    "majority": "every spot given the training tissue's shares of the classes",
}


def write_subtypes(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str] = (),
    most: int | None = None,
    labels: Path | None = None,
    classes: Sequence[str] = (),
    embed: Embed | None = None,
    noise_seed: int = 0,
    seed: int = 0,
) -> Path:
    """Score classes from expression, read them from real and generated pictures, and say how well both agree.

    Parameters
    ----------
    run
        Folder of the run; ``analysis/subtypes`` is written in it.
    settings
        How to paint.
    sections
        Ids; by default the judged part of the run's split.
    most
        At most this many spots a section, spread evenly.
    labels
        A pathologist's labels (see `labels.read_labels`): learnt where training sections have them, compared with
        the marker classes wherever there are any.
    classes
        Classes to score; by default those whose markers rise and fall together in the training tissue.
    embed
        Pictures to features, frozen; EfficientNet-Lite0 by default.
    noise_seed
        Of the painted patches, as `painted_section` keeps them.
    seed
        Of redraws and intervals.

    Returns
    -------
    ``subtypes.json``.

    Raises
    ------
    StainglassError
        For an unknown section or class, labels that match no spot, or a cohort at another µm/px.
    """
    judged = judged_sections(run, cohort, sections)
    for name in classes:
        tissue_classes().markers(name)  # refuses an unknown class before minutes of painting
    looker = Looker(run, embed)
    drawn = None
    if labels is not None:  # a wrong path is told before minutes of painting
        trained = [n for n in generator.facts.trained_on if n in cohort.sections and n not in judged]
        drawn = read_labels(labels, cohort, [*trained, *judged])
    training = TrainingTissue.of(cohort, generator, judged, looker)
    scorer = ClassScorer.fit(training.expressed, classes, seed)
    window_um = generator.facts.window_px * cohort.mpp
    ones = [JudgedSection.of(run, cohort, n, generator, settings, looker, most, noise_seed) for n in judged]
    study = _Study(run, cohort, training, scorer, Judged.of(ones), drawn, window_um, seed)
    out = run / "analysis" / "subtypes"
    tree = study.tree()
    tree["notes"] = [*honesty_notes(cohort, generator, judged), *tree["notes"]]
    tree["features"] = looker.name
    table = study.table()
    with atomic_path(out / "spots.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")
    study.draw(out / "subtypes.png", table, tree["targets"]["markers"]["confusion"])
    write_json(out / "subtypes.json", as_json(tree))
    return out / "subtypes.json"


class _Study:
    """Everything measured about classes on the judged sections."""

    def __init__(
        self,
        run: Path,
        cohort: Cohort,
        training: TrainingTissue,
        scorer: ClassScorer,
        judged: Judged,
        drawn: SpotLabels | None,
        window_um: float,
        seed: int,
    ) -> None:
        self.training, self.scorer, self.judged, self.seed = training, scorer, judged, seed
        self.calls = [scorer.call(one.expressed, seed) for one in judged.sections]
        self.notes: list[str] = list(drawn.notes) if drawn is not None else []
        self.markers: Names = [name for call in self.calls for name in names_of(call)]
        self.shares, self.reference, self.reference_source = reference(run, cohort, judged)
        self.drawn: Names = [
            name
            for one in judged.sections
            for name in (
                drawn.of(one.painted.section, one.barcodes)
                if drawn is not None
                else [None] * len(one.painted)
            )
        ]
        self.targets = {
            "markers": teach(training, names_of(scorer.call(training.expressed, seed)), window_um)
        }
        if drawn is not None:
            self._teach_labels(drawn, window_um)
        self.draws = BlockDraws.of(judged.centres_um_yx, judged.section, np.random.default_rng(seed))
        self.moves = moved(judged.centres_um_yx, judged.section)

    def _teach_labels(self, drawn: SpotLabels, window_um: float) -> None:
        windows = self.training.windows
        names = [drawn.of(w.section, [w.spot])[0] for w in windows]
        if any(names):
            self.targets["pathologist"] = teach(self.training, names, window_um)
        else:
            self.notes.append(
                "No training section has a pathologist's labels: they are compared, not learnt."
            )

    def tree(self) -> dict[str, Any]:
        """What stands in ``subtypes.json``."""
        targets = {name: self._target(name, taught) for name, taught in self.targets.items()}
        unassigned = sum(name is None for name in self.markers)
        zero = sum(int((one.expressed.totals() == 0).sum()) for one in self.judged.sections)
        return {
            "format": FORMAT,
            "sections": [one.painted.section for one in self.judged.sections],
            "spots": len(self.markers),
            "unassigned": unassigned,
            "spots_without_counts": zero,
            "fitted_on": sorted(set(self.training.sections)),
            "classes": scorer_note(self.scorer),
            "called": pd.Series([n or UNASSIGNED for n in self.markers]).value_counts().to_dict(),
            "subjects": SUBJECTS,
            "targets": targets,
            "agreement": self._agreement(),
            "scores": self._score_rows(),
            "notes": self.notes,
        }

    def _target(self, name: str, taught: Taught) -> dict[str, Any]:
        found: dict[str, Any] = {
            "classes": taught.classes,
            "training_spots": len(taught.labels),
            "notes": list(taught.notes),
            "folds": None,
            "rows": [],
            "confusion": {},
        }
        if taught.result is None or taught.folds is None:
            return found
        found["folds"] = {"kind": taught.folds.kind, "note": taught.folds.note}
        found["temperature"] = taught.result.classifier.temperature
        self._cross_validated(found, taught)
        names = self.markers if name == "markers" else self.drawn
        found["rows"] += self._judged_rows(taught, names, name)
        self._confusions(found, taught, names, "")
        if name == "markers" and self.reference_source == "truth":
            found["rows"] += self._judged_rows(taught, self.reference, "truth")
            self._confusions(found, taught, self.reference, " against truth")
        return found

    def _cross_validated(self, found: dict[str, Any], taught: Taught) -> None:
        assert taught.result is not None
        at = np.flatnonzero(~np.isnan(taught.result.probability).any(axis=1))
        spots = taught.used[at]
        sections = np.unique(np.array(self.training.sections)[spots], return_inverse=True)[1].astype(np.int64)
        rng = np.random.default_rng(self.seed)
        draws = BlockDraws.of(self.training.centres_um_yx[spots], sections, rng) if len(at) else None
        rows = figures(taught.labels[at], taught.result.probability[at], taught.classes, draws)
        on = "real pictures of the training sections, each fold held out"
        found["rows"] += [
            {"on": "cross-validation", "against": "labels learnt", "subject": "real", "what": on, **r}
            for r in rows
        ]
        found["confusion"]["cross-validation, real"] = confusion(
            taught.labels[at], taught.result.probability[at].argmax(axis=1), len(taught.classes)
        )

    def _judged_rows(self, taught: Taught, names: Names, against: str) -> list[dict[str, Any]]:
        """Real, generated and the controls on the judged spots that have a label the classifier knows."""
        assert taught.result is not None
        index = {name: i for i, name in enumerate(taught.classes)}
        known = np.array([name in index for name in names], bool)
        if not known.any():
            return []
        truth = np.array([index.get(str(name), -1) for name in names], np.int64)
        probability = {
            k: taught.result.classifier.probabilities(self.judged.features(k)) for k in ("real", "generated")
        }
        share = np.bincount(taught.labels, minlength=len(taught.classes)) / max(len(taught.labels), 1)
        probability["majority"] = np.tile(share, (len(names), 1))
        draws = self.draws.among(known)
        rows = []
        for subject, found in probability.items():
            found_here = figures(truth, found, taught.classes, draws, np.flatnonzero(known))
            rows += [{"subject": subject, **figure} for figure in found_here]
        rows += [
            {"subject": "shuffled", **figure} for figure in self._shuffled(taught, truth, known, probability)
        ]
        rows.append({"subject": "generated", **self._gain(truth, known, probability["generated"], draws)})
        return [
            {"on": "judged sections", "against": against, "what": SUBJECTS[str(r["subject"])], **r}
            for r in rows
        ]

    def _shuffled(
        self,
        taught: Taught,
        truth: Int64[np.ndarray, n],
        known: NDArray[np.bool_],
        probability: Mapping[str, Float64[np.ndarray, "n k"]],
    ) -> list[dict[str, Any]]:
        """Mean over twenty moves; the interval is their spread."""
        tables = [
            pd.DataFrame(
                figures(truth, probability["generated"][at], taught.classes, None, np.flatnonzero(known))
            )
            for at in self.moves
        ]
        values = np.stack([table["value"].to_numpy(np.float64) for table in tables])
        rows = []
        for i, (metric, name, n) in enumerate(zip(tables[0]["metric"], tables[0]["class"], tables[0]["n"])):
            column = values[:, i][~np.isnan(values[:, i])]
            low, high = np.quantile(column, [TAIL, 1 - TAIL]) if len(column) else (np.nan, np.nan)
            value = float(column.mean()) if len(column) else np.nan
            why = None if len(column) else tables[0]["why"][i]
            rows.append(
                {
                    "metric": metric,
                    "class": name,
                    "value": value,
                    "low": low,
                    "high": high,
                    "n": n,
                    "why": why,
                }
            )
        return rows

    def _gain(
        self,
        truth: Int64[np.ndarray, n],
        known: NDArray[np.bool_],
        probability: Float64[np.ndarray, "n k"],
        draws: BlockDraws,
    ) -> dict[str, Any]:
        """Macro-F1 of generated pictures over the shuffled ones, draw by draw the same spots."""
        called = probability.argmax(axis=1)

        def gain(at: Int64[np.ndarray, m]) -> float:
            by_chance = np.mean([macro_f1(truth[at], called[move[at]]) for move in self.moves])
            return macro_f1(truth[at], called[at]) - float(by_chance)

        whole = gain(np.flatnonzero(known))
        low, high = draws.interval(gain)
        return {"metric": "macro_f1_gain", "class": None, "value": whole, "low": low, "high": high,
                "n": int(known.sum()), "why": None}  # fmt: skip

    def _confusions(self, found: dict[str, Any], taught: Taught, names: Names, suffix: str) -> None:
        assert taught.result is not None
        index = {name: i for i, name in enumerate(taught.classes)}
        at = np.array([i for i, name in enumerate(names) if name in index], np.int64)
        if not len(at):
            return
        truth = np.array([index[str(names[i])] for i in at], np.int64)
        for which in ("real", "generated"):
            called = taught.result.classifier.probabilities(self.judged.features(which)[at]).argmax(axis=1)
            found["confusion"][f"{which}{suffix}"] = confusion(truth, called, len(taught.classes))

    def _agreement(self) -> list[dict[str, Any]]:
        """Classes called from markers against the truth or reference, and against a pathologist."""
        rows = []
        for other, names in ((self.reference_source, self.reference), ("pathologist", self.drawn)):
            if other is None or not any(names):
                continue
            mapped = names
            if other == "pathologist":
                mapped = [tissue_classes().of_label.get(n.lower()) if n is not None else None for n in names]
            rows += self._agree("markers", self.markers, other, names, (("ari", rand_index),))
            rows += self._agree(
                "markers", self.markers, other, mapped, (("kappa", kappa), ("macro_f1", f1_of))
            )
        return rows

    def _agree(
        self, a: str, x: Names, b: str, y: Names, statistics: Sequence[tuple[str, Any]]
    ) -> list[dict[str, Any]]:
        names = sorted({n for n in (*x, *y) if n is not None})
        code = {name: i for i, name in enumerate(names)}
        p, q = (np.array([code.get(str(n), -1) for n in side], np.int64) for side in (x, y))
        both = int(((p >= 0) & (q >= 0)).sum())
        if not both:
            return []
        return [
            {
                "between": [a, b],
                "metric": metric,
                "n": both,
                **compared(p, q, statistic, self.draws, self.moves).record(),
            }
            for metric, statistic in statistics
        ]

    def _score_rows(self) -> list[dict[str, Any]]:
        """Marker scores against the shares of the truth or reference: rank correlation, AUROC of holding the class."""
        if self.shares is None:
            return []
        scores = np.concatenate([call.scores for call in self.calls])
        rows = []
        for k, name in enumerate(self.scorer.classes):
            if name not in self.shares.columns:
                continue
            share = self.shares[name].to_numpy(np.float64)
            known = np.isfinite(share)
            flat = not known.any() or np.ptp(share[known]) == 0 or np.ptp(scores[known, k]) == 0
            rows.append(
                {
                    "class": name,
                    "against": self.reference_source,
                    "n": int(known.sum()),
                    "spearman": None if flat else float(spearmanr(scores[known, k], share[known]).statistic),
                    "auroc": auroc(share[known] > PRESENT, scores[known, k]),
                    "spots_above": int((share[known] > PRESENT).sum()),
                    "share_above": PRESENT,
                }
            )
        return rows

    def table(self) -> pd.DataFrame:
        """One row a judged spot."""
        frames = []
        for one, call in zip(self.judged.sections, self.calls):
            frame = pd.DataFrame({"section": one.painted.section, "barcode": one.barcodes})
            frame["y_um"], frame["x_um"] = one.painted.centres_um_yx.T
            frame["counts"] = one.expressed.totals()
            frame["class"] = call.names()
            frame["confidence"] = call.probability.max(axis=1)
            for k, name in enumerate(call.classes):
                frame[f"score {name}"] = call.scores[:, k]
            frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        if self.reference_source is not None:
            whole[self.reference_source] = list(self.reference)
        if any(self.drawn):
            whole["pathologist"] = list(self.drawn)
        for name, taught in self.targets.items():
            if taught.result is not None:
                for which in ("real", "generated"):
                    p = taught.result.classifier.probabilities(self.judged.features(which))
                    whole[f"{name} from {which}"] = [taught.classes[i] for i in p.argmax(axis=1)]
                    whole[f"{name} from {which}, p"] = p.max(axis=1)
        return whole

    def draw(self, path: Path, whole: pd.DataFrame, matrices: Mapping[str, Any]) -> None:
        """Confusion matrices and maps of what `table` and `tree` gave."""
        taught = self.targets["markers"]
        sources = {
            "markers": "class",
            "real pictures": "markers from real",
            "generated pictures": "markers from generated",
        }
        if self.reference_source is not None:
            sources[self.reference_source] = self.reference_source
        sources = {title: column for title, column in sources.items() if column in whole}
        maps = []
        for one in self.judged.sections:
            here = whole[whole["section"] == one.painted.section]
            found = {title: here[column].fillna(UNASSIGNED).tolist() for title, column in sources.items()}
            maps.append((one.painted.section, one.painted.centres_um_yx, found))
        draw_classes(path, taught.classes, dict(list(matrices.items())[:3]), maps)
