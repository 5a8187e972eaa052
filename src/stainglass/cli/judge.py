"""From a run's folder to its card: real windows are read, the generator is handed over as a painter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainglass.analysis.classes import ClassScorer, Expressed
from stainglass.analysis.programmes import ProgrammeScorer
from stainglass.cohort.blocks import Blocks
from stainglass.errors import StainglassError
from stainglass.evaluation.evaluate import evaluate
from stainglass.evaluation.settings import JUDGES, EvaluationSettings
from stainglass.evaluation.tissue import Tissue
from stainglass.models.clip import TissueCLIP
from stainglass.models.facts import DISTILLED, GONE_ON, GUIDED_BY, LENT_BY, POLISHED, TAUGHT_NULL, Facts
from stainglass.models.model_card import BEFORE
from stainglass.models.sampler import SamplerSettings
from stainglass.spread import spread
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.paint import CohortPainter

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.cohort.splits import Split
    from stainglass.config import DenoiserLoop, Recipe
    from stainglass.evaluation.card import Card
    from stainglass.genes.axis import GeneAxis

TRAIN_WINDOWS = 2000


def judge_run(run: Path, cohort: Cohort, recipe: Recipe, features: Sequence[str] = ()) -> Card:
    """Evaluate ``run/generator`` on the part of the split that the recipe names; write ``run/evaluation``.

    Parameters
    ----------
    features
        Judges by the short names of `JUDGES`; each must be able to judge. By default all judge whose weights are here.
    """
    generator = Generator.from_pretrained(run / "generator")
    generator.pipeline.require_selector(recipe.sampling.candidates)
    split = cohort.split(recipe.split.name)
    judged = recipe.evaluation.part
    if not split.part(judged):
        raise StainglassError(
            cohort.path, f"its split has no {judged} sections", "Set evaluation.part to the other part"
        )
    _refuse_seen(cohort, split.part(judged), split, generator.facts)
    other_part = "test" if judged == "validation" else "validation"
    patients = {cohort.patients[name] for name in split.part(judged)}
    # A patient with sections in training is no other one, whatever part of the split holds the rest of them.
    near = patients | {cohort.patients[name] for name in split.train}
    others = [name for name in split.part(other_part) if cohort.patients[name] not in near]
    _refuse_seen(cohort, others, split, generator.facts)
    most = 2 * recipe.evaluation.windows  # the floor is real against other real windows, at the same N
    held_out = read_tissue(cohort, split.part(judged), generator.facts, judged, most)
    least = max(TRAIN_WINDOWS, recipe.evaluation.windows)  # training tissue is a subject too, at the same N
    train = read_tissue(cohort, split.train, generator.facts, "train", least)
    other = read_tissue(cohort, others, generator.facts, "other_patient", most) if others else None
    told = _read_expression(cohort, train)
    train, held_out, other = told(train), told(held_out), None if other is None else told(other)
    sampling = recipe.sampling
    painter = CohortPainter(
        generator.pipeline,
        SamplerSettings.of(sampling),
        sampling.batch,
    )
    clip = TissueCLIP.load(run / "clip" / "model") if recipe.clip is not None else None
    tower = None if clip is None or clip.facts is None else clip.facts.tower
    took_part = tuple(dict.fromkeys((*generator.facts.took_part, *([tower] if tower is not None else []))))
    settings = _settings(cohort, recipe, judged, took_part, generator.facts)
    there = sum(len(cohort.sections[name].used_spots) for name in split.train)
    if len(train) < there:
        searched = f"Copies are searched among {len(train):,} of {there:,} training windows, spread evenly."
        settings = replace(settings, notes=(*settings.notes, searched))
    if features:
        asked = tuple(JUDGES[name] for name in dict.fromkeys(features))
        settings = replace(settings, judges=asked, judges_required=True)
    return evaluate(held_out, train, other, painter, settings, run / "evaluation", clip)


def _read_expression(cohort: Cohort, train: Tissue) -> Callable[[Tissue], Tissue]:
    """What adds to a tissue what its expression says: scores of programmes and classes by markers, on training scales.

    Classes are left out where the training tissue shows none.
    """
    training = Expressed.of(cohort, train.windows)
    programmes = ProgrammeScorer.fit(training)
    try:
        classes = ClassScorer.fit(training)
    except StainglassError:
        classes = None

    def told(tissue: Tissue) -> Tissue:
        spots = Expressed.of(cohort, tissue.windows)
        # A section that lacks a programme's genes gets the training mean: constant within it, so it earns nothing.
        found = replace(tissue, programmes=programmes.score(spots).fillna(0.0))
        return found if classes is None else replace(found, classes=tuple(classes.call(spots).names()))

    return told


def _refuse_seen(cohort: Cohort, held_out: Sequence[str], split: Split, facts: Facts) -> None:
    """The generator remembers what it was trained on; a split made since then must not hold that out."""
    seen = facts.seen_in(cohort, held_out, split.shared_patients)
    if seen:
        raise StainglassError(
            cohort.path,
            f"its split holds out {', '.join(sorted(seen))}, which the generator was trained on",
            "Restore the split it was trained with, or train again",
        )
    if abs(cohort.mpp / facts.mpp - 1) > 0.05:
        raise StainglassError(
            cohort.path,
            f"has {cohort.mpp:g} µm/px, the generator paints {facts.mpp:g}",
            f"Prepare the cohort with --mpp {facts.mpp:g}",
        )


def read_tissue(cohort: Cohort, sections: Sequence[str], facts: Facts, name: str, most: int) -> Tissue:
    """Real patches of sections with all that is measured about them, at most ``most``, spread evenly."""
    return read_patches(
        cohort, facts.axis, facts.window_px, facts.reach_um, facts.max_spots, sections, name, most,
        facts.told == "bulk",
    )  # fmt: skip


def read_patches(
    cohort: Cohort,
    axis: GeneAxis,
    window_px: int,
    reach_um: float,
    max_spots: int,
    sections: Sequence[str],
    name: str,
    most: int,
    bulk: bool = False,
) -> Tissue:
    """`read_tissue` on any gene axis and window."""
    windows = cohort.patches(sections, window_px)
    windows = [windows[i] for i in spread(len(windows), most)]
    return Tissue(
        name=name,
        windows=tuple(windows),
        pixels=cohort.pixels(windows),
        counts=cohort.measured(windows, axis),
        symbols=axis.symbols,
        centres_um_yx=np.stack([w.centre_um_yx(cohort.mpp) for w in windows]),
        sections=tuple(w.section for w in windows),
        patients=tuple(cohort.patients[w.section] for w in windows),
        conditions=cohort.conditions(windows, axis, reach_um, max_spots, bulk),
        cell_types=cohort.cell_types(windows),
        groups=tuple(cohort.sections[w.section].record.groups for w in windows),
    )


def _before(facts: Facts) -> str:
    """What the generator went on from, was guided away from or polished by, where it was."""
    name, guide, polished, lender = (
        facts.training.get(key) for key in (GONE_ON, GUIDED_BY, POLISHED, LENT_BY)
    )
    if name is None and guide is None and polished is None and lender is None:
        return ""
    before = [v for key, v in facts.training.items() if key.endswith(f"{BEFORE}denoiser steps")]
    told = [] if name is None else [f"gone on from {name} ({sum(before)} steps before)"]
    told += [] if lender is None else [f"with the autoencoder of {lender}"]
    told += [] if guide is None else [f"distilled away from {guide}"]
    told += [] if polished is None else [f"polished: {polished}"]
    return f"; {'; '.join(told)}; all sections ever trained on: {', '.join(facts.trained_on)}"


def _null_untaught(facts: Facts) -> bool:
    """Whether few steps, told nothing, are not what was taught last. Distilled again, the last share stands last."""
    share = facts.training.get(TAUGHT_NULL, "0").split()[-1]
    return DISTILLED in facts.training and (POLISHED in facts.training or float(share) == 0)


def _length(loop: DenoiserLoop, facts: Mapping[str, Any]) -> str:
    """How long was trained, stage by stage; of several processes each drew the recipe's batch, and facts have them all."""
    stages = [f"{stage.train} {stage.steps}" for stage in loop.in_stages()]
    told = f" ({', '.join(stages)})" if loop.stages else ""
    windows = facts.get("batch", loop.batch * loop.accumulate)
    return f"{loop.all_steps} steps{told} of {windows} windows"


def _settings(
    cohort: Cohort, recipe: Recipe, judged: str, took_part: tuple[str, ...], facts: Facts
) -> EvaluationSettings:
    evaluation, loop, split = recipe.evaluation, recipe.train_denoiser, cohort.split(recipe.split.name)
    shared = {cohort.patients[name] for name in split.part(judged)} & set(split.shared_patients)
    notes = list(evaluation.notes)
    blocks = Blocks.read(cohort.path)
    if blocks is not None and any(cohort.sections[name].block for name in split.part(judged)):
        notes.append(
            f"One patient only: held out are blocks of the training sections themselves, {blocks.buffer_um:.0f} µm from "
            "the nearest training spot. This is no patient generalisation."
        )
    elif shared:
        notes.append(
            f"Patient {', '.join(sorted(shared))} stands on both sides: the held-out section is of the same tumour "
            "as the training sections. This is no patient generalisation."
        )
    strange = [name for name in split.train if name not in facts.trained_on]
    if strange:
        notes.append(
            f"The generator was trained on {', '.join(facts.trained_on) or 'nothing it names'}. Training tissue on this card is "
            f"that of the given split, of which it never saw {', '.join(strange)}: readers learn from it, distances are held "
            "against it, and copies cannot be searched for."
        )
    if _null_untaught(facts):
        notes.append(
            "Few steps were taught, or polished, on windows that were told their spots: the control that is told nothing is "
            "painted by a network that did not learn it in so few, and may look worse than it would in many. Read the other "
            "controls first."
        )
    if "noise seeds" not in " ".join(notes):
        notes.append(
            "One training seed; the intervals hold over windows and noise seeds, not over trainings."
        )
    seen = facts.trained_on if strange else split.train
    sections = ", ".join(
        f"{name} (patient {cohort.patients[name]})" if name in cohort.patients else name for name in seen
    )
    return EvaluationSettings(
        mpp=cohort.mpp,
        split=judged,
        trained_on=f"{recipe.title or recipe.name}: sections {sections}; {_length(loop, facts.training)}{_before(facts)}",
        n=evaluation.windows,
        seeds=evaluation.noise_seeds,
        sampling=asdict(SamplerSettings.of(recipe.sampling)),
        lpips_weights=Path(evaluation.lpips_weights) if evaluation.lpips_weights else None,
        inception_weights=evaluation.inception_weights or None,
        inception_torchscript=evaluation.inception_torchscript,
        derange_um=evaluation.derange_um,
        bootstrap=evaluation.bootstrap,
        recovery_genes=evaluation.recovery_genes,
        usefulness=evaluation.usefulness,
        primary=evaluation.primary,
        took_part_in_training=took_part,
        saw_train=not strange,
        tells_images=recipe.clip is not None and recipe.train_denoiser.image_share > 0,
        notes=tuple(notes),
        choice_seed=recipe.seed,
    )
