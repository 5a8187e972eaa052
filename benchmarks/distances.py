"""Distances between large clouds: block by block against whole matrices, and the extrapolation of Fréchet distances.

    python -m benchmarks.distances [--rows 4096] [--out distances.json]

Peak memory is what Python allocates (tracemalloc); the features lie in mapped files. The extrapolation is tried on pairs of
Gaussians of known distance with the long spectrum of features, with ever more rows a feature.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import arguments, emit, target
from stainglass.evaluation.blocks import compare
from stainglass.evaluation.clouds import Cloud, slices, write_features
from stainglass.evaluation.distances import Kernels, Neighbourhoods, extrapolated, frechet_distance

FEATURES = 2048
SMALL_FEATURES = 256
PAIRS = 8


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)
    found = {n: memory(n, rng) for n in (options.rows // 2, options.rows)}
    half, whole = (figures["blocks_megabytes"] for figures in found.values())
    figures = {
        "by_rows": {str(n): figures for n, figures in found.items()},
        "memory_of_blocks_for_twice_the_rows": target(whole / half, 1.1, at_least=False),
        "extrapolation_by_rows_a_feature": {str(k): extrapolation(k, rng) for k in (0.5, 1, 2, 4, 8)},
    }
    return emit("distances", figures, options.out)


def memory(n: int, rng: np.random.Generator) -> dict[str, float]:
    """Peak memory and seconds of both ways on two clouds of n rows."""
    with tempfile.TemporaryDirectory() as folder:
        x, y = (mapped(n, rng, Path(folder) / f"{name}.npy") for name in "xy")
        by_blocks = peak(lambda: compare(Cloud(x), Cloud(y)))
        by_matrices = peak(lambda: (Kernels.of(x, y).distance(), Neighbourhoods.of(x, y).overlap()))
    return {
        "blocks_megabytes": by_blocks[0],
        "blocks_seconds": by_blocks[1],
        "matrices_megabytes": by_matrices[0],
        "matrices_seconds": by_matrices[1],
    }


def mapped(n: int, rng: np.random.Generator, path: Path) -> np.ndarray:
    """Random features in a mapped file."""
    blocks = (rng.normal(size=(at.stop - at.start, FEATURES)).astype(np.float32) for at in slices(n, 512))
    return write_features(blocks, n, path)


def peak(function: Callable[[], object]) -> tuple[float, float]:
    """Megabytes at the most, and seconds."""
    tracemalloc.start()
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return round(megabytes, 1), round(seconds, 1)


def extrapolation(rows_a_feature: float, rng: np.random.Generator) -> dict[str, float]:
    """Means over pairs of clouds, as multiples of the Gaussians' own distance."""
    d, n = SMALL_FEATURES, round(rows_a_feature * SMALL_FEATURES)
    variance, wider = 1 / np.arange(1, d + 1), 1 + 0.2 * rng.random(d)
    mean = 0.3 * np.sqrt(variance) * rng.normal(size=d)
    truth = float((mean**2).sum() + (variance * (1 - np.sqrt(wider)) ** 2).sum())
    plain, endless = [], []
    for _ in range(PAIRS):
        x = Cloud(rng.normal(size=(n, d)) * np.sqrt(variance))
        y = Cloud(rng.normal(size=(n, d)) * np.sqrt(variance * wider) + mean)
        plain.append(frechet_distance(x, y) / truth)
        endless.append(extrapolated(x, y, rng) / truth)
    return {"distance": round(float(np.mean(plain)), 2), "at_infinity": round(float(np.mean(endless)), 2)}


if __name__ == "__main__":
    main(sys.argv[1:])
