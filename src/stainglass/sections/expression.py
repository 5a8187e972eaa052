"""Counts that come without a picture: they paint nothing, but a gene encoder can learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from stainglass.errors import StainglassError
from stainglass.genes.axis import map_genes
from stainglass.sections.anndata_ import anndata_counts, is_anndata, patient_in
from stainglass.sections.assemble import Counts
from stainglass.sections.checks import checked_counts
from stainglass.sections.names import name_of
from stainglass.sections.st import is_st_folder, patient_of, st_counts, st_expression_ids


@dataclass(frozen=True)
class Expression:
    """Raw counts of a section without a picture.

    Attributes
    ----------
    spots
        Spots × genes; ``var`` has Ensembl ids and ``symbol``. Spots without counts are left out.
    """

    id: str
    patient: str
    spots: anndata.AnnData


def read_expression(path: Path) -> list[Expression]:
    """Sections without a picture in an ST folder (``counts/`` that no image goes with), or in ``.h5ad`` files.

    Parameters
    ----------
    path
        An ST folder, an ``.h5ad`` file, or a folder of such files; each of one patient, named in ``obs["patient"]``.

    Raises
    ------
    StainglassError
        When there is none, what is there is not raw counts, or a file does not tell its one patient.
    """
    if not path.exists():
        raise StainglassError(path, "no such file or folder", "Check the path")
    if path.is_dir() and is_st_folder(path):
        found = [
            _checked(st_counts(path, section), section, patient_of(section), path)
            for section in st_expression_ids(path)
        ]
    else:
        files = sorted(path.glob("*.h5ad")) if path.is_dir() else [path]
        found = [_of_file(file) for file in files if is_anndata(file)]
    if not found:
        raise StainglassError(
            path,
            "no counts without a picture here: neither counts/ of an ST folder that no image goes with, nor .h5ad files",
            "Leave prepare.expression out, or give such a folder",
        )
    return found


def _of_file(path: Path) -> Expression:
    try:
        spots = anndata.read_h5ad(path)
    except Exception as error:  # what a broken store raises depends on the byte that broke
        raise StainglassError(
            path, f"not a readable AnnData ({error})", "Write it again with anndata ≥ 0.8"
        ) from error
    name, patient = name_of(path), patient_in(spots)
    if patient is None:
        raise StainglassError(
            path, 'obs["patient"] does not name one patient, so nobody can tell whether that patient is held out',
            "Give a file a patient, each with obs[\"patient\"]",
        )  # fmt: skip
    return _checked(anndata_counts(spots, str(path)), name, patient, path)


def _checked(counts: Counts, name: str, patient: str, where: Path) -> Expression:
    """On the gene axis of its own names, with the same checks as a section's."""
    told = f"{where}/{name}"
    matrix = checked_counts(counts.matrix, told)
    genes = map_genes(list(counts.names), None if counts.ids is None else list(counts.ids), told)
    matrix = genes.collapse(matrix)
    var = pd.DataFrame({"symbol": genes.axis.symbols}, index=list(genes.axis.ids))
    spots = anndata.AnnData(X=matrix, obs=pd.DataFrame(index=list(counts.barcodes)), var=var)
    kept = np.asarray(matrix.sum(axis=1)).ravel() > 0
    return Expression(name, patient, spots[kept].copy())
