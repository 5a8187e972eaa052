"""Classes of tissue: marker programmes put together, and the names that references and pathologists use for them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from stainglass.errors import StainglassError
from stainglass.genes.markers import marker_programmes

UNASSIGNED = "unassigned"
"""What a spot is called whose evidence is too weak for any class."""

GENE_WEIGHT = 0.7


@dataclass(frozen=True)
class TissueClasses:
    """The classes of ``data/classes.csv``.

    Attributes
    ----------
    programmes
        Class → its marker programmes.
    genes
        Class → further markers.
    of_reference, of_label
        Name in a table of cell types (or the truth of simulated tissue), or pathologist's word in lower case, →
        class.
    """

    programmes: Mapping[str, tuple[str, ...]]
    genes: Mapping[str, tuple[str, ...]]
    of_reference: Mapping[str, str]
    of_label: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Every class, in the table's order."""
        return tuple(self.programmes)

    def markers(self, name: str) -> dict[str, float]:
        """Symbol → weight of a class's genes; a gene of two programmes keeps its larger weight.

        Raises
        ------
        StainglassError
            When there is no such class.
        """
        if name not in self.programmes:
            raise StainglassError(name, "no such class", f"Choose one of {', '.join(self.programmes)}")
        found = dict.fromkeys(self.genes.get(name, ()), GENE_WEIGHT)
        for programme in self.programmes[name]:
            for symbol, weight in marker_programmes()[programme].items():
                found[symbol] = max(weight, found.get(symbol, 0.0))
        return found


@lru_cache(maxsize=1)
def tissue_classes() -> TissueClasses:
    """The table of classes that comes with stainglass."""
    text = files("stainglass.genes").joinpath("data/classes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#"))
    programmes: dict[str, list[str]] = {}
    genes: dict[str, list[str]] = {}
    names: dict[str, dict[str, str]] = {"reference": {}, "label": {}}
    for row in rows:
        if row["kind"] == "programme":
            programmes.setdefault(row["class"], []).append(row["name"])
        elif row["kind"] == "gene":
            genes.setdefault(row["class"], []).append(row["name"])
        else:
            key = row["name"].lower() if row["kind"] == "label" else row["name"]
            names[row["kind"]][key] = row["class"]
    return TissueClasses(
        MappingProxyType({name: tuple(found) for name, found in programmes.items()}),
        MappingProxyType({name: tuple(found) for name, found in genes.items()}),
        MappingProxyType(names["reference"]),
        MappingProxyType(names["label"]),
    )
