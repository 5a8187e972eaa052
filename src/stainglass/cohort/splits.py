"""Splits: which sections train and which are held out, grouped by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from stainglass.config import Split as SplitSettings
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Split:
    """Section ids by part; ``shared_patients`` are those that were allowed, aloud, on both sides.

    ``kind`` tells how it was made, as `stainglass.config.Split` has it; None where that is not known.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    shared_patients: tuple[str, ...] = ()
    kind: str | None = None

    def part(self, name: str) -> tuple[str, ...]:
        """Section ids of ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def check(self, patients: Mapping[str, str], where: str | Path) -> None:
        """Refuse a split that names unknown sections, names one twice, or has a patient on both sides unannounced.

        Parameters
        ----------
        patients
            Section id → patient.
        """
        named = [*self.train, *self.validation, *self.test]
        for section in named:
            if section not in patients:
                raise StainglassError(
                    where, f"section {section!r} is not in the cohort", f"Choose among: {', '.join(patients)}"
                )
            if named.count(section) > 1:
                raise StainglassError(
                    where, f"section {section!r} stands in the split twice", "Name each section once"
                )
        if not self.train:
            raise StainglassError(where, "no section to train on", "Name at least one under split.train")
        if not self.validation and not self.test:
            raise StainglassError(
                where, "no section is held out", "Name at least one under split.validation or split.test"
            )
        both = shared_patients(self, patients)
        unannounced = sorted(set(both) - set(self.shared_patients))
        if unannounced:
            raise StainglassError(
                where,
                f"patient {', '.join(unannounced)} stands on both sides of the split",
                "Group by patient, or set split.allow_shared_patient=true and the card will say so",
            )


def shared_patients(split: Split, patients: Mapping[str, str]) -> tuple[str, ...]:
    """Patients with sections both in training and held out."""
    train = {patients[s] for s in split.train}
    held = {patients[s] for s in (*split.validation, *split.test)}
    return tuple(sorted(train & held))


def make_split(patients: Mapping[str, str], settings: SplitSettings, seed: int, where: str | Path) -> Split:
    """The split the recipe names, or patients drawn at random.

    At random: a share of the patients (at least one) is held out; when that is two or more, the first is
    for validation and the others for test.

    Raises
    ------
    StainglassError
        When the cohort has one patient only, or the named split leaks.
    """
    if settings.train or settings.validation or settings.test:
        named = Split(settings.name, settings.train, settings.validation, settings.test, kind="fixed")
        known = set(patients).issuperset((*named.train, *named.validation, *named.test))
        if settings.allow_shared_patient and known:
            named = replace(named, shared_patients=shared_patients(named, patients))
        named.check(patients, where)
        return named
    drawn = sorted(set(patients.values()))
    if len(drawn) < 2:
        raise StainglassError(
            where,
            f"one patient only ({drawn[0] if drawn else 'none'}), so no patient can be held out",
            "Add sections of another patient; training without divides each section into blocks with a buffer between, "
            "or name sections under split.train and split.validation with split.allow_shared_patient=true",
        )
    np.random.default_rng(seed).shuffle(drawn)
    held = drawn[: held_out_of(len(drawn), settings)]
    validation = held[:1] if len(held) > 1 else []
    test = held[1:] if len(held) > 1 else held

    def of(group: list[str]) -> tuple[str, ...]:
        return tuple(s for s, p in patients.items() if p in group)

    parts = of([p for p in drawn if p not in held]), of(validation), of(test)
    split = Split(settings.name, *parts, kind="random")
    split.check(patients, where)
    return split


def held_out_of(patients: int, settings: SplitSettings) -> int:
    """How many of so many patients are held out when they are drawn: a share of them, at least one, and not all."""
    return min(max(round(settings.held_out_share * patients), 1), patients - 1)


def write_split(split: Split, folder: Path) -> None:
    """Write ``<name>.json``."""
    write_json(folder / f"{split.name}.json", {"format": FORMAT, **asdict(split)})


def read_split(path: Path, patients: Mapping[str, str]) -> Split:
    """Read a split and check it against the cohort, so that an edited file cannot leak unannounced."""
    tree = read_json(path, "split")
    if not isinstance(tree, dict) or tree.pop("format", None) != FORMAT:
        raise StainglassError(path, f"not a split of format {FORMAT}", "Run 'stainglass prepare' again")
    try:
        train, validation, test = (tuple(tree[key]) for key in ("train", "validation", "test"))
        shared = tuple(tree.get("shared_patients", ()))
        split = Split(str(tree["name"]), train, validation, test, shared, tree.get("kind"))
    except (TypeError, KeyError) as error:
        raise StainglassError(path, f"not a split ({error})", "Run 'stainglass prepare' again") from None
    split.check(patients, path)
    return split
