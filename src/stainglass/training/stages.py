"""The stages of training a generator, and putting it together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.builtin import resolve_autoencoder
from stainglass.models.facts import FACTS_FILE, Facts, read_facts
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.stable_diffusion import find_checkpoint
from stainglass.training.autoencoder import train_autoencoder
from stainglass.training.clip import train_clip
from stainglass.training.denoiser import refuse_compiling, told_sections, train_denoiser
from stainglass.training.encode import latent_space
from stainglass.training.facts import facts_of, trained_on_these
from stainglass.training.processes import by_the_first, is_first, processes
from stainglass.training.run_notes import same_checkpoint, timed
from stainglass.training.select import ready_to_select
from stainglass.training.start import load_start, refuse_seen


def train_generator(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    run: Path,
    data: str = "",
    on_preview: Callable[[Path], None] | None = None,
) -> TissuePipeline:
    """Both stages and the finished generator in ``run/generator``; what is finished is not done again.

    Of several processes (see `stainglass.training.processes`) all train the denoiser.

    Parameters
    ----------
    data
        A sentence on the data and its terms, for the model card.
    """
    if (run / "generator" / FACTS_FILE).is_file():
        return _finished(run, cohort, split)
    refuse_compiling(recipe.train_denoiser)
    _refuse_nowhere_to_move(recipe, told_sections(split, recipe.train_denoiser))
    lent = _lender(recipe)
    if lent is not None:
        refuse_seen(cohort, split, lent.name, lent)
    start, source = load_start(recipe, cohort, split), None
    if start is not None:
        same_checkpoint(run / "checkpoint.json", start.fingerprint)
    if recipe.denoiser.source is not None:  # before anything is trained for it
        checkpoint = find_checkpoint(recipe.denoiser.source, recipe.denoiser.revision)
        checkpoint.condition_width()
        source = same_checkpoint(run / "checkpoint.json", checkpoint.name)
    timing = run / "timing.json"
    clip = timed(
        timing,
        "clip",
        lambda: by_the_first(lambda: train_clip(cohort, split, recipe, run / "clip", on_preview)),
    )
    autoencoder = timed(
        timing,
        "autoencoder",
        lambda: by_the_first(
            lambda: train_autoencoder(cohort, split, recipe, run / "autoencoder", on_preview, start)
        ),
    )
    space = timed(
        timing,
        "encode",
        lambda: latent_space(cohort, split, recipe, autoencoder, None if start is None else start.facts),
    )
    trained = timed(
        timing,
        "denoiser",
        lambda: train_denoiser(cohort, split, recipe, space, run / "denoiser", on_preview, clip, start),
    )
    pipeline = TissuePipeline(autoencoder, trained.condnet, trained.denoiser, trained.scheduler)
    pipeline.facts = facts_of(cohort, split, recipe, space, trained, data, run, source, clip, start)
    if lent is not None:
        pipeline.facts = pipeline.facts.decoded_by(lent)
    return save_generator(pipeline, run / "generator", recipe, cohort, split)


def _lender(recipe: Recipe) -> Facts | None:
    """The generator whose autoencoder is taken, where ``autoencoder.folder`` is one's: that has seen tissue too."""
    if recipe.autoencoder.folder is None:
        return None
    folder = resolve_autoencoder(recipe.autoencoder.folder).resolve().parent
    return read_facts(folder) if (folder / FACTS_FILE).is_file() else None


def _refuse_nowhere_to_move(recipe: Recipe, told: tuple[str, ...]) -> None:
    if recipe.genes.section_shift > 0 and len(told) < 2:
        raise StainglassError(
            "genes.section_shift",
            f"moves expression between training sections, and {told[0]} is the only one that is told",
            "Set genes.section_shift=0",
        )


def _finished(run: Path, cohort: Cohort, split: Split) -> TissuePipeline:
    """The generator that is there, if it is of these sections; one that was gone on from may have seen others before."""
    found = TissuePipeline.from_pretrained(run / "generator")
    facts = found.facts
    if facts is None or not trained_on_these(facts, split) or facts.mpp != cohort.mpp:
        raise StainglassError(
            run,
            "holds a generator that was trained on other sections",
            "Choose another --out, or pass --fresh",
        )
    return found


def save_generator(
    pipeline: TissuePipeline, folder: Path, recipe: Recipe, cohort: Cohort, split: Split
) -> TissuePipeline:
    """Save a generator in the recipe's precision and take up again what was saved: that is what will be judged.

    One that is to paint several candidates learns first to choose between them.
    """
    ready_to_select(pipeline, cohort, told_sections(split, recipe.train_denoiser), recipe.sampling.candidates)
    if recipe.half:
        # torch's own `to`: that of diffusers warns of modules that must stay in single precision, and there are none.
        for part in (pipeline.autoencoder, pipeline.condnet, pipeline.denoiser):
            nn.Module.to(part, torch.float16)
    if is_first():
        pipeline.save_pretrained(folder)
    processes().wait_for_everyone()
    return TissuePipeline.from_pretrained(folder)
