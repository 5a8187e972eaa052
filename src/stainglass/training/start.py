"""Training that goes on from a finished generator: its networks, gene axis and latent space, on the same tissue or on yours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.pipeline import EXPRESSION_OF, GONE_ON, TOOK_PART, Facts, TissuePipeline

SAME_MPP = 0.05
KEPT = (TOOK_PART, EXPRESSION_OF)
"""Of how it was trained before: what must never be forgotten."""


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

    def fingerprint(self) -> str:
        """Its name and a hash of its weights, so that a run goes on with what it began with."""
        digest = hashlib.sha256()
        for part in (self.pipeline.autoencoder, self.pipeline.condnet, self.pipeline.denoiser):
            for name, value in sorted(part.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.name} ({digest.hexdigest()[:10]})"

    def gone_on(self, facts: Facts) -> Facts:
        """Facts of what was trained from here, with all that was learnt before: sections, patients, data, how."""
        before = self.facts
        told = {f"before, {key}": value for key, value in before.training.items()}
        kept = {
            key: list(dict.fromkeys((*before.training.get(key, ()), *facts.training.get(key, ()))))
            for key in KEPT
        }
        return replace(
            facts,
            trained_on=tuple(dict.fromkeys((*facts.trained_on, *before.trained_on))),
            patients=tuple(sorted({*facts.patients, *before.patients})),
            data=" ".join(dict.fromkeys(text for text in (facts.data, before.data) if text)),
            stains=(*before.stains, *facts.stains),
            training={
                **facts.training,
                **{key: names for key, names in kept.items() if names},
                GONE_ON: before.name,
                **told,
            },
        )


def load_start(recipe: Recipe, cohort: Cohort, split: Split) -> Start | None:
    """The generator that ``recipe.start`` names, or None.

    Raises
    ------
    StainglassError
        When recipe, cohort or split do not fit it.
    """
    if recipe.start is None:
        return None
    start = Start(recipe.start, TissuePipeline.from_pretrained(recipe.start))
    _refuse_other_windows(recipe, start.facts)
    _refuse_other_tissue(cohort, recipe.start, start.facts)
    _refuse_seen(cohort, split, recipe.start, start.facts)
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


def _refuse_seen(cohort: Cohort, split: Split, name: str, facts: Facts) -> None:
    """What it was trained on cannot be held out now; said before hours of training, not after."""
    held_out = {*split.validation, *split.test}
    seen = facts.seen(held_out, (cohort.patients[one] for one in held_out), split.shared_patients)
    if seen:
        raise StainglassError(
            cohort.path, f"its split holds out {', '.join(sorted(seen))}, which {name} was trained on",
            "Hold out others; or, where only the name is the same, rename yours in the manifest",
        )  # fmt: skip
