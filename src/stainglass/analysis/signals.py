"""Signals: a value a spot with its name and origin.

A signal is a gene (log1p CP10k), a published gene set, or the agreement of picture and expression in a CLIP of the
run. What is fitted (means of genes) is fitted on training sections alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from stainglass.analysis.clip_signal import clip_similarity
from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.errors import StainglassError
from stainglass.genes.axis import UNMAPPED, GeneAxis
from stainglass.genes.gene_sets import PROGENY, find_gene_set, gene_sets
from stainglass.genes.normalise import COUNTS_PER
from stainglass.genes.table import ensembl_id, gene_id

CLIP = "clip"

HOUSEKEEPING = ("MT-", "RPL", "RPS")
"""Never chosen by default: they tell the quality of a spot before its tissue."""

LEAST_STD = 0.1
"""Deviation below which a gene's z-score would be noise blown up."""


@dataclass(frozen=True)
class SignalName:
    """A signal asked for, known to exist in the cohort.

    Attributes
    ----------
    name
        As it is written on the command line: ``KRT5``, ``HALLMARK_HYPOXIA``, ``PROGENy:Hypoxia``, ``clip``.
    title, unit, source
        For people: what it is called, what its values are, where it comes from.
    kind
        What it is computed from.
    weights
        Ensembl id → weight; empty for ``clip``.
    """

    name: str
    title: str
    unit: str
    source: str
    kind: Literal["gene", "set", "clip"]
    weights: Mapping[str, float]

    @property
    def stem(self) -> str:
        """The name as part of a file's name."""
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in self.name)


def find_signal(name: str, axis: GeneAxis) -> SignalName:
    """What a name on the command line means on a cohort's gene axis.

    Raises
    ------
    StainglassError
        When it is no gene of the cohort and no gene set (near names are suggested), or none of a set's genes
        were measured.
    """
    if name.lower() == CLIP:
        return SignalName(
            CLIP, "CLIP similarity", "cosine", "picture against expression, CLIP of this run", "clip", {}
        )
    found = find_gene_set(name)
    if found is not None:
        weights = {gene: weight for gene, weight in found.weights.items() if gene in axis.position}
        if not weights:
            raise StainglassError(
                found.name,
                f"none of its {len(found.weights)} genes was measured",
                "Choose a gene or another set",
            )
        unit = "weighted mean z-score" if found.name.startswith(PROGENY) else "mean z-score"
        measured = f"{len(weights)} of {len(found.weights)} genes measured"
        return SignalName(found.name, found.title, unit, f"{found.source}; {measured}", "set", weights)
    gene = _gene_on(axis, name)
    if gene is None:
        raise StainglassError(
            name,
            "no gene of this cohort, and no gene set",
            _suggestion(name, axis, gene_id(name) is not None),
        )
    symbol = axis.symbols[axis.position[gene]]
    return SignalName(symbol, symbol, "log1p CP10k", f"gene {gene}", "gene", {gene: 1.0})


def _gene_on(axis: GeneAxis, name: str) -> str | None:
    """Id of a gene on the axis by symbol (whatever its case), former symbol or id."""
    for written in (name, name.upper()):
        gene = ensembl_id(written) or gene_id(written) or UNMAPPED + written
        if gene in axis.position:
            return gene
    return None


def _suggestion(name: str, axis: GeneAxis, is_gene: bool) -> str:
    known = {n.lower(): n for n in (*axis.symbols, *gene_sets(), CLIP)}
    near = [known[n] for n in difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.6)]
    near += [n for n in gene_sets() if len(name) > 3 and name.lower() in n.lower() and n not in near][:3]
    if near:
        return f"Did you mean {', '.join(near)}"
    also = "It is a human gene but was not measured here; choose" if is_gene else "Choose"
    return f"{also} a gene such as {', '.join(axis.symbols[:3])}, a hallmark set or a PROGENy pathway"


def log_levels(section: PreparedSection, genes: Sequence[str]) -> Float64[np.ndarray, "spots k"]:
    """log1p of counts per 10,000 of some genes in the used spots; NaN where the section lacks the gene.

    Raises
    ------
    StainglassError
        When a used spot has no counts at all.
    """
    counts = section.used_spots.X
    total = np.asarray(counts.sum(axis=1), np.float64).ravel()
    if (total <= 0).any():
        empty = section.used_spots.obs_names[int(np.argmin(total))]
        raise StainglassError(
            section.path,
            f"{int((total <= 0).sum())} of {len(total)} used spots have no counts (the first is {empty})",
            "Run 'stainglass prepare' again: it leaves such spots out",
        )
    column = [section.genes.position.get(gene, -1) for gene in genes]
    levels = np.full((len(total), len(genes)), np.nan)
    known = [i for i, c in enumerate(column) if c >= 0]
    if known:
        picked = np.asarray(counts[:, [column[i] for i in known]].toarray(), np.float64)
        levels[:, known] = np.log1p(picked / total[:, None] * COUNTS_PER)
    return levels


@dataclass(frozen=True)
class GeneScale:
    """Mean and deviation of genes over the spots of the training sections; z-scores stand on them."""

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, cohort: Cohort, train: Sequence[str], names: Sequence[SignalName]) -> GeneScale:
        """Fit on training sections, for the genes of the sets among ``names``."""
        genes = sorted({gene for name in names if name.kind == "set" for gene in name.weights})
        levels = np.concatenate([log_levels(cohort.sections[s], genes) for s in train])
        known = np.isfinite(levels)
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, levels, 0).sum(0) / n
        std = np.sqrt(np.where(known, levels - mean, 0).__pow__(2).sum(0) / n)
        seen = known.any(0)
        return cls(
            {g: float(m) for g, m, s in zip(genes, mean, seen) if s},
            {g: max(float(d), LEAST_STD) for g, d, s in zip(genes, std, seen) if s},
        )


def measure(
    name: SignalName, section: PreparedSection, barcodes: Sequence[str], scale: GeneScale, run: Path | None
) -> Float64[np.ndarray, n]:
    """A signal at spots of a section.

    Parameters
    ----------
    barcodes
        Spots, in the wanted order.
    run
        Folder of the run, whose ``embeddings/`` hold CLIP's vectors.

    Raises
    ------
    StainglassError
        When the section lacks the genes, a spot has no counts, or the run has no CLIP embeddings of the section.
    """
    if name.kind == "clip":
        return clip_similarity(run, section, barcodes)
    place = {barcode: i for i, barcode in enumerate(section.used_spots.obs_names)}
    at = np.array([place[barcode] for barcode in barcodes], dtype=np.int64)
    genes = [g for g in name.weights if name.kind == "gene" or g in scale.mean]
    levels = log_levels(section, genes)[at]
    known = ~np.isnan(levels).all(0) if len(at) else np.ones(len(genes), bool)
    if not known.any():
        raise StainglassError(
            section.id, f"{name.name} was not measured there", "Show other sections, or another signal"
        )
    if name.kind == "gene":
        return levels[:, 0]
    z = [
        (levels[:, i] - scale.mean[g]) / scale.std[g] * name.weights[g]
        for i, g in enumerate(genes)
        if known[i]
    ]
    size = sum(abs(name.weights[g]) for i, g in enumerate(genes) if known[i])
    return np.asarray(np.sum(z, axis=0) / size)
