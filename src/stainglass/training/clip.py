"""CLIP's own stage: image and genes aligned, before there is a generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.models.clip import FACTS_FILE, ClipFacts, TissueCLIP
from stainglass.models.texture import texture_numbers
from stainglass.models.towers import CONVNET, load_tower
from stainglass.training.align import Align, Pairs, fit_linear
from stainglass.training.fit import variable_genes
from stainglass.training.loop import train


def train_clip(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
) -> TissueCLIP | None:
    """Train the run's CLIP, or None when the recipe has none.

    Parameters
    ----------
    folder
        ``clip/`` of the run; the result lies in ``model/``. A finished one is loaded.
    """
    if recipe.clip is None:
        return None
    if (folder / "model" / FACTS_FILE).is_file():
        return TissueCLIP.load(folder / "model")
    settings, genes, loop, size = recipe.clip, recipe.genes, recipe.train_clip, recipe.windows.size_px
    axis = variable_genes(cohort, split.train, genes.genes)
    pairs = Pairs(cohort, split.train, axis, genes, loop, size)
    frozen = None if settings.tower == CONVNET else load_tower(settings.tower, settings.revision)
    features = pairs.use_features(frozen, folder) if frozen is not None else None
    torch.manual_seed(loop.seed)
    clip = TissueCLIP(
        len(axis), genes.input, genes.width, genes.tokens, genes.top_k, settings.tower, settings.revision,
        0 if features is None else features.shape[1], settings.widths, settings.image_px, settings.dim, settings.dropout,
        settings.linear, settings.linear_share,
        texture_numbers(size) + (0 if features is None else features.shape[1]), genes.components,
    )  # fmt: skip
    if features is not None:
        clip.fit_tower(features)
    clip.encoder.fit(torch.from_numpy(np.concatenate(pairs.counts)), axis.ids)
    trained = train(Align(clip, loop), pairs, loop, folder, "aligning image and genes", on_preview)
    assert isinstance(trained, Align)
    if settings.linear:
        fit_linear(trained.clip, cohort, split.train, axis, recipe.windows)
    trained.clip.facts = ClipFacts(
        axis.ids, axis.symbols, cohort.mpp, size, recipe.windows.reach_um, recipe.windows.max_spots, split.train,
        tuple(sorted({cohort.patients[name] for name in split.train})), None if frozen is None else frozen.name,
    )  # fmt: skip
    trained.clip.save(folder / "model")
    return TissueCLIP.load(folder / "model")
