"""Training that goes on from a finished generator: its networks, gene axis and latent space, on the same tissue or on yours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.pipeline import Facts, TissuePipeline

SAME_MPP = 0.05


@dataclass(frozen=True)
class Start:
    """A generator to go on from, its networks in single precision and ready to learn; the autoencoder rests."""

    name: str
    pipeline: TissuePipeline

    @property
    def facts(self) -> Facts:
        """What it knows of its world."""
        assert self.pipeline.facts is not None
        return self.pipeline.facts

    def trained_on(self, split: Split) -> tuple[str, ...]:
        """All that the new generator will have seen: this split's training sections, and those before."""
        return tuple(dict.fromkeys((*split.train, *self.facts.trained_on)))


def load_start(recipe: Recipe, cohort: Cohort) -> Start | None:
    """The generator that ``recipe.start`` names, or None.

    Raises
    ------
    StainglassError
        When recipe or cohort do not fit it.
    """
    if recipe.start is None:
        return None
    start = Start(recipe.start, TissuePipeline.from_pretrained(recipe.start))
    _refuse_other_windows(recipe, start.facts)
    _refuse_other_tissue(cohort, recipe.start, start.facts)
    for part in (start.pipeline.autoencoder, start.pipeline.condnet, start.pipeline.denoiser):
        nn.Module.to(part, torch.float32)
    for part in (start.pipeline.condnet, start.pipeline.denoiser):
        part.requires_grad_(True)
    if not torch.cuda.is_available():
        start.pipeline.denoiser.to(memory_format=torch.channels_last)
    return start


def _refuse_other_windows(recipe: Recipe, facts: Facts) -> None:
    wanted: dict[str, tuple[Any, Any]] = {
        "windows.reach_um": (recipe.windows.reach_um, facts.reach_um),
        "windows.max_spots": (recipe.windows.max_spots, facts.max_spots),
        "genes.told": (recipe.genes.told, facts.told),
    }
    for key, (ours, its) in wanted.items():
        if ours != its:
            raise StainglassError(
                f"recipe {recipe.name}", f"{key} is {ours}, {recipe.start} was trained with {its}",
                f"Set {key}={its}, or train without start",
            )  # fmt: skip


def _refuse_other_tissue(cohort: Cohort, name: str, facts: Facts) -> None:
    if abs(cohort.mpp / facts.mpp - 1) > SAME_MPP:
        raise StainglassError(
            cohort.path, f"has {cohort.mpp:g} µm/px, {name} paints {facts.mpp:g}",
            f"Prepare the cohort with --mpp {facts.mpp:g}",
        )  # fmt: skip
    shared = set(cohort.axis.ids) & set(facts.gene_ids)
    if not shared:
        raise StainglassError(
            cohort.path, f"measures none of the {len(facts.gene_ids)} genes {name} hears",
            "Check the species and that genes are named by Ensembl id or symbol",
        )  # fmt: skip
