"""Counts without pictures, kept beside the sections of a cohort: ``expression/<id>.h5ad``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata
import h5py
import numpy as np
from jaxtyping import Bool, Float32

from stainglass.cohort.splits import Split
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.genes.axis import GeneAxis, align_counts
from stainglass.progress import console
from stainglass.sections.expression import read_expression

FOLDER = "expression"


@dataclass(frozen=True)
class KeptExpression:
    """One section's counts; nothing is read before it is asked for."""

    path: Path
    patient: str

    @property
    def id(self) -> str:
        """Name of the section."""
        return self.path.stem

    @cached_property
    def spots(self) -> anndata.AnnData:
        """Spots × genes, raw counts on its own genes."""
        return anndata.read_h5ad(self.path)

    def counts_on(self, axis: GeneAxis) -> tuple[Float32[np.ndarray, "spots g"], Bool[np.ndarray, g]]:
        """Raw counts on another gene axis (unmeasured genes are zero), and which were measured."""
        genes = GeneAxis(tuple(self.spots.var_names), tuple(self.spots.var["symbol"].astype(str)))
        counts, measured = align_counts(self.spots.X, genes, axis)
        return np.asarray(counts.toarray(), dtype=np.float32), measured


def add_expression(source: Path, cohort: Path) -> None:
    """Put counts without pictures beside a cohort's sections; those that are there are kept."""
    folder = cohort / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = read_expression(source)
    for one in found:
        if (folder / f"{one.id}.h5ad").is_file():
            continue
        one.spots.uns["patient"] = one.patient
        with atomic_path(folder / f"{one.id}.h5ad") as temporary:
            one.spots.write_h5ad(temporary)
    console.print(f"  counts without pictures: {len(found)} sections", highlight=False)


def kept_expression(cohort: Path) -> list[KeptExpression]:
    """What a cohort has of them.

    Raises
    ------
    StainglassError
        For a file that was not written here.
    """
    found = []
    for path in sorted((cohort / FOLDER).glob("*.h5ad")):
        try:
            with h5py.File(path) as file:
                patient = file["uns/patient"][()].decode()
        except (OSError, KeyError) as error:
            raise StainglassError(
                path, f"not counts that a cohort keeps ({error})", "Delete it and prepare again"
            ) from error
        found.append(KeptExpression(path, patient))
    return found


def learnable(found: list[KeptExpression], split: Split, patients: dict[str, str]) -> list[KeptExpression]:
    """Those that training may see: not a held-out section, nor one of a patient who is held out altogether."""
    held_out = {*split.validation, *split.test}
    hidden = {patients[name] for name in held_out} - {patients[name] for name in split.train}
    return [one for one in found if one.id not in held_out and one.patient not in hidden]
