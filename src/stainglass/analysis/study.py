"""What components and subtypes both start from: real training tissue, and judged sections painted beside the real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from stainglass.analysis.classes import Called, ClassScorer, Expressed
from stainglass.analysis.classifier import LEAST_SPOTS, CrossValidated, Embed, Folds, cross_validate
from stainglass.analysis.painted import PaintedSection, painted_section
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.models.features import EfficientNetLite0
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import progress_bar
from stainglass.recipe_files import load_recipe
from stainglass.spread import spread
from stainglass.synthesis.generator import Generator

MOST_TRAINING = 1500
"""Training patches that are looked at, spread evenly."""
CHUNK = 64


def judged_sections(run: Path, cohort: Cohort, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The sections asked for, or the judged part of the run's split.

    Raises
    ------
    StainglassError
        When there is no such section, or the split holds none out.
    """
    for name in wanted:
        if name not in cohort.sections:
            raise StainglassError(
                cohort.path, f"has no section {name!r}", f"Choose one of {', '.join(cohort.sections)}"
            )
    if wanted:
        return tuple(dict.fromkeys(wanted))
    recipe = load_recipe(run / "recipe.yaml")
    found = cohort.split(recipe.split.name).part(recipe.evaluation.part)
    if not found:
        raise StainglassError(
            cohort.path,
            f"its split has no {recipe.evaluation.part} sections",
            "Name sections with --section, or set evaluation.part to the other part",
        )
    return found


class Looker:
    """Pictures to features, kept under ``RUN/analysis/features`` when the network is the default one.

    Parameters
    ----------
    embed
        Any frozen function of pictures; by default EfficientNet-Lite0, which took no part in training. CLIP's own
        image tower learnt with the generator and must be handed in on purpose.
    """

    def __init__(self, run: Path, embed: Embed | None = None) -> None:
        self.folder = run / "analysis" / "features"
        self.name = EfficientNetLite0.name if embed is None else getattr(embed, "name", "handed in")
        self._embed, self._keep = embed, embed is None

    def look(self, pixels: UInt8[np.ndarray, "n h w 3"], title: str) -> Float[np.ndarray, "n d"]:
        """Features of pictures; ``title`` names the file they are kept in."""
        key = hashlib.sha256(f"{self.name} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        path = self.folder / f"{title.replace(' ', '_')}.npz"
        found = self._kept(path, key) if self._keep else None
        if found is None:
            embed = self._network()
            with progress_bar(f"looking at {title}", len(pixels)) as advance:
                parts = []
                for start in range(0, len(pixels), CHUNK):
                    parts.append(np.asarray(embed(pixels[start : start + CHUNK]), np.float32))
                    advance(len(parts[-1]))
            found = np.concatenate(parts)
            if self._keep:
                with atomic_path(path) as temporary, temporary.open("wb") as handle:
                    np.savez(handle, features=found, key=np.array(key))
        return found

    def _network(self) -> Embed:
        if self._embed is None:
            self._embed = EfficientNetLite0().features
        return self._embed

    @staticmethod
    def _kept(path: Path, key: str) -> Float[np.ndarray, "n d"] | None:
        try:
            with np.load(path, allow_pickle=False) as archive:
                return np.asarray(archive["features"]) if str(archive["key"]) == key else None
        except (OSError, ValueError, KeyError, BadZipFile):
            return None


@dataclass(frozen=True)
class TrainingTissue:
    """Real patches of the sections the generator was trained on: all that anything here is fitted on.

    Attributes
    ----------
    windows
        One a spot.
    patients, sections
        (n,) of each.
    centres_um_yx
        (n, 2).
    expressed
        What was measured.
    features
        (n, d) of the real pictures.
    sample
        (m, size, size, 3) some of the real pictures, for thresholds.
    """

    windows: tuple[Window, ...]
    patients: tuple[str, ...]
    sections: tuple[str, ...]
    centres_um_yx: Float64[np.ndarray, "n 2"]
    expressed: Expressed
    features: Float[np.ndarray, "n d"]
    sample: UInt8[np.ndarray, "m size size 3"]

    @classmethod
    def of(
        cls, cohort: Cohort, generator: Generator, judged: Sequence[str], looker: Looker
    ) -> TrainingTissue:
        """Patches of the generator's training sections, without those that are judged now.

        Raises
        ------
        StainglassError
            When no training section is left in the cohort, or the cohort has another µm/px.
        """
        if abs(cohort.mpp / generator.facts.mpp - 1) > 0.05:
            raise StainglassError(
                cohort.path,
                f"has {cohort.mpp:g} µm/px, the generator paints {generator.facts.mpp:g}",
                f"Prepare the cohort with --mpp {generator.facts.mpp:g}",
            )
        names = [n for n in generator.facts.trained_on if n in cohort.sections and n not in judged]
        if not names:
            raise StainglassError(
                cohort.path,
                f"no section the generator was trained on ({', '.join(generator.facts.trained_on) or 'none named'}) is "
                "left to fit on",
                "Give the cohort it was trained with, or judge other sections",
            )
        windows = cohort.patches(names, generator.facts.window_px)
        windows = [windows[i] for i in spread(len(windows), MOST_TRAINING)]
        pixels = cohort.pixels(windows)
        some = spread(len(windows), 48)
        return cls(
            tuple(windows),
            tuple(cohort.patients[w.section] for w in windows),
            tuple(w.section for w in windows),
            np.stack([w.centre_um_yx(cohort.mpp) for w in windows]),
            Expressed.of(cohort, windows),
            looker.look(pixels, "training"),
            pixels[some],
        )

    def __len__(self) -> int:
        return len(self.windows)


@dataclass(frozen=True)
class JudgedSection:
    """A section to judge: real and generated patches, what was measured, and features of both kinds of picture."""

    painted: PaintedSection
    expressed: Expressed
    features: Mapping[str, Float[np.ndarray, "n d"]]

    @classmethod
    def of(
        cls,
        run: Path,
        cohort: Cohort,
        section: str,
        generator: Generator,
        settings: SamplerSettings,
        looker: Looker,
        most: int | None,
        noise_seed: int = 0,
    ) -> JudgedSection:
        """Paint (or take what is painted) and look."""
        painted = painted_section(run, cohort, section, generator, settings, seed=noise_seed, most=most)
        return cls(
            painted,
            Expressed.of(cohort, painted.windows),
            {
                "real": looker.look(painted.real, f"{section} real"),
                "generated": looker.look(painted.generated, f"{section} generated"),
            },
        )

    @property
    def barcodes(self) -> list[str]:
        """Of the spots, in order."""
        return [str(window.spot) for window in self.painted.windows]


@dataclass(frozen=True)
class Taught:
    """A classifier of pictures with the labels it learnt: index into its classes, -1 where it had none.

    Attributes
    ----------
    result
        Cross-validated on the training pictures; None when it could not be fitted.
    used
        (m,) training spots with a label that is learnt.
    labels
        (m,) of these spots.
    folds
        How they were held out.
    notes
        What was left out, and why.
    """

    classes: tuple[str, ...]
    result: CrossValidated | None
    used: Int64[np.ndarray, m]
    labels: Int64[np.ndarray, m]
    folds: Folds | None
    notes: tuple[str, ...]


def teach(training: TrainingTissue, names: Sequence[str | None], window_um: float) -> Taught:
    """Fit a classifier of pictures to labels of the training spots (None: no label)."""
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    notes = [
        f"{name}: {count} training spots, too few to learn (least {LEAST_SPOTS})"
        for name, count in counts.items()
        if count < LEAST_SPOTS
    ]
    classes = tuple(sorted(name for name, count in counts.items() if count >= LEAST_SPOTS))
    index = {name: i for i, name in enumerate(classes)}
    used = np.array([i for i, name in enumerate(names) if name in index], np.int64)
    labels = np.array([index[str(names[i])] for i in used], np.int64)
    if len(classes) < 2:
        notes.append(
            f"{len(classes)} class(es) among {len(used)} labelled training spots: nothing to tell apart"
        )
        return Taught(classes, None, used, labels, None, tuple(notes))
    folds = training_folds(training, used, window_um)
    result = cross_validate(training.features[used], labels, classes, folds)
    return Taught(classes, result, used, labels, folds, (*notes, *result.notes))


def training_folds(training: TrainingTissue, used: Int64[np.ndarray, m], window_um: float) -> Folds:
    """By patient, or by quarters of sections with a buffer of a window's diagonal: no pixel is on both sides."""
    return Folds.of(
        [training.patients[i] for i in used],
        [training.sections[i] for i in used],
        training.centres_um_yx[used],
        window_um * float(np.sqrt(2)),
    )


def names_of(called: Called) -> list[str | None]:
    """Names of the called classes; None for an unassigned spot."""
    return [called.classes[i] if i >= 0 else None for i in called.label]


def honesty_notes(cohort: Cohort, generator: Generator, judged: Sequence[str]) -> list[str]:
    """What must be said about judging these sections."""
    seen = [name for name in judged if name in generator.facts.trained_on]
    patients = {cohort.patients[name] for name in judged if name not in seen} & set(generator.facts.patients)
    notes = []
    if seen:
        notes.append(f"The generator was trained on {', '.join(seen)}: nothing is held out there.")
    if patients:
        notes.append(
            f"Patient {', '.join(sorted(patients))} has sections in training too: this is no patient generalisation."
        )
    for name in judged:
        dropped = cohort.sections[name].record.dropped
        if dropped:
            notes.append(f"{name}: left out {', '.join(f'{n} spots {why}' for why, n in dropped.items())}.")
    return notes


def scorer_note(scorer: ClassScorer) -> dict[str, Any]:
    """Which classes are scored and why the others are not, for JSON."""
    return {
        "scored": list(scorer.classes),
        "absent": dict(scorer.absent),
        "coherence": {
            name: {"markers": round(own, 4), "largest_control": round(control, 4)}
            for name, (own, control) in scorer.coherence.items()
        },
    }


def as_json(value: Any) -> Any:
    """NaN and infinities as null, numpy as plain values."""
    if isinstance(value, dict):
        return {str(key): as_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return json.loads(json.dumps(value))
