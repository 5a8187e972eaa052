"""Does a re-stained slide have the stain it was given? Every section of a cohort in every other's stain, fitted again.

    python -m benchmarks.stain [--cohort COHORT] [--out stain.json]

Beside each error stands how far apart the two stains were to begin with. ``there_and_back`` is the mean difference of
pixels, in levels of 255, after the way back. Without ``--cohort`` four simulated patients.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, emit, simulated, target
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.stain import METHODS, Macenko, stain_pixels


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Both methods over all pairs."""
    parser = arguments(__doc__)
    parser.add_argument("--cohort", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if options.cohort is not None:
            cohort = Cohort.open(options.cohort)
        else:
            cohort = simulated(Path(temporary), 1000.0, 0.5, 0.5, patients=4)
        pixels = {name: stain_pixels(section) for name, section in cohort.sections.items()}
    figures: dict[str, Any] = {"sections": len(pixels), "simulated": options.cohort is None}
    for method in METHODS:
        figures[method] = measured(method, pixels)
    figures["restained_error_share"] = target(
        float(max(figures[m]["error"] / figures[m]["apart"] for m in METHODS)), 0.5, at_least=False
    )
    return emit("stain", figures, options.out)


def measured(method: str, pixels: dict[str, Any]) -> dict[str, Any]:
    """Median error over ordered pairs of sections."""
    began = time.perf_counter()
    fits: dict[str, Any] = {name: METHODS[method].fit(*found) for name, found in pixels.items()}
    fitted = (time.perf_counter() - began) / len(fits)
    rows, seconds = [], 0.0
    for one, other in permutations(fits, 2):
        began = time.perf_counter()
        moved = fits[one].restain(pixels[one][0], fits[other])
        seconds += (time.perf_counter() - began) / (len(moved) / 1e6)
        found = METHODS[method].fit(moved, pixels[other][1])
        back = fits[other].restain(moved, fits[one]).astype(int)
        rows.append(
            [
                *distance(fits[one], fits[other]),
                *distance(found, fits[other]),
                np.abs(back - pixels[one][0]).mean(),
            ]
        )
    apart, apart_strength, error, error_strength, back = (float(v) for v in np.median(rows, axis=0))
    return {
        "unit": "degrees of the dyes" if method == "macenko" else "means in lαβ",
        "apart": round(apart, 4),
        "error": round(error, 4),
        "apart_in_strength": round(apart_strength, 4),
        "error_in_strength": round(error_strength, 4),
        "there_and_back": round(back, 3),
        "seconds_to_fit": round(fitted, 3),
        "seconds_a_megapixel": round(seconds / len(rows), 3),
    }


def distance(one: Any, other: Any) -> tuple[float, float]:
    """Largest angle between dyes (degrees) or difference of means; largest relative difference of strengths."""
    if isinstance(one, Macenko):
        cosine = np.clip((one.dyes * other.dyes).sum(1), -1, 1)
        return float(np.degrees(np.arccos(cosine)).max()), float(
            np.abs(one.strength / other.strength - 1).max()
        )
    return float(np.abs(one.mean - other.mean).max()), float(
        np.abs(one.deviation / other.deviation - 1).max()
    )


if __name__ == "__main__":
    main(sys.argv[1:])
