"""What travels with a trained generator: its facts, told by the recipe and by what was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.files import read_json
from stainglass.models.clip import TissueCLIP
from stainglass.models.facts import (
    CUTS,
    EXPRESSION_OF,
    GONE_ON,
    GUIDED_BY,
    LENT_BY,
    TOOK_PART,
    Facts,
)
from stainglass.models.features import EfficientNetLite0
from stainglass.models.sampler import SamplerSettings
from stainglass.training.denoise import LatentSpace
from stainglass.training.denoiser import TrainedDenoiser
from stainglass.training.processes import processes
from stainglass.training.run_notes import device_name
from stainglass.training.start import Start


def facts_of(
    cohort: Cohort, split: Split, recipe: Recipe, space: LatentSpace, trained: TrainedDenoiser,
    data: str, run: Path, source: str | None, clip: TissueCLIP | None, start: Start | None,
) -> Facts:  # fmt: skip
    """What travels with the generator."""
    own, loop, axis = recipe.train_autoencoder, recipe.train_denoiser, trained.axis
    stages = [f"{stage.train} {stage.steps}" for stage in loop.in_stages()]
    given = recipe.autoencoder.folder is not None or source is not None or start is not None
    seconds = read_json(run / "timing.json", "timing")
    tower = None if clip is None or clip.facts is None else clip.facts.tower
    took_part = [*([tower] if tower else []), *([EfficientNetLite0.name] if loop.representation else [])]
    patients = {cohort.patients[name] for name in split.train} | {one.patient for one in trained.expression}
    gene_steps, shifted = recipe.genes.pretrain_steps, recipe.genes.section_shift
    facts = Facts(
        name=recipe.name,
        mpp=cohort.mpp,
        window_px=recipe.windows.size_px,
        reach_um=recipe.windows.reach_um,
        max_spots=recipe.windows.max_spots,
        told=recipe.genes.told,
        gene_ids=axis.ids,
        gene_symbols=axis.symbols,
        latent_mean=tuple(float(v) for v in space.mean),
        latent_std=tuple(float(v) for v in space.std),
        trained_on=split.train,
        patients=tuple(sorted(patients)),
        data=data,
        training={
            **({} if not (cuts := _cuts(cohort, split)) else {CUTS: cuts}),
            "autoencoder steps": "given" if given else own.steps,
            **({"sharpening steps": own.sharpen_steps} if own.sharpen_steps and (start or not given) else {}),
            **({} if source is None else {"fine-tuned from": source}),
            "denoiser steps": loop.all_steps,
            **({} if not loop.stages else {"stages": ", ".join(stages)}),
            **({} if not gene_steps else {"gene encoder steps": gene_steps}),
            **({} if not trained.expression else {EXPRESSION_OF: [one.id for one in trained.expression]}),
            **({} if not shifted else {"expression moved between sections": shifted}),
            **({} if not took_part else {TOOK_PART: took_part}),
            **({} if not loop.unpaired else {"without their expression": ", ".join(loop.unpaired)}),
            "batch": loop.batch * loop.accumulate * processes().num_processes,
            "seed": loop.seed,
            "seconds": {key: round(value) for key, value in seconds.items()},
            "device": device_name(),
        },
        pooled=recipe.denoiser.pooled == "token" if start is None else start.facts.pooled,
        sampling=asdict(SamplerSettings.of(recipe.sampling)),
        stains=tuple(stain.told() for stain in space.stains),
    )
    return facts if start is None else start.gone_on(facts)


def _cuts(cohort: Cohort, split: Split) -> dict[str, list[float]]:
    """Where the training sections that are blocks were cut."""
    found = {}
    for name in split.train:
        section = cohort.sections[name]
        if section.block is not None:
            block = section.block[0]
            found[section.source_id] = [block.axis, block.train_below_um, block.test_from_um]
    return found


def trained_on_these(facts: Facts, split: Split) -> bool:
    """Whether these are its training sections; where it has learnt from other generators, the last it was trained on."""
    own_alone = not {GONE_ON, GUIDED_BY, LENT_BY} & facts.training.keys()
    return (facts.trained_on if own_alone else facts.trained_on[: len(split.train)]) == split.train
