"""Does a denoiser know its training tissue better than tissue it never saw?

    python -m benchmarks.overfitting RUN [RUN ...] [--cohort COHORT] [--windows 256] [--out overfitting.json]

The loss of every run's denoiser (unweighted squared error of the velocity, condition told) on windows of its training sections
and of the held-out section its recipe names; the same windows, noise and noise levels for all runs. Held-out tissue may be harder
by itself: so the rise from training to held-out tissue is to be compared between runs, not with nothing.

That loss is mostly of fine detail, and says little of what a window has in common: its brightness and its colour, a few numbers
among ten thousand. So beside it: how much of the variance of windows' mean latents, within sections, the denoiser's first guess
from pure noise explains (1 − squared error / variance; below 0 it had better guessed nothing). What it explains of training
tissue alone it knows by heart, spot by spot.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import arguments, emit
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.models.denoiser import hear, predict_velocity
from stainglass.models.pipeline import TissuePipeline
from stainglass.recipe_files import load_recipe
from stainglass.training.batches import Batch
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace, conditions_of
from stainglass.training.denoiser import told_sections
from stainglass.training.encode import encode_sections, raster_name

BATCH = 16


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure, tell."""
    parser = arguments(__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--windows", type=int, default=256)
    options = parser.parse_args(argv)
    rows = []
    for run in options.runs:
        cohort = Cohort.open(options.cohort or run / "cohort")
        rows.append({"run": str(run), **_row(run, cohort, options.windows, options.seed)})
    return emit("overfitting", {"windows": options.windows, "rows": rows}, options.out)


def _row(run: Path, cohort: Cohort, windows: int, seed: int) -> dict[str, object]:
    pipeline = TissuePipeline.from_pretrained(run / "generator")
    recipe = load_recipe(run / "recipe.yaml")
    split = cohort.split(recipe.split.name)
    held_out = split.part(recipe.evaluation.part)
    encode_sections(cohort, (*split.train, *held_out), pipeline.autoencoder, [0])
    parts = {"training": told_sections(split, recipe.train_denoiser), "held_out": held_out}
    drawn = {part: _windows(pipeline, recipe, cohort, names, windows, seed) for part, names in parts.items()}
    loss = {part: _loss(pipeline, batches) for part, batches in drawn.items()}
    means = {part: _explained(pipeline, batches) for part, batches in drawn.items()}
    return {
        "parameters_m": round(pipeline.parameters_by_part()["denoiser"] / 1e6, 2),
        **{part: round(of, 4) for part, of in loss.items()},
        "rise": round(loss["held_out"] / loss["training"] - 1, 4),
        "explained_of_window_means": {part: round(of, 3) for part, of in means.items()},
    }


def _windows(
    pipeline: TissuePipeline, recipe: Recipe, cohort: Cohort, sections: Sequence[str], windows: int, seed: int
) -> list[Batch]:
    """Batches of windows as training draws them, told whole; each is of one section, sections in turn."""
    facts = pipeline.facts
    assert facts is not None
    plain = {
        "seed": seed + 1_000_003, "null_share": 0.0, "anywhere_share": 1.0, "image_share": 0.0, "unpaired": (),
        "representation": 0.0, "noise_offset": 0.0, "stain_variants": 0, "times": "flow", "turns": False,
    }  # fmt: skip
    loop = recipe.train_denoiser.model_copy(update=plain)
    whole = {"thinning": 0.0, "gene_dropout": 0.0, "spot_dropout": 0.0, "section_shift": 0.0}
    genes = recipe.genes.model_copy(update=whole)
    crops = {
        name: LatentCrops(
            cohort, [name], facts.axis, _space(pipeline), genes, loop, size_px=facts.window_px, reach_um=facts.reach_um,
            max_spots=facts.max_spots, flow=pipeline.flow,
        )
        for name in sections
    }  # fmt: skip
    return [_batch(crops[sections[k % len(sections)]], k * BATCH) for k in range(max(windows // BATCH, 1))]


def _space(pipeline: TissuePipeline) -> LatentSpace:
    facts = pipeline.facts
    assert facts is not None
    mean, std = (np.asarray(values, np.float32) for values in (facts.latent_mean, facts.latent_std))
    return LatentSpace(pipeline.autoencoder, (raster_name(pipeline.autoencoder),), mean, std)


def _batch(crops: LatentCrops, first: int) -> Batch:
    drawn = [crops.example(first + i) for i in range(BATCH)]
    return {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}


@torch.no_grad()
def _loss(pipeline: TissuePipeline, batches: Sequence[Batch]) -> float:
    facts = pipeline.facts
    assert facts is not None
    objective = Denoise(
        pipeline.condnet, pipeline.denoiser, _space(pipeline), pipeline.flow, pooled=facts.pooled
    ).eval()
    return float(np.mean([float(objective(batch)[1]["unweighted"]) for batch in batches]))


@torch.no_grad()
def _explained(pipeline: TissuePipeline, batches: Sequence[Batch]) -> float:
    """Share of the variance of windows' mean latents, within sections, that a first guess from pure noise explains."""
    facts = pipeline.facts
    assert facts is not None
    top = pipeline.flow.top
    missed = there = 0.0
    for batch in batches:
        heard = hear(
            pipeline.denoiser, pipeline.condnet(conditions_of(batch)), pipeline.condnet, facts.pooled
        )
        x, level = top * batch["noise"], torch.full((BATCH,), top)
        guess = x - top * predict_velocity(pipeline.denoiser, x, level, heard, pipeline.flow)
        real, guessed = (of.mean((2, 3)) - of.mean((0, 2, 3)) for of in (batch["z"], guess))
        missed += float((real - guessed).pow(2).sum())
        there += float(real.pow(2).sum())
    return 1 - missed / there


if __name__ == "__main__":
    main(sys.argv[1:])
