"""How many steps painting needs: Fréchet distance and time against evaluations of the network, solver by solver.

    python -m benchmarks.steps RUN [--few RUN] [--cohort COHORT] [--windows 96] [--out steps.json]

The same held-out windows and noise are painted by every solver and number of steps, and once as a stock diffusers pipeline would
(Euler, 50 steps, guided at each: 100 evaluations). A distance is told as a ratio to that of as many real training windows, in the
eyes of every judge whose weights are here (``--lpips-weights`` for the second). Seconds are a 256 px window's or whatever the
run's windows are, decoding included, conditions and all, in batches of 16; every way is timed in this run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import arguments, emit
from benchmarks.sampling import count_forwards
from stainglass.cli.judge import read_tissue
from stainglass.cohort.cohort import Cohort
from stainglass.config import load_recipe
from stainglass.evaluation.distances import frechet_distance, kernel_distance
from stainglass.evaluation.features import build_judges
from stainglass.evaluation.measure import judge_features
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.evaluation.tissue import Tissue
from stainglass.models.pipeline import SamplerSettings, TissuePipeline
from stainglass.synthesis.paint import CohortPainter

SWEEP = (
    *(("unipc", steps) for steps in (2, 4, 8, 16)),
    *(("dpmpp", steps) for steps in (4, 8, 16)),
    *(("euler", steps) for steps in (4, 8, 16)),
    *(("heun", steps) for steps in (4, 8)),
)
STOCK = SamplerSettings("euler", 50, 1.5, (0.0, 1.0))
BATCH = 16


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, judge, tell."""
    parser = arguments(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--few", type=Path, help="a run that was distilled from it")
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--windows", type=int, default=96)
    parser.add_argument("--lpips-weights", type=Path)
    options = parser.parse_args(argv)
    recipe = load_recipe(options.run / "recipe.yaml")
    cohort = Cohort.open(options.cohort or options.run / "cohort")
    split = cohort.split(recipe.split.name)
    pipeline = TissuePipeline.from_pretrained(options.run / "generator")
    assert pipeline.facts is not None
    real = read_tissue(cohort, split.part(recipe.evaluation.part), pipeline.facts, "real", options.windows)
    train = read_tissue(cohort, split.train, pipeline.facts, "train", len(real))
    settings = EvaluationSettings(mpp=cohort.mpp, lpips_weights=options.lpips_weights)
    bench = _Bench(real, train, settings)
    own = pipeline.facts.sampler
    rows = [bench.row(pipeline, replace(own, solver=s, steps=n), options.seed) for s, n in SWEEP]
    rows.append({**bench.row(pipeline, STOCK, options.seed), "solver": "stock (euler)"})
    if options.few is not None:
        few = TissuePipeline.from_pretrained(options.few / "generator")
        assert few.facts is not None
        rows.append({**bench.row(few, few.facts.sampler, options.seed), "solver": "distilled"})
    figures = {
        "windows": len(real),
        "window_px": pipeline.facts.window_px,
        "sampler": {"guidance": own.guidance, "interval": own.interval},
        "rows": rows,
    }
    return emit("steps", figures, options.out)


class _Bench:
    """The windows, and what the judges make of real ones."""

    def __init__(self, real: Tissue, train: Tissue, settings: EvaluationSettings) -> None:
        self.real = real
        self.judges = build_judges(settings)[0]
        self.features = judge_features(self.judges, real.pixels, "real windows")
        ours = judge_features(self.judges, train.pixels, "training windows")
        self.train = {name: frechet_distance(f, self.features[name]) for name, f in ours.items()}

    def row(self, pipeline: TissuePipeline, settings: SamplerSettings, seed: int) -> dict[str, object]:
        """One way of painting."""
        painter, real = CohortPainter(pipeline, settings, BATCH), self.real
        few = min(BATCH, len(real))
        asked = count_forwards(
            pipeline, lambda: painter.paint(real.windows[:few], real.conditions.take(range(few)), seed)
        )
        began = time.perf_counter()
        painted: NDArray[np.uint8] = painter.paint(real.windows, real.conditions, seed)
        seconds = (time.perf_counter() - began) / len(real)
        found = judge_features(self.judges, painted, f"{settings.solver} {settings.steps}")
        return {
            "solver": settings.solver,
            "steps": settings.steps,
            "evaluations": asked,
            "seconds_a_window": round(seconds, 3),
            "fd_ratio": {
                name: round(frechet_distance(f, self.features[name]) / self.train[name], 3)
                for name, f in found.items()
            },
            "kid": {name: round(kernel_distance(f, self.features[name]), 4) for name, f in found.items()},
        }


if __name__ == "__main__":
    main(sys.argv[1:])
