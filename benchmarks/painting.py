"""What the benchmarks of painting share: held-out windows, painted in some way, in the eyes of every judge.

A Fréchet distance is told as a ratio to that of as many real training windows, in the eyes of every judge whose weights are here
(``--lpips-weights`` for the second). With ``--part train`` training windows are painted and compared with other training windows,
so that a choice made there has not seen what is held out. What is read back of expression is told as a share of what real windows
give. Precision, recall and coverage are those of the card. Seconds are those of one window, decoding included, conditions and
all, in batches of 16; every way is timed in one run.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sampling import count_forwards
from stainglass.analysis.block_draws import codes
from stainglass.analysis.recovery import Reader, mean_correlation, variable_genes
from stainglass.cli.judge import TRAIN_WINDOWS, read_tissue
from stainglass.cohort.cohort import Cohort
from stainglass.evaluation.distances import Neighbourhoods, frechet_distance, kernel_distance
from stainglass.evaluation.features import build_judges
from stainglass.evaluation.measure import judge_features
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.genes.normalise import log_normalised
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.recipe_files import load_recipe
from stainglass.synthesis.paint import CohortPainter

BATCH = 16
OVERLAPS = ("precision", "recall", "coverage")


class Bench:
    """Held-out windows, and what the judges make of real ones."""

    def __init__(
        self,
        run: Path,
        cohort: Cohort,
        windows: int,
        lpips_weights: Path | None,
        seed: int,
        part: str | None = None,
    ) -> None:
        recipe = load_recipe(run / "recipe.yaml")
        split = cohort.split(recipe.split.name)
        self.pipeline, self.seed = TissuePipeline.from_pretrained(run / "generator"), seed
        facts = self.pipeline.facts
        assert facts is not None
        self.window_px, self.sampler = facts.window_px, facts.sampler
        part = part or recipe.evaluation.part
        train = read_tissue(cohort, split.train, facts, "train", TRAIN_WINDOWS)
        if part == "train" and windows > len(train) / 2:
            raise SystemExit(
                f"--windows {windows} of {len(train)} training windows leave too few to compare with"
            )
        if part == "train":
            painted = np.linspace(0, len(train) - 1, windows).round().astype(int)
            self.real = train.take(painted)
            train = train.take(np.setdiff1d(np.arange(len(train)), painted))
        else:
            self.real = read_tissue(cohort, split.part(part), facts, "real", windows)
        asked = EvaluationSettings(
            mpp=cohort.mpp, lpips_weights=lpips_weights, took_part_in_training=facts.took_part
        )
        self.judges = build_judges(asked)[0]
        self.features = judge_features(self.judges, self.real.pixels, "real windows")
        ours = judge_features(self.judges, train.pixels, "training windows")
        same_n = np.linspace(0, len(train) - 1, min(len(self.real), len(train))).round().astype(int)
        self.train = {name: frechet_distance(f[same_n], self.features[name]) for name, f in ours.items()}
        expression = log_normalised(train.counts)
        chosen = variable_genes(expression, recipe.evaluation.recovery_genes)
        self.readers = {name: Reader.fit(f, expression[:, chosen]) for name, f in ours.items()}
        self.measured = log_normalised(self.real.counts)[:, chosen].astype(np.float64)
        self.recovered = {name: self._recovery(name, f) for name, f in self.features.items()}

    @classmethod
    def of(cls, parser: ArgumentParser, argv: Sequence[str] | None) -> tuple[Bench, Namespace]:
        """From the command line."""
        parser.add_argument("run", type=Path)
        parser.add_argument("--cohort", type=Path)
        parser.add_argument("--windows", type=int, default=96)
        parser.add_argument("--lpips-weights", type=Path)
        parser.add_argument(
            "--part", choices=["train", "validation", "test"], help="by default what is judged"
        )
        options = parser.parse_args(argv)
        cohort = Cohort.open(options.cohort or options.run / "cohort")
        bench = cls(options.run, cohort, options.windows, options.lpips_weights, options.seed, options.part)
        return bench, options

    def told(self) -> dict[str, object]:
        """What all rows share."""
        return {
            "windows": len(self.real),
            "window_px": self.window_px,
            "sampler": asdict(self.sampler),
            "recovery_of_real": {name: round(r, 3) for name, r in self.recovered.items()},
        }

    def row(
        self, settings: SamplerSettings, pipeline: TissuePipeline | None = None, seed: int | None = None
    ) -> dict[str, object]:
        """One way of painting, by the run's generator and from its noise unless others are given."""
        pipeline, real = pipeline or self.pipeline, self.real
        seed = self.seed if seed is None else seed
        painter = CohortPainter(pipeline, settings, BATCH)
        few = min(BATCH, len(real))
        asked = count_forwards(
            pipeline, lambda: painter.paint(real.windows[:few], real.conditions.take(range(few)), seed)
        )
        began = time.perf_counter()
        painted: NDArray[np.uint8] = painter.paint(real.windows, real.conditions, seed)
        return {
            "solver": settings.solver,
            "steps": settings.steps,
            "evaluations": asked,
            "seconds_a_window": round((time.perf_counter() - began) / len(real), 3),
            **self.seen(painted, f"{settings.solver} {settings.steps}"),
        }

    def seen(self, pictures: NDArray[np.uint8], what: str) -> dict[str, dict[str, float]]:
        """What the judges make of pictures of these windows; ``what`` they are is told on the progress bar."""
        found = judge_features(self.judges, pictures, what)
        overlaps = {name: Neighbourhoods.of(self.features[name], f).overlap() for name, f in found.items()}
        return {
            "fd_ratio": {
                name: round(frechet_distance(f, self.features[name]) / self.train[name], 3)
                for name, f in found.items()
            },
            "kid": {name: round(kernel_distance(f, self.features[name]), 4) for name, f in found.items()},
            **{key: {name: round(getattr(o, key), 3) for name, o in overlaps.items()} for key in OVERLAPS},
            "recovery_share": {
                name: round(self._recovery(name, f) / self.recovered[name], 3) for name, f in found.items()
            },
        }

    def _recovery(self, judge: str, features: NDArray[np.float32]) -> float:
        sections = codes(self.real.sections)
        return mean_correlation(self.readers[judge].read(features), self.measured, sections)
