"""Three programmes that a Fréchet distance cannot see: hypoxia, immune infiltration, stromal remodelling.

Each is scored from expression as the mean standardised level of a published set of genes; the scale is fitted on
training spots. Levels are square roots of a gene's share of the counts, on which counting noise is even (Bartlett
1936).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from stainglass.analysis.classes import DETECTED, LEAST_MARKERS, Expressed, root_share
from stainglass.errors import StainglassError
from stainglass.genes.classes import tissue_classes
from stainglass.genes.gene_sets import HYPOXIA, TRANSITION, gene_sets
from stainglass.genes.table import gene_id

PROGRAMMES: Mapping[str, str] = MappingProxyType(
    {
        "hypoxia": "hallmark of hypoxia (Liberzon et al. 2015)",
        "immune": "immune infiltration: markers of T, B, plasma and myeloid cells",
        "stroma": "stromal remodelling: the hallmark of epithelial-mesenchymal transition, which in a tumour is "
        "mostly matrix laid and cut by fibroblasts (Isella et al. 2015)",
    }
)
"""Programme → which genes, in words."""


def programme_genes(name: str) -> dict[str, float]:
    """Ensembl id → weight of a programme's genes.

    Raises
    ------
    StainglassError
        When there is no such programme.
    """
    if name == "hypoxia":
        return dict(gene_sets()[HYPOXIA].weights)
    if name == "stroma":
        return dict(gene_sets()[TRANSITION].weights)
    if name == "immune":
        markers = tissue_classes().markers("immune")
        return {gene: weight for symbol, weight in markers.items() if (gene := gene_id(symbol))}
    raise StainglassError(name, "no such programme", f"Choose one of {', '.join(PROGRAMMES)}")


@dataclass(frozen=True)
class _Scale:
    """Columns of a programme's genes on the cohort's axis, their weights, and their scale on training spots."""

    columns: Int64[np.ndarray, k]
    weights: Float64[np.ndarray, k]
    mean: Float64[np.ndarray, k]
    std: Float64[np.ndarray, k]


@dataclass(frozen=True)
class ProgrammeScorer:
    """Programme scores, fitted on training spots and on nothing else.

    Attributes
    ----------
    scales
        Programme → its genes and their scale.
    absent
        Programme → why it is not scored.
    """

    scales: Mapping[str, _Scale]
    absent: Mapping[str, str]

    @classmethod
    def fit(cls, training: Expressed) -> ProgrammeScorer:
        """Fit on training spots; genes that hardly any of them shows are left out."""
        scales: dict[str, _Scale] = {}
        absent: dict[str, str] = {}
        totals, everywhere = training.totals(), np.asarray(training.measured.all(axis=0))
        for name in PROGRAMMES:
            genes = programme_genes(name)
            at = {training.axis.position[g]: w for g, w in genes.items() if g in training.axis.position}
            columns = np.array([c for c in at if everywhere[c]], np.int64)
            counts = training.columns(columns)
            columns = columns[(counts > 0).mean(axis=0) >= DETECTED]
            if len(columns) < LEAST_MARKERS:
                absent[name] = f"{len(columns)} of its {len(genes)} genes were found in the training tissue"
                continue
            level = root_share(training.columns(columns), totals)
            weights = np.array([at[int(c)] for c in columns])
            # A gene found in one spot in a hundred varies, so its deviation is above zero.
            scales[name] = _Scale(columns, weights, level.mean(axis=0), level.std(axis=0))
        return cls(MappingProxyType(scales), MappingProxyType(absent))

    def score(self, spots: Expressed) -> pd.DataFrame:
        """One row a spot, one column a programme: weighted mean z-score, 0 at the mean of the training spots.

        A gene that a section did not measure counts for nothing there; a section that measured none of a
        programme's genes scores NaN.
        """
        totals = spots.totals()
        found = {}
        for name, scale in self.scales.items():
            z = (root_share(spots.columns(scale.columns), totals) - scale.mean) / scale.std
            weights = scale.weights * spots.measured[spots.section][:, scale.columns]
            heard = weights.sum(axis=1)
            found[name] = np.where(heard > 0, (z * weights).sum(axis=1) / np.maximum(heard, 1e-12), np.nan)
        return pd.DataFrame(found)
