"""How many steps painting needs: Fréchet distance and time against evaluations of the network, solver by solver.

    python -m benchmarks.steps RUN [--few RUN] [--cohort COHORT] [--windows 96] [--lpips-weights FILE] [--out steps.json]
    python -m benchmarks.steps RUN --part train --only unipc euler      # a sampler is chosen where nothing is held out

The same held-out windows and noise are painted by every solver and number of steps, and once as a stock diffusers pipeline would
(Euler, 50 steps, guided at each: 100 evaluations). What a row tells: benchmarks/painting.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import arguments, emit
from benchmarks.painting import Bench
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings

SWEEP = (
    *(("unipc", steps) for steps in (2, 4, 8, 16)),
    *(("dpmpp", steps) for steps in (4, 8, 16)),
    *(("euler", steps) for steps in (4, 6, 8, 12, 16)),
    *(("heun", steps) for steps in (4, 8)),
)
STOCK = SamplerSettings("euler", 50, 1.5, (0.0, 1.0))


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, judge, tell."""
    parser = arguments(__doc__)
    parser.add_argument("--few", type=Path, help="a run that was distilled from it")
    parser.add_argument("--only", nargs="+", help="these solvers, of which 'stock' is the stock pipeline")
    bench, options = Bench.of(parser, argv)
    own = bench.sampler
    ways = [(s, n) for s, n in SWEEP if options.only is None or s in options.only]
    rows = [bench.row(replace(own, solver=s, steps=n)) for s, n in ways]
    if options.only is None or "stock" in options.only:
        rows.append({**bench.row(STOCK), "solver": "stock (euler)"})
    if options.few is not None:
        few = TissuePipeline.from_pretrained(options.few / "generator")
        assert few.facts is not None
        rows.append({**bench.row(few.facts.sampler, few), "solver": "distilled"})
    return emit("steps", {**bench.told(), "rows": rows}, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
