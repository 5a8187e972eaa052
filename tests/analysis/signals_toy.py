"""What tests of signals, figures and latent views share: a cheap look, real patches as painted ones, embeddings."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from stainglass.analysis.painted import PaintedSection
from stainglass.cohort.cohort import Cohort
from stainglass.genes.axis import GeneAxis
from stainglass.models.pipeline import TissuePipeline


def lively_pipeline(run_folder: Path) -> TissuePipeline:
    """The small generator, its last layer as loud as after a long training."""
    pipeline = TissuePipeline.from_pretrained(run_folder / "generator")
    torch.manual_seed(0)
    for parameter in pipeline.denoiser.conv_out.parameters():
        parameter.copy_(0.2 * torch.randn_like(parameter))
    return pipeline


def look(pixels: np.ndarray) -> np.ndarray:
    """Colour means and deviations of quarters: enough to tell skin from its holes."""
    n, side = len(pixels), pixels.shape[1] // 2
    quarters = pixels.reshape(n, 2, side, 2, side, 3).astype(np.float32)
    return np.concatenate([quarters.mean((2, 4)).reshape(n, -1), quarters.std((2, 4)).reshape(n, -1)], 1)


def as_painted(
    cohort: Cohort, section: str, axis: GeneAxis, generated: np.ndarray | None = None
) -> PaintedSection:
    """A section whose generated patches are given, or its own real ones."""
    windows = tuple(cohort.patches([section], 64))
    real = cohort.pixels(windows)
    centres = np.stack([w.centre_um_yx(cohort.mpp) for w in windows])
    fake = real if generated is None else generated
    return PaintedSection(section, section, cohort.mpp, windows, real, fake,
                          cohort.measured(windows, axis), axis, centres)  # fmt: skip


def write_embeddings(run: Path, cohort: Cohort, section: str, genes: list[str], seed: int = 0) -> Path:
    """As 'stainglass embed' writes them."""
    rng = np.random.default_rng(seed)
    names = list(cohort.sections[section].used_spots.obs_names)
    image, gene = (rng.normal(size=(len(names), 8)) for _ in range(2))
    gene = image + gene
    adata = ad.AnnData(obs=pd.DataFrame(index=names), uns={"clip": {"genes": genes}})
    adata.obsm["X_clip_image"] = image / np.linalg.norm(image, axis=1, keepdims=True)
    adata.obsm["X_clip_gene"] = gene / np.linalg.norm(gene, axis=1, keepdims=True)
    path = run / "embeddings" / f"{section}.h5ad"
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path)
    return path
