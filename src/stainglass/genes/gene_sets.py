"""Published gene sets: the MSigDB hallmark collection and PROGENy's pathways, on Ensembl ids."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from stainglass.genes.table import gene_id

HALLMARK, PROGENY = "HALLMARK_", "PROGENy:"
"""How the names of the two collections begin."""

HYPOXIA, TRANSITION = "HALLMARK_HYPOXIA", "HALLMARK_EPITHELIAL_MESENCHYMAL_TRANSITION"
"""Sets that other rooms name."""


@dataclass(frozen=True)
class GeneSet:
    """A named set of genes with weights.

    Attributes
    ----------
    name
        ``HALLMARK_HYPOXIA``, ``PROGENy:Hypoxia``.
    source
        Where it was published.
    weights
        Ensembl id → weight, each gene once; 1 for every gene of a hallmark set.
    unmapped
        Published symbols that are no known gene today.
    """

    name: str
    source: str
    weights: Mapping[str, float]
    unmapped: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name for people: ``Hypoxia (hallmark)``."""
        if self.name.startswith(HALLMARK):
            words = self.name.removeprefix(HALLMARK).replace("_", " ").lower()
            return f"{words[:1].upper()}{words[1:]} (hallmark)"
        return f"{self.name.removeprefix(PROGENY)} (PROGENy)"


@lru_cache(maxsize=1)
def gene_sets() -> Mapping[str, GeneSet]:
    """All gene sets that come with stainglass, by name: 50 hallmark sets, 14 PROGENy pathways."""
    found = {
        name: _of_symbols(name, "MSigDB hallmark", dict.fromkeys(genes, 1.0)) for name, genes in _hallmark()
    }
    pathways: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(_lines("progeny.csv")):
        pathways.setdefault(row["pathway"], {})[row["gene"]] = float(row["weight"])
    for pathway, weights in pathways.items():
        found[PROGENY + pathway] = _of_symbols(PROGENY + pathway, "PROGENy, 100 genes a pathway", weights)
    return MappingProxyType(found)


def find_gene_set(name: str) -> GeneSet | None:
    """The set of this name, whatever its case; None when there is none."""
    return gene_sets().get(_by_lower_case().get(name.lower(), ""))


@lru_cache(maxsize=1)
def _by_lower_case() -> Mapping[str, str]:
    return {name.lower(): name for name in gene_sets()}


def _hallmark() -> Iterator[tuple[str, list[str]]]:
    for line in _lines("hallmark.tsv"):
        name, *genes = line.split("\t")
        yield name, genes


def _lines(table: str) -> list[str]:
    text = files("stainglass.genes").joinpath(f"data/{table}").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _of_symbols(name: str, source: str, weights: Mapping[str, float]) -> GeneSet:
    """Former symbols are renamed; of two that are one gene today, the first (heavier) weight stands."""
    by_id: dict[str, float] = {}
    unmapped = []
    for symbol, weight in weights.items():
        gene = gene_id(symbol)
        if gene is None:
            unmapped.append(symbol)
        else:
            by_id.setdefault(gene, weight)
    return GeneSet(name, source, MappingProxyType(by_id), tuple(unmapped))
