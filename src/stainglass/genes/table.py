"""The tables behind the gene axis: Ensembl ids and symbols of GENCODE v44, and renamed symbols."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

_ENSEMBL = re.compile(r"^(?:[A-Za-z0-9]+_+)?(ENS[A-Z]{0,4}G)(R?)(\d{10,11})(?:\.\d+)?(?:_PAR_Y)?$")


def ensembl_id(name: str) -> str | None:
    """The Ensembl gene id in ``name`` without version, genome prefix or PAR_Y mark; None when it is none.

    Ids of other species (``ENSMUSG…``) are kept as they are. The two old ways to write the Y copy of a
    pseudoautosomal gene (``ENSG00000182378.15_PAR_Y``, ``ENSGR0000182378``) give the id of the X copy:
    no assay with short reads tells the two apart.
    """
    found = _ENSEMBL.match(name)
    if found is None:
        return None
    stem, par_y, number = found.groups()
    return f"{stem}{'0' if par_y else ''}{number}"


@lru_cache(maxsize=1)
def symbol_of_id() -> Mapping[str, str]:
    """Ensembl id → symbol, in GENCODE's own (chromosomal) order; an unnamed gene's symbol is its id."""
    packed = files("stainglass.genes").joinpath("data/gencode_v44.csv.gz").read_bytes()
    table: dict[str, str] = {}
    for line in gzip.decompress(packed).decode("ascii").splitlines():
        number, symbol = line.split(",")
        gene = f"ENSG{int(number):011d}"
        table[gene] = symbol or gene
    return MappingProxyType(table)


@lru_cache(maxsize=1)
def id_of_symbol() -> Mapping[str, str]:
    """Symbol → Ensembl id.

    343 symbols of GENCODE v44 have several ids (copies on the Y chromosome, read-through transcripts,
    re-annotated pseudogenes, families of small RNA). The id with the lowest number stands for the symbol:
    it is the one that was given first, so it is in the older annotations that matrices were counted with
    (``MATR3`` → ENSG00000015479, not ENSG00000280987; ``CD99`` → the X copy), and the rule depends on no
    file's order. It is applied to bare symbols only: where a section brings ids, they are kept.
    """
    table: dict[str, str] = {}
    for gene, symbol in symbol_of_id().items():
        if symbol not in table or gene < table[symbol]:
            table[symbol] = gene
    return MappingProxyType(table)


@lru_cache(maxsize=1)
def aliases() -> Mapping[str, str]:
    """Former symbol → symbol in GENCODE v44, from ``data/aliases.csv``."""
    text = files("stainglass.genes").joinpath("data/aliases.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if line and not line.startswith("#"))
    next(rows)  # the header
    return MappingProxyType({row[0]: row[1] for row in rows})


def gene_id(symbol: str) -> str | None:
    """The Ensembl id of a current or former human symbol, or None."""
    table = id_of_symbol()
    if symbol in table:
        return table[symbol]
    current = aliases().get(symbol)
    return table.get(current) if current is not None else None
