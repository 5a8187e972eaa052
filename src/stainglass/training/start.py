"""Training that goes on from a finished generator: its networks, gene axis and latent space, on the same tissue or on yours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Denoiser, Recipe
from stainglass.errors import StainglassError
from stainglass.models.facts import GONE_ON, Facts
from stainglass.models.grow import grow_attention, grow_layers, is_own_unet
from stainglass.models.model_card import BEFORE
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.checkpoint import hash_of_weights

SAME_MPP = 0.05


@dataclass(frozen=True)
class Start:
    """A generator to go on from, its networks in single precision and ready to learn; the autoencoder rests.

    Attributes
    ----------
    fingerprint
        Its name and a hash of its weights, so that a run goes on with what it began with.
    """

    name: str
    pipeline: TissuePipeline
    fingerprint: str

    @property
    def facts(self) -> Facts:
        """What it knows of its world."""
        assert self.pipeline.facts is not None
        return self.pipeline.facts

    def gone_on(self, facts: Facts) -> Facts:
        """Facts of what was trained from here, with all that was learnt before: sections, patients, data, how."""
        before = self.facts
        told = {f"{BEFORE}{key}": value for key, value in before.training.items()}
        after = facts.having_seen(before)
        return replace(after, training={**after.training, GONE_ON: before.name, **told})


def fingerprint(name: str, pipeline: TissuePipeline) -> str:
    """A generator's name and a hash of its weights."""
    return f"{name} ({hash_of_weights(pipeline.autoencoder, pipeline.condnet, pipeline.denoiser)})"


def load_start(recipe: Recipe, cohort: Cohort, split: Split) -> Start | None:
    """The generator that ``recipe.start`` names, or None.

    Raises
    ------
    StainglassError
        When recipe, cohort or split do not fit it.
    """
    if recipe.start is None:
        return None
    pipeline = TissuePipeline.from_pretrained(recipe.start)
    start = Start(recipe.start, pipeline, fingerprint(recipe.start, pipeline))
    _refuse_other_windows(recipe, start.facts)
    _refuse_other_tissue(cohort, recipe.start, start.facts)
    refuse_seen(cohort, split, recipe.start, start.facts)
    for part in (pipeline.autoencoder, pipeline.condnet, pipeline.denoiser):
        nn.Module.to(part, torch.float32)
    grown = _grown(recipe, pipeline.denoiser)
    if grown is not pipeline.denoiser:
        _refuse_silence(recipe)
        pipeline.register_modules(denoiser=grown)
    for part in (pipeline.condnet, pipeline.denoiser):
        part.requires_grad_(True)
    return start


def _grown(recipe: Recipe, denoiser: Any) -> Any:
    """The denoiser with the attention and the layers that the recipe asks for and it lacks; itself where it lacks none."""
    torch.manual_seed(recipe.train_denoiser.seed)
    asked = recipe.denoiser
    if is_own_unet(denoiser) and asked.layers > Denoiser().layers:
        denoiser = grow_layers(denoiser, asked.layers)
    return denoiser if asked.attention == "coarse" else grow_attention(denoiser, asked.attention)


def _refuse_silence(recipe: Recipe) -> None:
    """New layers begin silent, and learn to speak only where the whole denoiser is trained."""
    stages = {stage.train for stage in recipe.train_denoiser.in_stages()}
    if "all" not in stages:
        raise StainglassError(
            f"recipe {recipe.name}",
            f"denoiser gives the start new layers, which training {', '.join(sorted(stages))} leaves silent",
            "Set train_denoiser.train=all, or leave denoiser.attention and denoiser.layers out",
        )


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


def refuse_seen(cohort: Cohort, split: Split, name: str, facts: Facts) -> None:
    """What a generator was trained on cannot be held out now; said before hours of training, not after."""
    seen = facts.seen_in(cohort, {*split.validation, *split.test}, split.shared_patients)
    if seen:
        raise StainglassError(
            cohort.path, f"its split holds out {', '.join(sorted(seen))}, which {name} was trained on",
            "Hold out others; or, where only the name is the same, rename yours in the manifest",
        )  # fmt: skip
