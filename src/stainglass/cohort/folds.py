"""Several splits that together hold out every patient once: k folds, or one patient at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stainglass.cohort.splits import Split, read_split, write_split
from stainglass.config import Split as SplitSettings
from stainglass.errors import StainglassError


def make_folds(
    patients: Mapping[str, str],
    strata: Mapping[str, str],
    settings: SplitSettings,
    seed: int,
    where: str | Path,
) -> tuple[Split, ...]:
    """The folds; fold i's patients are its test part, all others train.

    For k folds the patients, shuffled by ``seed``, are dealt out stratum after stratum, so that neither the folds nor any
    stratum's shares in them differ by more than one patient.

    Parameters
    ----------
    patients
        Section id → patient.
    strata
        Patient → stratum; empty when nothing is stratified.
    where
        What an error names.

    Raises
    ------
    StainglassError
        When there are fewer patients than folds, or only one.
    """
    names = sorted(set(patients.values()))
    alone = settings.kind == "leave-one-patient-out"
    number = len(names) if alone else settings.folds
    if len(names) < max(number, 2):
        told = "one patient is" if len(names) == 1 else f"{len(names)} patients are"
        fewer = f"Set split.folds to {len(names)} or fewer"
        raise StainglassError(
            where,
            f"{told} too few for {'folds' if alone else f'{number} folds'}",
            fewer if len(names) > 1 else "Add sections of another patient",
        )
    if not alone:
        np.random.default_rng(seed).shuffle(names)
        names.sort(key=lambda patient: strata.get(patient, ""))  # stable: shuffled within a stratum
    return tuple(_fold(settings, i, set(names[i::number]), patients) for i in range(number))


def _fold(settings: SplitSettings, i: int, held: set[str], patients: Mapping[str, str]) -> Split:
    name = SplitSettings(kind=settings.kind, folds=settings.folds, fold=i).name
    train = tuple(section for section, patient in patients.items() if patient not in held)
    return Split(name, train, (), tuple(section for section, patient in patients.items() if patient in held))


def strata_of(
    patients: Mapping[str, str],
    groups: Mapping[str, Mapping[str, str]],
    settings: SplitSettings,
    where: str | Path,
) -> dict[str, str]:
    """Patient → value of the column ``split.stratify``; of a patient with several, all of them together.

    Parameters
    ----------
    groups
        Section id → further columns of the manifest.

    Raises
    ------
    StainglassError
        When the recipe asks for a column that no section has.
    """
    column = settings.stratify
    if column is None:
        return {}
    found: dict[str, set[str]] = {}
    for section, patient in patients.items():
        if column in groups[section]:
            found.setdefault(patient, set()).add(groups[section][column])
    if not found and "stratify" in settings.model_fields_set and column != "site":
        known = sorted({name for one in groups.values() for name in one})
        raise StainglassError(
            where,
            f"no section has a {column!r}",
            f"Set split.stratify to one of: {', '.join(known) or 'null'}",
        )
    return {patient: " + ".join(sorted(values)) for patient, values in found.items()}


def prepare_folds(
    folds: tuple[Split, ...], settings: SplitSettings, folder: Path, patients: Mapping[str, str]
) -> Split:
    """Write the folds that are not there; the one the recipe asks for.

    Raises
    ------
    StainglassError
        When there is no such fold, or others lie there: of another seed or of other patients. Mixed, they would hold out
        a patient twice, or never.
    """
    if settings.fold >= len(folds):
        raise StainglassError(
            f"split.fold={settings.fold}",
            f"there are {len(folds)} folds",
            f"Choose one from 0 to {len(folds) - 1}",
        )
    missing = []
    for fold in folds:
        path = folder / f"{fold.name}.json"
        if not path.is_file():
            missing.append(fold)
        elif read_split(path, patients) != fold:
            raise StainglassError(
                path,
                "holds a fold of other patients or of another seed",
                f"Delete {folder}/{fold.name.partition('-')[0]}-*.json to deal them anew",
            )
    for fold in missing:
        write_split(fold, folder)
    return folds[settings.fold]
