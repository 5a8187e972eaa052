"""How strongly to guide, and at which noise levels: realism against control.

    python -m benchmarks.guidance RUN [--weak RUN] [--cohort COHORT] [--windows 96] [--lpips-weights FILE] [--out guidance.json]
    python -m benchmarks.guidance RUN --weak RUN --part train --guides nothing --scales 1.5 2 --steps 8 12   # some of it

The same held-out windows and noise are painted by the run's own solver and steps, guided by every scale (Ho & Salimans 2022)
over all noise levels and over a limited interval (Kynkäänniemi et al. 2024). With a weaker run in the same latent space
(trained less, or smaller) also by what that one would paint under the same condition (autoguidance, Karras et al. 2024), or told
nothing, all over all levels. What a row tells: benchmarks/painting.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import arguments, emit
from benchmarks.painting import Bench
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import integrate
from stainglass.training.distil import require_guide

SCALES = (1.0, 1.5, 2.0, 3.0)
INTERVALS = ((0.0, 1.0), (0.2, 0.9), (0.4, 0.9))
AUTO = (1.5, 2.0, 3.0, 4.0)
GUIDES = ("null", "spots", "nothing")
"""Its own null condition; a weaker run told the spots; a weaker run told nothing."""


class AutoGuided(TissuePipeline):
    """A generator that is guided away from what a weaker one paints.

    Parameters
    ----------
    strong, weak
        Generators in one latent space.
    told
        Whether the weaker one is told the same condition, or nothing.
    """

    def __init__(self, strong: TissuePipeline, weak: TissuePipeline, told: bool) -> None:
        super().__init__(strong.autoencoder, strong.condnet, strong.denoiser, strong.scheduler)
        self.facts, self.told = strong.facts, told
        self.weak = [weak]  # in a list, so that diffusers takes it for no part

    @torch.no_grad()
    def sample_latents(
        self, conditions: ConditionTensors, noise: Tensor, settings: SamplerSettings
    ) -> Tensor:
        """Latents as the autoencoder decodes them."""
        weak = self.weak[0]
        told, told_weak = (
            self.embed(conditions),
            weak.embed(conditions if self.told else conditions.null()),
        )

        def velocity(x: Tensor, t: float) -> Tensor:
            level = torch.full((len(x),), t, device=x.device)
            v = self.velocity(x, level, told)
            if not settings.guided(t):
                return v
            v_weak = weak.velocity(x, level, told_weak)
            return v_weak + settings.guidance * (v - v_weak)

        mean, std = self._stats()
        return integrate(velocity, noise, settings.solver, settings.steps, self.flow) * std + mean


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, judge, tell."""
    parser = arguments(__doc__)
    parser.add_argument("--weak", type=Path, help="a run trained less, or smaller, in the same latent space")
    parser.add_argument("--guides", nargs="+", choices=GUIDES, help="these alone")
    parser.add_argument("--scales", nargs="+", type=float, help="these alone")
    parser.add_argument(
        "--steps", nargs="+", type=int, help="of the run's own solver, in place of its own number"
    )
    bench, options = Bench.of(parser, argv)
    if options.weak is None and options.guides and "null" not in options.guides:
        parser.error("--guides spots and nothing need --weak")
    guides = [guide for guide in GUIDES if guide in (options.guides or GUIDES)]
    rows = []
    for steps in options.steps or (bench.sampler.steps,):
        own = replace(bench.sampler, steps=steps)
        if "null" in guides:
            intervals = INTERVALS if options.weak is None else INTERVALS[:1]
            rows += _by_null(bench, own, options.scales or SCALES, intervals)
        if options.weak is not None:
            told = [guide == "spots" for guide in guides if guide != "null"]
            rows += _by_weaker(bench, own, options.scales or AUTO, options.weak, told)
    return emit("guidance", {**bench.told(), "rows": rows}, options.out)


def _by_null(
    bench: Bench, own: SamplerSettings, scales: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> list[dict[str, object]]:
    """Guided by the run's own null condition."""
    ways = [
        (scale, interval) for scale in scales for interval in (intervals if scale != 1 else intervals[:1])
    ]
    return [
        {
            "guidance": scale,
            "interval": interval,
            **bench.row(replace(own, guidance=scale, interval=interval)),
        }
        for scale, interval in ways
    ]


def _by_weaker(
    bench: Bench, own: SamplerSettings, scales: Sequence[float], folder: Path, told: Sequence[bool]
) -> list[dict[str, object]]:
    """Guided away from a weaker run, told the spots or nothing, at all noise levels."""
    weak = TissuePipeline.from_pretrained(folder / "generator")
    assert bench.pipeline.facts is not None
    require_guide(folder, weak, bench.pipeline.facts)
    rows = []
    for hears, scale in product(told, scales):
        settings = replace(own, guidance=scale, interval=INTERVALS[0])
        row = bench.row(settings, AutoGuided(bench.pipeline, weak, hears))
        row["evaluations"] = f"{row['evaluations']} of each"  # only the stronger network's are counted
        by = "by the weaker run" + ("" if hears else " told nothing")
        rows.append({"guidance": f"{scale:g}, {by}", "interval": INTERVALS[0], **row})
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
