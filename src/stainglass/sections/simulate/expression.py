"""What the classes express: marker programmes over a background of household genes, counted with noise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stainglass.genes.markers import marker_programmes
from stainglass.genes.table import gene_id, id_of_symbol
from stainglass.sections.simulate.tissues import TISSUES

MARKER_SHARE = 0.35
"""Share of a class's RNA that its marker programmes hold; the rest is background."""
HYPOXIA_SHARE = 0.12
"""Share of RNA of the hypoxia programme where hypoxia is 1."""
DISPERSION = 0.25
"""Squared coefficient of variation of a gene beyond Poisson."""

_HOUSEHOLD = re.compile(
    r"^(RPL\d+[AXYL]?\d?|RPS\d+[AXYL]?|RPLP[012]|MT-(ND\d|CO\d|ATP\d|CYB|ND4L)|EEF1A1|EEF2|ACTB|ACTG1|B2M|GAPDH|TMSB4X|"
    r"TMSB10|FTL|FTH1|UBC|UBB|UBA52|FAU|TPT1|NDUF[ABSV]\d+|COX\d[A-C]\d?|UQCR[BCHQ]\w?|ATP5\w{1,3}|PSM[ABCDE]\d+|"
    r"EIF\d\w{0,2}|MRP[LS]\d+|HNRNP\w{1,3}|SRSF\d+|SF3[AB]\d|POLR2[A-L]|SNRP\w{1,3}|CCT\d|TOMM\d+|TIMM\d+\w?|VPS\d+\w?|"
    r"RAB\d+[AB]?|ARPC\d\w?|CAPZ\w\d?|YWHA[A-Z]|HSP90A[AB]1|HSPA[589]|CANX|CALR|PDIA\d|SEC61\w{1,2}|LAMP[12]|CTS[ABDL]|"
    r"UBE2[A-Z]\d?|KPN[AB]\d|RAN|RHO[AC]|CFL1|PFN1|MYL6|MYL12[AB]|TUB[AB]\d?\w?|VCP|XRCC[56]|DDX\d+\w?|PRDX\d|TXN|SOD1)$"
)


@dataclass(frozen=True)
class Expression:
    """Expression of a tissue's classes.

    Attributes
    ----------
    ids, symbols
        Genes, Ensembl id and symbol.
    classes
        Names of the classes.
    profile
        (classes, genes) share of each gene in a class's RNA; rows sum to 1.
    hypoxia
        (genes,) share of each gene in the RNA that hypoxia adds.
    rna
        (classes,) RNA of a fully covered spot, relative to the others.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    classes: tuple[str, ...]
    profile: NDArray[np.float64]
    hypoxia: NDArray[np.float64]
    rna: NDArray[np.float64]

    def expected(self, shares: pd.DataFrame, hypoxia: NDArray[np.float64] | float = 0.0) -> pd.DataFrame:
        """Expected share of every gene in spots of any composition.

        Parameters
        ----------
        shares
            (spots × classes) shares of the classes.
        hypoxia
            (spots,) from 0 to 1.

        Returns
        -------
        (spots × gene ids); rows sum to 1, or are 0 where nothing lies.
        """
        weight = shares[list(self.classes)].to_numpy(np.float64) * self.rna
        mixed = weight @ self.profile
        total = mixed.sum(axis=1, keepdims=True)
        mixed = np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0)
        lack = HYPOXIA_SHARE * np.broadcast_to(np.asarray(hypoxia, dtype=np.float64), len(shares))[:, None]
        mixed = (1 - lack) * mixed + lack * self.hypoxia * (total > 0)
        return pd.DataFrame(mixed, index=shares.index, columns=list(self.ids))


@lru_cache(maxsize=4)
def expression_of(tissue: str) -> Expression:
    """The expression of a tissue's classes; the same for every patient and seed."""
    programmes = marker_programmes()
    genes = {
        gene: symbol
        for symbol in sorted(id_of_symbol())
        if _HOUSEHOLD.match(symbol) and (gene := gene_id(symbol))
    }
    household = len(genes)
    for programme in programmes.values():
        genes.update(
            {gene: symbol for symbol in programme if (gene := gene_id(symbol)) and gene not in genes}
        )
    position = {gene: i for i, gene in enumerate(genes)}
    rng = np.random.default_rng(20210)  # the genes' levels are part of the tissue, not of a cohort's seed
    level = rng.lognormal(0.0, 1.3, len(genes))
    level[household:] = rng.lognormal(-2.5, 0.6, len(genes) - household)  # markers leak a little everywhere
    profile = []
    for one in TISSUES[tissue]:
        background = level * rng.lognormal(0.0, 0.12, len(genes))
        marker = sum(
            (w * _vector(dict(programmes[name]), position) for name, w in one.programmes.items()),
            np.zeros(len(genes)),
        )
        profile.append((1 - MARKER_SHARE) * background / background.sum() + MARKER_SHARE * marker)
    return Expression(
        ids=tuple(genes),
        symbols=tuple(genes.values()),
        classes=tuple(one.name for one in TISSUES[tissue]),
        profile=np.stack(profile),
        hypoxia=_vector(dict(programmes["hypoxia"]), position),
        rna=np.array([one.rna for one in TISSUES[tissue]]),
    )


def _vector(programme: dict[str, float], position: dict[str, int]) -> NDArray[np.float64]:
    vector = np.zeros(len(position))
    for symbol, weight in programme.items():
        gene = gene_id(symbol)
        if gene is not None:
            vector[position[gene]] += weight
    return np.asarray(vector / vector.sum())


def count(
    expression: Expression,
    shares: pd.DataFrame,
    hypoxia: NDArray[np.float64],
    nuclei: NDArray[np.int64],
    depth: float,
    rng: np.random.Generator,
) -> csr_matrix:
    """Draw counts of spots.

    Parameters
    ----------
    expression
        Of the tissue.
    shares, hypoxia
        Truth of the spots: (spots × classes) and (spots,).
    nuclei
        (spots,) number of nuclei in each.
    depth
        UMIs of a mean spot on tissue.

    Returns
    -------
    (spots, genes) counts: gamma-Poisson (negative binomial) round the expected level, with a depth that
    follows
    the cells in the spot and a capture that varies from gene to gene and from spot to spot.
    """
    level = expression.expected(shares, hypoxia).to_numpy()
    level = level * rng.lognormal(0.0, 0.15, level.shape[1])  # this run's capture
    cells = shares.to_numpy(np.float64) @ expression.rna * (0.6 + 0.4 * np.minimum(nuclei / 12.0, 2.0))
    size = (
        depth * cells / max(float(cells[cells > 0.1].mean()), 1e-9) if (cells > 0.1).any() else depth * cells
    )
    mean = level * (size * rng.lognormal(0.0, 0.25, len(size)))[:, None]
    shape = 1.0 / DISPERSION
    rate = np.divide(rng.gamma(shape, 1.0, mean.shape), shape) * mean
    return csr_matrix(rng.poisson(rate).astype(np.int32))
