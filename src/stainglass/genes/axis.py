"""Gene axes: which gene each column of a count matrix is, and how matrices are put on one axis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.genes.table import ensembl_id, gene_id, symbol_of_id

UNMAPPED = "symbol:"
"""What stands before a name that is no known gene; such a column is kept, under its own name."""

_COPY = re.compile(r"^(.+)[.-]\d{1,2}$")


@dataclass(frozen=True)
class GeneAxis:
    """An ordered set of genes.

    Attributes
    ----------
    ids
        Ensembl ids without version, each once; ``symbol:NAME`` where a name could not be mapped.
    symbols
        The symbol of each id, for people; not necessarily unique.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.symbols):
            raise ValueError(f"{len(self.ids)} ids but {len(self.symbols)} symbols")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("a gene stands on the axis twice")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def position(self) -> dict[str, int]:
        """Id → column."""
        return {gene: column for column, gene in enumerate(self.ids)}

    def columns_of(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Columns of the genes among ``names`` (symbols, former symbols or ids) that stand on this axis."""
        found = (self.position.get(ensembl_id(name) or gene_id(name) or UNMAPPED + name) for name in names)
        return np.array([column for column in found if column is not None], dtype=np.int64)


@dataclass(frozen=True)
class MappedGenes:
    """Where the columns of a matrix go on its gene axis, and what was found on the way.

    Attributes
    ----------
    axis
        The axis, in order of first appearance.
    column
        (n,) column of ``axis`` for every input column; several inputs may share one.
    unmapped
        Input names that are no known gene.
    renamed
        Number of names known only under a former symbol.
    merged
        Number of input columns that fell on a column already taken.
    """

    axis: GeneAxis
    column: NDArray[np.int64]
    unmapped: tuple[str, ...]
    renamed: int
    merged: int

    def collapse(self, counts: csr_matrix) -> csr_matrix:
        """Sum the columns that are the same gene: (spots, n) → (spots, genes), raw counts."""
        selector = csr_matrix(
            (np.ones(len(self.column), dtype=np.float32), (np.arange(len(self.column)), self.column)),
            shape=(len(self.column), len(self.axis)),
        )
        summed = csr_matrix(counts @ selector)
        summed.sort_indices()
        return summed

    def notice(self) -> str | None:
        """One line about what was unmapped, renamed or summed; None when nothing was."""
        parts = []
        if self.unmapped:
            share = len(self.unmapped) / len(self.column)
            first = ", ".join(self.unmapped[:5]) + (", …" if len(self.unmapped) > 5 else "")
            parts.append(
                f"{len(self.unmapped)} of {len(self.column)} gene names ({share:.1%}) are not in GENCODE v44 "
                f"and kept under their own name ({first})"
            )
        if self.renamed:
            parts.append(f"{self.renamed} former symbols renamed")
        if self.merged:
            parts.append(f"{self.merged} duplicate gene columns summed")
        return "; ".join(parts) or None


def map_genes(names: Sequence[str], ids: Sequence[str] | None, where: str) -> MappedGenes:
    """Map a section's gene names to Ensembl ids.

    Parameters
    ----------
    names
        (n,) symbols, or Ensembl ids with or without version.
    ids
        (n,) Ensembl ids when the section brings them as well; they win over the names.
    where
        The section or file, for errors.

    Raises
    ------
    StainglassError
        When there is no gene, or ``ids`` and ``names`` differ in length.
    """
    if not names:
        raise StainglassError(
            where, "the matrix has no genes", "Check that the feature file belongs to the matrix"
        )
    if ids is not None and len(ids) != len(names):
        raise StainglassError(
            where, f"{len(names)} gene names but {len(ids)} gene ids", "Check that the feature file is whole"
        )
    known = frozenset(names)
    position: dict[str, int] = {}
    symbols: list[str] = []
    column = np.empty(len(names), dtype=np.int64)
    unmapped: list[str] = []
    renamed = 0
    for i, name in enumerate(names):
        gene = (ensembl_id(ids[i]) if ids is not None else None) or ensembl_id(name)
        if gene is None:
            gene, by_alias = _gene_of_name(name, known)
            renamed += by_alias
        if gene is None:
            unmapped.append(name)
            gene = UNMAPPED + name
        if gene not in position:
            position[gene] = len(position)
            symbols.append(symbol_of_id().get(gene, name))
        column[i] = position[gene]
    axis = GeneAxis(tuple(position), tuple(symbols))
    return MappedGenes(axis, column, tuple(unmapped), renamed, len(names) - len(axis))


def _gene_of_name(name: str, known: frozenset[str]) -> tuple[str | None, bool]:
    """Id of a symbol, and whether it is a former one.

    ``MATR3.1`` and ``MATR3-1`` are what R's ``make.unique`` and scanpy write for a second column named
    ``MATR3``; they count as that symbol when the plain one stands in the same matrix.
    """
    gene = gene_id(name)
    if gene is not None:
        return gene, symbol_of_id()[gene] != name
    copy = _COPY.match(name)
    if copy is not None and copy.group(1) in known:
        return gene_id(copy.group(1)), False
    return None, False


def union_axis(axes: Iterable[GeneAxis]) -> GeneAxis:
    """The genes of all axes, in order of first appearance."""
    symbol: dict[str, str] = {}
    for axis in axes:
        for gene, name in zip(axis.ids, axis.symbols, strict=True):
            symbol.setdefault(gene, name)
    return GeneAxis(tuple(symbol), tuple(symbol.values()))


def align_counts(
    counts: csr_matrix, from_axis: GeneAxis, to_axis: GeneAxis
) -> tuple[csr_matrix, NDArray[np.bool_]]:
    """Put counts on another axis.

    Parameters
    ----------
    counts
        (spots, genes of ``from_axis``) raw counts.
    from_axis, to_axis
        The axis the counts are on, and the one they are wanted on.

    Returns
    -------
    counts
        (spots, genes of ``to_axis``): zero where a gene was not measured.
    measured
        (genes of ``to_axis``,) True where the gene stands on ``from_axis``: a zero there is a count.
    """
    if counts.shape[1] != len(from_axis):
        raise ValueError(f"counts have {counts.shape[1]} columns but their axis has {len(from_axis)} genes")
    target = np.array([to_axis.position.get(gene, -1) for gene in from_axis.ids], dtype=np.int64)
    kept = np.flatnonzero(target >= 0)
    selector = csr_matrix(
        (np.ones(len(kept), dtype=counts.dtype), (kept, target[kept])), shape=(len(from_axis), len(to_axis))
    )
    aligned = csr_matrix(counts @ selector)
    aligned.sort_indices()
    measured = np.zeros(len(to_axis), dtype=np.bool_)
    measured[target[kept]] = True
    return aligned, measured
