"""A folder of synthetic patches that trainers of classifiers read: a plan, painted, with labels and provenance.

Painting only fills a plan (`stainglass.synthesis.patch_plan`), so it goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, sha256_of, sweep_temporaries, write_json
from stainglass.models.facts import Facts
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import progress_bar
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.paint import paint_batch
from stainglass.synthesis.patch_plan import LabelledSpots, Plan
from stainglass.synthesis.spots import conditions_of
from stainglass.synthesis.stamp import SENTENCE, Stamp, read_stamp, write_picture

FORMAT = 1
TABLE, PROVENANCE = "labels.csv", "provenance.json"
CHUNK = 256
"""Patches whose conditions are gathered at once."""


def refuse_another_scale(cohort: Cohort, facts: Facts) -> None:
    """A generator paints at its own µm/px; conditions of a cohort at another would be of other places."""
    if abs(cohort.mpp / facts.mpp - 1) > 0.05:
        raise StainglassError(
            cohort.path,
            f"has {cohort.mpp:g} µm/px, the model {facts.name!r} paints {facts.mpp:g}",
            f"Prepare the cohort with --mpp {facts.mpp:g}",
        )


def hash_of(folder: Path) -> str:
    """SHA-256 over the weights and settings of a generator, file by file."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json") and p.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Patch:
    """One patch of the folder: where it lies, of which spot, in which noise."""

    path: str
    spot: int
    noise_seed: int


class PatchFolder:
    """``OUT/CLASS/PATCH.png``, ``labels.csv`` and ``provenance.json``: what torchvision's ImageFolder and its like read.

    Parameters
    ----------
    painting
        What the pixels and labels depend on besides the plan; a folder of another painting is not gone on with.
    """

    def __init__(
        self, out: Path, spots: LabelledSpots, plan: Plan, seed: int, painting: Mapping[str, Any]
    ) -> None:
        self.out, self.spots, self.plan = out, spots, plan
        self.painting = json.loads(json.dumps(painting))
        self.folders = _unlike(sorted(set(spots.labels)))
        names = list(_unlike([f"{w.section}_{w.spot}" for w in spots.windows]).values())
        self.patches = [
            Patch(
                f"{self.folders[spots.labels[i]]}/{names[i]}_n{seed + repeat}.png", int(i), int(seed + repeat)
            )
            for i, repeat in zip(plan.spot, plan.repeat)
        ]
        self._refuse_others()
        self.stamps = {
            p.path: stamp for p in self.patches if (stamp := _stamp_of(out / p.path, p)) is not None
        }

    @property
    def missing(self) -> list[Patch]:
        """Patches that are not painted yet, in an order that reads section by section."""
        found = [p for p in self.patches if p.path not in self.stamps]
        return sorted(found, key=lambda p: (p.noise_seed, self.spots.windows[p.spot].section, p.spot))

    def _refuse_others(self) -> None:
        """Whoever trains on the folder takes every picture in it: none may be of another plan."""
        if not self.out.exists():
            return
        if not self.out.is_dir() or (any(self.out.iterdir()) and not (self.out / PROVENANCE).is_file()):
            raise StainglassError(self.out, "is no folder of synthetic patches", "Choose another --out")
        if not any(self.out.iterdir()):
            return
        tree = read_json(self.out / PROVENANCE, "provenance of patches")
        if not isinstance(tree, dict) or _with_settings_since(tree.get("painting")) != self.painting:
            raise StainglassError(
                self.out,
                "holds patches of another generator, sampler, seed, cohort or source of labels",
                "Choose another --out",
            )
        own = {p.path for p in self.patches}
        foreign = sorted({p.relative_to(self.out).as_posix() for p in self.out.glob("*/[!.]*.png")} - own)
        if foreign:
            raise StainglassError(
                self.out,
                f"holds {len(foreign)} patches that are not of this plan (first: {foreign[0]})",
                "Choose another --out, or ask for as many patches or more, in the same way",
            )

    def paint(
        self,
        cohort: Cohort,
        generator: Generator,
        settings: SamplerSettings,
        batch: int,
        about: Mapping[str, Any],
    ) -> Path:
        """Paint what is missing; returns the table's path.

        Parameters
        ----------
        about
            What else the provenance says (versions, command).
        """
        self.out.mkdir(parents=True, exist_ok=True)
        for folder in (self.out, *(self.out / name for name in self.folders.values())):
            sweep_temporaries(folder)
        # Before the first patch, so that a folder that was stopped says what it is.
        self._write_provenance(about, finished=False)
        missing = self.missing
        with progress_bar("painting patches", len(self.patches), len(self.patches) - len(missing)) as advance:
            for some, conditions in self._batches(cohort, generator, missing, batch):
                windows = [self.spots.windows[p.spot] for p in some]
                pixels = paint_batch(generator.pipeline, windows, conditions, some[0].noise_seed, settings)
                for i, patch in enumerate(some):
                    self._write(patch, pixels[i], conditions.barcodes[i], generator.facts.name, cohort.mpp)
                advance(len(some))
        table = self.out / TABLE
        with atomic_path(table) as temporary:
            self.table(cohort.mpp).to_csv(temporary, index=False)
        self._write_provenance(about, finished=True)
        return table

    def _batches(
        self, cohort: Cohort, generator: Generator, missing: Sequence[Patch], batch: int
    ) -> Iterator[tuple[Sequence[Patch], Conditions]]:
        """Patches of one noise seed, at most ``batch`` at once; conditions are gathered for many, but not for all."""
        for _, group in groupby(missing, key=lambda p: p.noise_seed):
            same = list(group)
            for first in range(0, len(same), CHUNK):
                chunk = same[first : first + CHUNK]
                told = conditions_of(cohort, [self.spots.windows[p.spot] for p in chunk], generator.facts)
                for start in range(0, len(chunk), batch):
                    some = chunk[start : start + batch]
                    yield some, told.take(range(start, start + len(some)))

    def _write(
        self,
        patch: Patch,
        pixels: UInt8[np.ndarray, "size size 3"],
        told: tuple[str, ...],
        model: str,
        mpp: float,
    ) -> None:
        window = self.spots.windows[patch.spot]
        y, x = window.centre_um_yx(mpp)
        stamp = Stamp(model, window.section, told, patch.noise_seed, mpp, (float(y), float(x)),
                      "matched" if told else "null", sampler=self.painting["sampler"])  # fmt: skip
        write_picture(pixels, stamp, self.out / patch.path)
        self.stamps[patch.path] = stamp

    def table(self, mpp: float) -> pd.DataFrame:
        """One row a patch."""
        spots, rows = self.spots, []
        keys = dict.fromkeys(key for found in spots.groups for key in found)
        for patch in self.patches:
            i, stamp = patch.spot, self.stamps[patch.path]
            rows.append(
                {
                    "path": patch.path,
                    "label": spots.labels[i],
                    "confidence": round(float(spots.confidence[i]), 4),
                    "section": stamp.section,
                    "patient": spots.patients[i],
                    **{f"group_{key}": spots.groups[i].get(key, "") for key in keys},
                    "barcode": spots.windows[i].spot,
                    "noise_seed": stamp.seed,
                    "condition": stamp.condition,
                    "spots": " ".join(stamp.spots),
                    "generator": self.painting["generator"],
                    "mpp": mpp,
                    "y_um": round(stamp.centre_um_yx[0], 2),
                    "x_um": round(stamp.centre_um_yx[1], 2),
                }
            )
        return pd.DataFrame(rows)

    def counts(self) -> pd.DataFrame:
        """Patches a class (rows) and patient (columns)."""
        at = [p.spot for p in self.patches]
        label, patient = ([column[i] for i in at] for column in (self.spots.labels, self.spots.patients))
        return pd.crosstab(pd.Series(label, name="class"), pd.Series(patient, name="patient"))

    def _write_provenance(self, about: Mapping[str, Any], finished: bool) -> None:
        counts = self.counts()
        tree = {
            "format": FORMAT,
            "synthetic": True,
            "sentence": SENTENCE,
            "finished": finished,
            "patches": len(self.patches),
            "spots": len(set(self.plan.spot.tolist())),
            "classes": {folder: name for name, folder in self.folders.items()},
            "counts": {
                str(name): {str(k): int(v) for k, v in row.items()} for name, row in counts.iterrows()
            },
            "labels_from": self.spots.source,
            "notes": list(self.plan.notes),
            "painting": self.painting,
            **about,
        }
        write_json(self.out / PROVENANCE, tree)


def _with_settings_since(painting: Any) -> Any:
    """A painting as an earlier version noted it, with the default of each of the sampler's settings that came since."""
    if not isinstance(painting, dict) or not isinstance(painting.get("sampler"), dict):
        return painting
    return {**painting, "sampler": {**asdict(SamplerSettings()), **painting["sampler"]}}


def painting_of(
    generator_folder: Path, settings: SamplerSettings, cohort: Cohort, spots: LabelledSpots, seed: int
) -> dict[str, Any]:
    """What pixels and labels depend on: another of these is another set of patches."""
    labels = "\n".join(f"{w.section} {w.spot} {name}" for w, name in zip(spots.windows, spots.labels))
    return {
        "generator": hash_of(generator_folder),
        "sampler": asdict(settings),
        "seed": seed,
        "mpp": cohort.mpp,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
        "sections": {
            name: cohort.sections[name].record.inputs
            for name in dict.fromkeys(w.section for w in spots.windows)
        },
    }


def _unlike(names: Sequence[str]) -> dict[str, str]:
    """Names as files may be called, all different even where upper and lower case are the same."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_.") or "none"
        number = 1
        while (shown := plain if number == 1 else f"{plain}_{number}").lower() in taken:
            number += 1
        taken.add(shown.lower())
        found[name] = shown
    return found


def _stamp_of(path: Path, patch: Patch) -> Stamp | None:
    """The stamp of a patch that is there and whole; None where it must be painted."""
    try:
        stamp = read_stamp(path)
    except (StainglassError, OSError, ValueError, TypeError):
        return None
    return stamp if stamp.seed == patch.noise_seed else None
