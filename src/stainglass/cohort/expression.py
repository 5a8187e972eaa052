"""Counts without pictures, kept beside the sections of a cohort: ``expression/<id>.h5ad``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata
import h5py
import numpy as np
from jaxtyping import Bool, Float32

from stainglass.cohort.blocks import PARTS
from stainglass.cohort.splits import Split
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.genes.axis import GeneAxis, align_counts
from stainglass.progress import console
from stainglass.sections.expression import Expression, read_expression

FOLDER = "expression"
BLOCKS = tuple(f".{part}" for part in PARTS)


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
        path = folder / f"{one.id}.h5ad"
        if (cohort / "sections" / f"{one.id}.zarr").is_dir():
            raise StainglassError(
                source, f"{one.id} is a section of this cohort, with a picture", "Leave it out, or give it another name"
            )  # fmt: skip
        digest = _digest(one)
        if path.is_file():
            if _fact(path, "sha256") != digest:
                raise StainglassError(
                    path,
                    f"holds other counts than {source}",
                    "Delete it to take the new ones, and train anew",
                )
            continue
        one.spots.uns |= {"patient": one.patient, "sha256": digest}
        with atomic_path(path) as temporary:
            one.spots.write_h5ad(temporary)
    console.print(f"  counts without pictures: {len(found)} sections", highlight=False)


def _digest(one: Expression) -> str:
    """Of its counts, genes and patient."""
    matrix = one.spots.X
    digest = hashlib.sha256("\n".join((one.patient, *one.spots.obs_names, *one.spots.var_names)).encode())
    for part in (matrix.data, matrix.indices, matrix.indptr):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _fact(path: Path, name: str) -> str:
    try:
        with h5py.File(path) as file:
            told: bytes = file[f"uns/{name}"][()]
            return told.decode()
    except (OSError, KeyError) as error:
        raise StainglassError(
            path, f"not counts that a cohort keeps ({error})", "Delete it and prepare again"
        ) from error


def kept_expression(cohort: Path) -> list[KeptExpression]:
    """What a cohort has of them.

    Raises
    ------
    StainglassError
        For a file that was not written here.
    """
    paths = sorted((cohort / FOLDER).glob("*.h5ad"))
    return [KeptExpression(path, _fact(path, "patient")) for path in paths]


def learnable(found: list[KeptExpression], split: Split, patients: dict[str, str]) -> list[KeptExpression]:
    """Those that training may see: no section of the cohort that does not train, nor any of a patient who does not.

    Parameters
    ----------
    patients
        Of all sections of the cohort, in the split or not: what is in no part of it may be judged another time.
    """
    ours = set(patients) - set(split.train)
    ours |= {
        name.rsplit(".", 1)[0] for name in patients if name.endswith(BLOCKS)
    }  # a block's section is both parts
    hidden = set(patients.values()) - {patients[name] for name in split.train}
    return [one for one in found if one.id not in ours and one.patient not in hidden]
