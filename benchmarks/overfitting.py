"""Does a denoiser know its training tissue better than tissue it never saw?

    python -m benchmarks.overfitting RUN [RUN ...] [--cohort COHORT] [--windows 256] [--out overfitting.json]

The loss of every run's denoiser (unweighted squared error of the velocity, condition told) on windows of its training sections
and of the held-out section its recipe names; the same windows, noise and noise levels for all runs. Held-out tissue may be harder
by itself: so the rise from training to held-out tissue is to be compared between runs, not with nothing.
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
from stainglass.models.pipeline import TissuePipeline
from stainglass.recipe_files import load_recipe
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace
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
    told = {
        "training": _loss(
            pipeline, recipe, cohort, told_sections(split, recipe.train_denoiser), windows, seed
        ),
        "held_out": _loss(pipeline, recipe, cohort, held_out, windows, seed),
    }
    return {
        "parameters_m": round(pipeline.parameters_by_part()["denoiser"] / 1e6, 2),
        **{part: round(loss, 4) for part, loss in told.items()},
        "rise": round(told["held_out"] / told["training"] - 1, 4),
    }


def _loss(
    pipeline: TissuePipeline, recipe: Recipe, cohort: Cohort, sections: Sequence[str], windows: int, seed: int
) -> float:
    facts = pipeline.facts
    assert facts is not None
    mean, std = (np.asarray(values, np.float32) for values in (facts.latent_mean, facts.latent_std))
    space = LatentSpace(pipeline.autoencoder, (raster_name(pipeline.autoencoder),), mean, std)
    plain = {"seed": seed + 1_000_003, "null_share": 0.0, "anywhere_share": 1.0, "image_share": 0.0, "unpaired": (),
             "representation": 0.0, "noise_offset": 0.0, "stain_variants": 0, "times": "flow", "turns": False}  # fmt: skip
    loop = recipe.train_denoiser.model_copy(update=plain)
    whole = {"thinning": 0.0, "gene_dropout": 0.0, "spot_dropout": 0.0, "section_shift": 0.0}
    genes = recipe.genes.model_copy(update=whole)
    crops = LatentCrops(
        cohort, sections, facts.axis, space, genes, loop, size_px=facts.window_px, reach_um=facts.reach_um,
        max_spots=facts.max_spots, flow=pipeline.flow,
    )  # fmt: skip
    objective = Denoise(pipeline.condnet, pipeline.denoiser, space, pipeline.flow, pooled=facts.pooled).eval()
    losses = []
    for first in range(0, windows, BATCH):
        drawn = [crops.example(first + i) for i in range(min(BATCH, windows - first))]
        batch = {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}
        with torch.no_grad():
            losses.append(float(objective(batch)[1]["unweighted"]) * len(drawn))
    return sum(losses) / windows


if __name__ == "__main__":
    main(sys.argv[1:])
