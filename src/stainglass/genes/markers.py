"""Marker programmes: which genes stand for a kind of cell or a state."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from stainglass.errors import StainglassError
from stainglass.genes.table import gene_id


@lru_cache(maxsize=1)
def marker_programmes() -> Mapping[str, Mapping[str, float]]:
    """Programme → {symbol: weight in (0, 1]}, from ``data/markers.csv``."""
    text = files("stainglass.genes").joinpath("data/markers.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#"))
    programmes: dict[str, dict[str, float]] = {}
    for row in rows:
        programmes.setdefault(row["programme"], {})[row["gene"]] = float(row["weight"])
    return MappingProxyType({name: MappingProxyType(genes) for name, genes in programmes.items()})


def marker_ids(programme: str) -> tuple[str, ...]:
    """Ensembl ids of a programme's genes.

    Raises
    ------
    StainglassError
        When there is no such programme.
    """
    programmes = marker_programmes()
    if programme not in programmes:
        raise StainglassError(programme, "no such marker programme", f"Choose one of {', '.join(programmes)}")
    return tuple(gene for symbol in programmes[programme] if (gene := gene_id(symbol)) is not None)
