"""10x count matrices: HDF5 of any version, Matrix Market folders, compressed or not."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.sections.assemble import Counts

GENES = "Gene Expression"


@dataclass(frozen=True)
class TenxMatrix:
    """Counts, the files they came from, and how many features were no genes."""

    counts: Counts
    files: tuple[Path, ...]
    not_genes: int


def is_tenx_h5(path: Path) -> bool:
    """Whether an HDF5 file holds a 10x matrix (any version)."""
    try:
        with h5py.File(path) as file:
            return _group(file) is not None
    except OSError:
        return False


def _group(file: h5py.File) -> h5py.Group | None:
    """The group with the matrix: ``matrix`` since version 3, the genome's name before."""
    for group in file.values():
        if isinstance(group, h5py.Group) and {"barcodes", "data", "indices", "indptr", "shape"} <= set(group):
            return group
    return None


def read_tenx_h5(path: Path) -> TenxMatrix:
    """Read ``*_feature_bc_matrix.h5``."""
    try:
        with h5py.File(path) as file:
            group = _group(file)
            if group is None:
                raise StainglassError(path, "no 10x matrix in this HDF5 file", "Give *_feature_bc_matrix.h5")
            features = group.get("features", group)
            shape = group["shape"][:]
            # Stored by barcode: what is compressed columns (genes × barcodes) for 10x is compressed rows
            # for us.
            matrix = csr_matrix(
                (group["data"][:], group["indices"][:], group["indptr"][:]),
                shape=(int(shape[1]), int(shape[0])),
            )
            barcodes = _text(group["barcodes"])
            names = _text(features["name" if "name" in features else "gene_names"])
            ids = _text(features["id" if "id" in features else "genes"])
            kinds = _text(features["feature_type"]) if "feature_type" in features else None
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise StainglassError(
            path, f"the matrix is cut short or damaged ({error})", "Copy the file again and compare its size"
        ) from error
    return _genes_only(matrix, barcodes, names, ids, kinds, (path,))


def _text(dataset: h5py.Dataset) -> list[str]:
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in dataset[:]]


def read_mtx(matrix_file: Path) -> TenxMatrix:
    """Read a Matrix Market file with its barcodes and features (or genes) beside it, ``.gz`` or not."""
    head = matrix_file.name[: matrix_file.name.index("matrix.mtx")]
    barcodes_file = _beside(matrix_file, head, ("barcodes.tsv",))
    features_file = _beside(matrix_file, head, ("features.tsv", "genes.tsv"))
    try:
        matrix = csr_matrix(scipy.io.mmread(matrix_file))
        barcodes = [row[0] for row in _rows(barcodes_file)]
        features = _rows(features_file)
    except (OSError, EOFError, ValueError, StopIteration, OverflowError) as error:
        raise StainglassError(
            matrix_file,
            f"the matrix is cut short or damaged ({error})",
            "Copy the folder again and compare its sizes",
        ) from error
    if matrix.shape == (len(features), len(barcodes)):
        matrix = csr_matrix(matrix.T)
    elif matrix.shape != (len(barcodes), len(features)):
        raise StainglassError(
            matrix_file,
            f"the matrix is {matrix.shape[0]} × {matrix.shape[1]} but there are {len(features)} features and "
            f"{len(barcodes)} barcodes",
            "Check that the three files belong together",
        )
    names = [row[min(1, len(row) - 1)] for row in features]
    ids = [row[0] for row in features]
    kinds = [row[2] for row in features] if all(len(row) > 2 for row in features) else None
    return _genes_only(matrix, barcodes, names, ids, kinds, (matrix_file, barcodes_file, features_file))


def _beside(matrix_file: Path, head: str, names: Sequence[str]) -> Path:
    for name in names:
        for ending in ("", ".gz"):
            path = matrix_file.with_name(f"{head}{name}{ending}")
            if path.is_file():
                return path
    raise StainglassError(
        matrix_file.parent, f"no {head}{names[0]} beside {matrix_file.name}", "Copy the whole matrix folder"
    )


def _rows(path: Path) -> list[list[str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        return [line.rstrip("\r\n").split("\t") for line in handle if line.strip()]


def _genes_only(
    matrix: csr_matrix,
    barcodes: list[str],
    names: list[str],
    ids: list[str],
    kinds: list[str] | None,
    files: tuple[Path, ...],
) -> TenxMatrix:
    """Leave out antibodies, guides and other features that are no genes."""
    if kinds is None or all(kind == GENES for kind in kinds):
        return TenxMatrix(Counts(matrix, barcodes, names, ids), files, 0)
    kept = np.flatnonzero([kind == GENES for kind in kinds])
    if not len(kept):
        raise StainglassError(
            files[0], "the matrix holds no gene expression", "Give the gene expression matrix"
        )
    counts = Counts(matrix[:, kept], barcodes, [names[i] for i in kept], [ids[i] for i in kept])
    return TenxMatrix(counts, files, len(kinds) - len(kept))
