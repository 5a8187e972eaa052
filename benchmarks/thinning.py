"""How exactly to tell a generator its spots: realism and control by the share of counts that is left out.

    python -m benchmarks.thinning RUN [--cohort C] [--shares 0 .3 .5 .7] [--depths 4000 2000] [--seeds 0 1 2] [--part train]
        [--lpips-weights FILE]

The same windows are painted by the run's own sampler, with ever more of each spot's counts left out (``sampling.thinning``), then
with sections thinned to a depth (``sampling.depth``); figures are means over noise seeds. A model that knows the few spots it was
trained on by heart is too sure of others; told less, it is as sure as it was while it learnt. What a row tells:
benchmarks/painting.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common import arguments, emit
from benchmarks.painting import Bench

SHARES = (0.0, 0.3, 0.5, 0.7)


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, judge, tell."""
    parser = arguments(__doc__)
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    parser.add_argument("--depths", nargs="+", type=float, default=())
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,), help="of the noise")
    bench, options = Bench.of(parser, argv)
    ways: list[dict[str, float | None]] = [
        *({"thinning": share, "depth": None} for share in options.shares),
        *({"thinning": 0.0, "depth": depth} for depth in options.depths),
    ]
    rows = []
    for way in ways:
        how = replace(bench.sampler, **way)  # type: ignore[arg-type]
        drawn = [bench.row(how, seed=seed) for seed in options.seeds]
        rows.append({**way, **_mean(drawn)})
    return emit("thinning", {**bench.told(), "noise_seeds": list(options.seeds), "rows": rows}, options.out)


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number by number, over rows of the same keys; words and whole numbers are those of the first."""
    first = rows[0]
    return {
        key: _mean([row[key] for row in rows])
        if isinstance(value, dict)
        else value
        if isinstance(value, str | int)
        else round(float(np.mean([row[key] for row in rows])), 4)
        for key, value in first.items()
    }


if __name__ == "__main__":
    main(sys.argv[1:])
