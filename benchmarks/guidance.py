"""How strongly to guide, and at which noise levels: realism against control.

    python -m benchmarks.guidance RUN [--cohort COHORT] [--windows 96] [--lpips-weights FILE] [--out guidance.json]

The same held-out windows and noise are painted by the run's own solver and steps, guided by every scale (Ho & Salimans 2022) over
all noise levels and over a limited interval (Kynkäänniemi et al. 2024). What a row tells: benchmarks/painting.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.common import arguments, emit
from benchmarks.painting import Bench

SCALES = (1.0, 1.5, 2.0, 3.0)
INTERVALS = ((0.0, 1.0), (0.2, 0.9), (0.4, 0.9))


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, judge, tell."""
    bench, options = Bench.of(arguments(__doc__), argv)
    ways = [
        (scale, interval) for scale in SCALES for interval in (INTERVALS if scale != 1 else INTERVALS[:1])
    ]
    rows = [
        {
            "guidance": scale,
            "interval": interval,
            **bench.row(replace(bench.sampler, guidance=scale, interval=interval)),
        }
        for scale, interval in ways
    ]
    return emit("guidance", {**bench.told(), "rows": rows}, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
