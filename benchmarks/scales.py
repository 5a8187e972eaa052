"""At which scale painted tissue is unlike real tissue.

    python -m benchmarks.scales RUN [--cohort COHORT] [--part train] [--windows 96] [--sigmas 16 8 4 2 1] [--lpips-weights FILE]

Each painted window is put together with the real one of the same place: of the one what a Gaussian of some width (px) leaves,
the coarse, of the other what it takes, the fine. If the judges find a mixture as near to tissue as tissue, what it has of the
painted window is right. But a mixture has seams of its own where edges of the two do not meet, the more the finer the scale; so
the two mixtures of a scale tell most beside each other, and beside the painted windows as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import gaussian_filter

from benchmarks.common import arguments, emit
from benchmarks.painting import BATCH, Bench
from stainglass.synthesis.paint import CohortPainter

SIGMAS = (16.0, 8.0, 4.0, 2.0, 1.0)


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Paint, mix, judge, tell."""
    parser = arguments(__doc__)
    parser.add_argument("--sigmas", nargs="+", type=float, default=SIGMAS, help="widths of the Gaussian, px")
    bench, options = Bench.of(parser, argv)
    real = bench.real
    painted = CohortPainter(bench.pipeline, bench.sampler, BATCH).paint(
        real.windows, real.conditions, bench.seed
    )
    rows: list[dict[str, object]] = [
        {"coarse": "painted", "fine": "painted", **bench.seen(painted, "painted")}
    ]
    pictures = {"painted": painted, "real": real.pixels}
    for sigma in options.sigmas:
        for coarse, fine in (("painted", "real"), ("real", "painted")):
            mixed = mixture(pictures[coarse], pictures[fine], sigma)
            seen = bench.seen(mixed, f"coarse {coarse}, {sigma:g} px")
            rows.append({"sigma_px": sigma, "coarse": coarse, "fine": fine, **seen})
    return emit("scales", {**bench.told(), "rows": rows}, options.out)


def mixture(
    coarse: UInt8[np.ndarray, "n h w 3"], fine: UInt8[np.ndarray, "n h w 3"], sigma: float
) -> UInt8[np.ndarray, "n h w 3"]:
    """What is coarser than ``sigma`` px of the one pictures, and the rest of the others."""
    rest = fine - blurred(fine, sigma)
    return np.asarray((blurred(coarse, sigma) + rest).clip(0, 255).round(), np.uint8)


def blurred(pictures: UInt8[np.ndarray, "n h w 3"], sigma: float) -> Float32[np.ndarray, "n h w 3"]:
    """Pictures through a Gaussian, mirrored at their edges."""
    return np.asarray(
        gaussian_filter(pictures.astype(np.float32), (0, sigma, sigma, 0), mode="reflect"), np.float32
    )


if __name__ == "__main__":
    main(sys.argv[1:])
