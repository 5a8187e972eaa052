"""Generators made from finished ones: of few steps, with a sharper decoder, polished, or choosing between candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.models.autoencoder import TissueAutoencoder
from stainglass.models.eyes import Eyes
from stainglass.models.facts import DISTILLED, GUIDED_BY, POLISHED, TAUGHT_NULL, TOOK_PART, Facts
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.training.autoencoder import other_decoder, train_autoencoder
from stainglass.training.checkpoint import hash_of_weights
from stainglass.training.distil import taught_sampling, train_few_steps
from stainglass.training.facts import trained_on_these
from stainglass.training.polish import polish_generator
from stainglass.training.processes import processes
from stainglass.training.run_notes import device_name, same_checkpoint, timed
from stainglass.training.stages import save_generator
from stainglass.training.start import SAME_MPP, Start, fingerprint

SHARPENED = "decoder sharpened"
"""Key of a generator's facts."""
OnPreview = Callable[[Path], None] | None


def distilled_generator(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    teacher: TissuePipeline,
    run: Path,
    guide: TissuePipeline | None = None,
    on_preview: OnPreview = None,
) -> TissuePipeline:
    """A few-step generator in ``run/generator``, from a finished one of the same sections.

    Parameters
    ----------
    recipe
        The teacher's, with the sampling of the new one.
    teacher
        Changed by training.
    guide
        What `stainglass.training.distil.load_guide` found.
    """
    facts = teacher.facts
    assert facts is not None
    refuse_other_tissue(teacher, cohort, split)
    loop, timing = recipe.distil, run / "timing.json"
    began = [
        fingerprint("teacher", teacher),
        *([] if guide is None else [fingerprint(str(loop.guide), guide)]),
    ]
    same_checkpoint(run / "checkpoint.json", "; ".join(began))
    taught = taught_sampling(facts, loop)
    low, high = taught.interval
    timed(
        timing,
        "distil",
        lambda: train_few_steps(cohort, split, recipe, teacher, run / "distil", on_preview, guide),
    )
    few = {
        DISTILLED: f"{loop.levels} steps in {loop.steps} of training",
        "distil seconds": str(round(read_json(timing, "timing")["distil"])),
        TAUGHT_NULL: f"{loop.null_share:g}",
        "followed": loop.follow,
        "guidance learnt along": "none"
        if taught.guidance == 1.0
        else f"{taught.guidance:g} at noise levels {low:g} to {high:g}",
    }
    few = {key: _then(facts, key, told) for key, told in few.items()}
    if guide is not None and guide.facts is not None:
        facts = facts.having_seen(guide.facts)
        few[GUIDED_BY] = f"{fingerprint(guide.facts.name, guide)}, told {loop.guide_told}"
    teacher.facts = replace(
        facts, training=facts.training | few, sampling=asdict(SamplerSettings.of(recipe.sampling))
    )
    return save_generator(teacher, run / "generator", recipe, cohort, split)


def require_sharpening(generator: TissuePipeline, recipe: Recipe) -> None:
    """Before anything is written: the decoder is ours and shall be trained.

    Raises
    ------
    StainglassError
        When any of it does not hold.
    """
    assert generator.facts is not None
    if recipe.train_autoencoder.sharpen_steps == 0:
        raise StainglassError(
            f"recipe {recipe.name}", "train_autoencoder.sharpen_steps is 0, so nothing would be sharpened",
            "Set it, for instance to 1500",
        )  # fmt: skip
    if not isinstance(generator.autoencoder, TissueAutoencoder):
        raise StainglassError(
            generator.facts.name, "has an autoencoder that is not ours", "Sharpen a generator with our own"
        )
    other_decoder(generator.autoencoder, recipe)


def sharpened_generator(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    name: str,
    generator: TissuePipeline,
    run: Path,
    on_preview: OnPreview = None,
) -> TissuePipeline:
    """The same generator with a sharper decoder, in ``run/generator``; see `require_sharpening`.

    Parameters
    ----------
    name
        Of what is sharpened, as the new run remembers it.
    """
    facts, loop, timing = generator.facts, recipe.train_autoencoder, run / "timing.json"
    assert facts is not None
    refuse_other_tissue(generator, cohort, split)
    own = recipe.autoencoder.model_copy(update={"folder": None})
    recipe = recipe.model_copy(update={"autoencoder": own})
    start = Start(name, generator, fingerprint(name, generator))
    same_checkpoint(run / "checkpoint.json", start.fingerprint)
    nn.Module.to(generator.autoencoder, torch.float32)
    decoder = timed(
        timing,
        "autoencoder",
        lambda: train_autoencoder(cohort, split, recipe, run / "autoencoder", on_preview, start),
    )
    generator.register_modules(autoencoder=decoder)
    how = [f"{loop.sharpen_steps} steps of {loop.batch} crops"]
    how += ["with an adversary"] if loop.adversary else []
    how += [f"of what was before {loop.stay:g} stays"] if loop.stay else []
    told = f"{', '.join(how)}; {round(read_json(timing, 'timing')['autoencoder'])} seconds on {device_name()}"
    generator.facts = replace(
        facts,
        training=facts.training | {SHARPENED: _then(facts, SHARPENED, told)},
        sampling=asdict(SamplerSettings.of(recipe.sampling)),
    )
    return save_generator(generator, run / "generator", recipe, cohort, split)


def polished_generator(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    name: str,
    generator: TissuePipeline,
    eyes: Sequence[Eyes],
    run: Path,
    on_preview: OnPreview = None,
) -> TissuePipeline:
    """The same few-step generator with its pictures held against tissue, in ``run/generator``.

    Parameters
    ----------
    name
        Of what is polished, as the new run remembers it.
    eyes
        Frozen networks that look; they are told among those that took part in training.
    """
    facts, loop, timing = generator.facts, recipe.polish, run / "timing.json"
    assert facts is not None
    refuse_other_tissue(generator, cohort, split)
    seen_by = [
        f"{Path(folder).name} {hash_of_weights(one)}" for folder, one in zip(loop.eyes, eyes, strict=True)
    ]
    began = f"{fingerprint(name, generator)}; {', '.join(seen_by)}"
    same_checkpoint(run / "checkpoint.json", began)
    for part in (generator.autoencoder, generator.condnet, generator.denoiser):
        nn.Module.to(part, torch.float32)
    timed(
        timing,
        "polish",
        lambda: polish_generator(cohort, split, recipe, generator, eyes, run / "polish", on_preview),
    )
    windows = loop.batch * loop.accumulate * processes().num_processes
    stays = f", of what was before {loop.stay:g} stays" if loop.stay else ""
    told = (
        f"{loop.steps} steps of {windows} conditions in the eyes of {', '.join(seen_by)}{stays}; "
        f"{round(read_json(timing, 'timing')['polish'])} seconds on {device_name()}"
    )
    part = list(dict.fromkeys((*facts.took_part, *seen_by)))
    known = facts.training | {POLISHED: _then(facts, POLISHED, told), TOOK_PART: part}
    generator.facts = replace(facts, training=known, sampling=asdict(SamplerSettings.of(recipe.sampling)))
    return save_generator(generator, run / "generator", recipe, cohort, split)


def selecting_generator(
    cohort: Cohort, split: Split, recipe: Recipe, generator: TissuePipeline, run: Path
) -> TissuePipeline:
    """The same generator, which paints several candidates and keeps the best, in ``run/generator``."""
    assert generator.facts is not None
    refuse_other_tissue(generator, cohort, split)
    generator.facts = replace(generator.facts, sampling=asdict(SamplerSettings.of(recipe.sampling)))
    return save_generator(generator, run / "generator", recipe, cohort, split)


def _then(facts: Facts, key: str, told: str) -> str:
    """What is told of a training, behind what was told of one like it before."""
    last = facts.training.get(key)
    return told if last is None else f"{last}; then {told}"


def refuse_other_tissue(generator: TissuePipeline, cohort: Cohort, split: Split) -> None:
    """Refuse a cohort at another scale, or with other training sections, than the generator was trained on.

    Raises
    ------
    StainglassError
        When it is such a one.
    """
    facts = generator.facts
    assert facts is not None
    if abs(cohort.mpp / facts.mpp - 1) > SAME_MPP:
        raise StainglassError(
            cohort.path, f"has {cohort.mpp:g} µm/px, the generator paints {facts.mpp:g}",
            "Give the cohort it was trained on",
        )  # fmt: skip
    if not trained_on_these(facts, split):
        raise StainglassError(
            cohort.path,
            f"its training sections ({', '.join(split.train)}) are not the generator's ({', '.join(facts.trained_on)})",
            "Give the cohort it was trained on",
        )
