"""Spots and their patches in a run's CLIP space: computed, written beside the run, and searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.genes.normalise import log_normalised
from stainglass.models.clip import TissueCLIP
from stainglass.progress import progress_bar

LEAST_GENES = 0.5
"""Share of CLIP's genes a section must have measured."""

FEW_EXPRESSED = 50
TOP_GENES = 10


@dataclass(frozen=True)
class Embedded:
    """Patches of sections and their spots, row by row, as unit vectors.

    Attributes
    ----------
    windows
        One a spot.
    images, genes
        float32 (N, D).
    """

    windows: tuple[Window, ...]
    images: Float32[np.ndarray, "n d"]
    genes: Float32[np.ndarray, "n d"]


def embed_sections(clip: TissueCLIP, cohort: Cohort, sections: Sequence[str]) -> Embedded:
    """Both vectors of every used spot of these sections.

    Raises
    ------
    StainglassError
        When the cohort has another µm/px, lacks CLIP's genes, or a section has no spot.
    """
    facts = clip.facts
    assert facts is not None
    if abs(cohort.mpp / facts.mpp - 1) > 0.05:
        raise StainglassError(
            cohort.path,
            f"has {cohort.mpp:g} µm/px, this CLIP looks at {facts.mpp:g}",
            f"Prepare the cohort with --mpp {facts.mpp:g}",
        )
    windows: list[Window] = []
    images, genes = [], []
    total = sum(int(cohort.sections[name].record.used) for name in sections)
    with progress_bar("embedding", total) as advance:
        for name in sections:
            section = cohort.sections[name]
            _, measured = section.counts_on(facts.axis)
            _refuse_another_axis(cohort, name, float(measured.mean()), len(facts.gene_ids))
            some = cohort.patches([name], facts.window_px)
            if not some:
                raise StainglassError(
                    cohort.path, f"no spot on the tissue of {name}", "Look at its proof image"
                )
            told = cohort.conditions(some, facts.axis, facts.reach_um, facts.max_spots)
            one = np.zeros(len(some), np.int64)
            images.append(clip.embed_images(cohort.pixels(some), one, advance))
            genes.append(clip.embed_genes(told, one))
            windows += some
    return Embedded(tuple(windows), np.concatenate(images), np.concatenate(genes))


def _refuse_another_axis(cohort: Cohort, section: str, share: float, genes: int) -> None:
    if share < LEAST_GENES:
        raise StainglassError(
            f"{cohort.path} {section}",
            f"measured {share:.0%} of the {genes} genes this CLIP reads",
            "Give sections of the panel it was trained on, or align anew",
        )


def write_embeddings(clip: TissueCLIP, cohort: Cohort, sections: Sequence[str], folder: Path) -> list[Path]:
    """Write ``<section>.h5ad`` with ``obsm["X_clip_image"]`` and ``obsm["X_clip_gene"]``; returns the paths."""
    facts = clip.facts
    assert facts is not None
    written = []
    for name in sections:
        found = embed_sections(clip, cohort, [name])
        spots = cohort.sections[name].used_spots
        table = ad.AnnData(
            obs=spots.obs.copy(),
            obsm={
                "X_clip_image": found.images,
                "X_clip_gene": found.genes,
                "spatial": np.asarray(spots.obsm["spatial"]),
                "spatial_um_yx": np.asarray(spots.obsm["spatial_um_yx"]),
            },
            uns={"clip": {"genes": list(facts.gene_ids), "mpp": facts.mpp, "window_px": facts.window_px}},
        )
        path = folder / f"{name}.h5ad"
        with atomic_path(path) as temporary:
            table.write_h5ad(temporary)
        written.append(path)
    return written


def read_embeddings(path: Path, clip: TissueCLIP) -> ad.AnnData:
    """Read what `write_embeddings` wrote.

    Raises
    ------
    StainglassError
        When it was written by a CLIP on another gene axis.
    """
    table = ad.read_h5ad(path)
    told = table.uns.get("clip", {}).get("genes")
    if clip.facts is None or told is None or tuple(map(str, told)) != clip.facts.gene_ids:
        raise StainglassError(
            path, "embeddings of another gene axis than this CLIP's", "Run 'stainglass embed' again"
        )
    return table


def few_genes(cohort: Cohort, sections: Sequence[str], top_k: int = FEW_EXPRESSED) -> dict[str, float]:
    """Sections in which the median spot expresses fewer than ``top_k`` genes → that median."""
    found = {}
    for name in sections:
        expressed = np.asarray((cohort.sections[name].used_spots.X > 0).sum(1)).ravel()
        if len(expressed) and np.median(expressed) < top_k:
            found[name] = float(np.median(expressed))
    return found


def nearest(
    query: Float32[np.ndarray, d], keys: Float32[np.ndarray, "n d"], k: int
) -> tuple[list[int], list[float]]:
    """Indices and cosines of the k nearest unit vectors, nearest first."""
    cosine = keys @ query
    order = np.argsort(-cosine, kind="stable")[:k]
    return [int(i) for i in order], [float(cosine[i]) for i in order]


def retrieved_table(
    cohort: Cohort, searched: Embedded, at: Sequence[int], cosines: Sequence[float]
) -> pd.DataFrame:
    """One line a hit: section, spot, cosine, and the genes that stand out most over its section."""
    rows = []
    for i, cosine in zip(at, cosines):
        window = searched.windows[i]
        rows.append(
            {
                "section": window.section,
                "spot": window.spot,
                "patient": cohort.patients[window.section],
                "cosine": round(cosine, 4),
                "top_genes": " ".join(top_genes(cohort, window)),
            }
        )
    return pd.DataFrame(rows)


def top_genes(cohort: Cohort, window: Window) -> list[str]:
    """The genes whose log expression in the window's spot lies highest over the section's mean."""
    section = cohort.sections[window.section]
    spots = section.used_spots
    level = log_normalised(np.asarray(spots.X.toarray(), np.float32))
    row = list(spots.obs_names).index(window.spot)
    over = level[row] - level.mean(0)
    return [section.genes.symbols[g] for g in np.argsort(-over, kind="stable")[:TOP_GENES]]


def montage(pixels: UInt8[np.ndarray, "n h w 3"], gap: int = 8) -> UInt8[np.ndarray, "h w 3"]:
    """Patches side by side on white, a wider gap behind the first, which is the query."""
    height = pixels.shape[1]
    parts: list[np.ndarray] = []
    for i, patch in enumerate(pixels):
        parts += [patch, np.full((height, gap * (4 if i == 0 else 1), 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], 1)
