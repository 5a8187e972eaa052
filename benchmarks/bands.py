"""What a decoder withholds from the judges, band by band.

    python -m benchmarks.bands RUN --part train [--cohort COHORT] [--windows 96] [--lpips-weights FILE]

Windows are encoded and decoded, and some bands of the real ones are put back: of brightness, or of the two opponent colours,
between two wavelengths (px). If a judge then finds them as near to tissue as tissue, those bands are what it had missed. At last
noise is put there instead, in every place as strong as what is missing: a judge that asks for no more than strength grants it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import gaussian_filter

from benchmarks.common import arguments, emit
from benchmarks.painting import BATCH, Bench
from stainglass.models.autoencoder import OPPONENT_COLOURS
from stainglass.synthesis.paint import CohortPainter

BRIGHTNESS, COLOURS = (0,), (1, 2)
Band = tuple[float, float, tuple[int, ...]]
"""Shortest and longest wavelength, px, and which opponent colours."""
ROWS: tuple[tuple[Band, ...], ...] = (
    (),
    ((2, 4, BRIGHTNESS),),
    ((1.3, 5, BRIGHTNESS),),
    ((8, 16, COLOURS),),
    ((4, 8, COLOURS),),
    ((1.3, 5.5, BRIGHTNESS), (6, 20, COLOURS)),
    ((1.3, 9, BRIGHTNESS), (4, 32, COLOURS)),
)
NOISY: tuple[Band, ...] = ((2, 4, BRIGHTNESS), (6, 20, COLOURS))
AROUND_PX = 4
"""Deviation of the Gaussian over which missing energy is averaged."""


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Decode, put back, judge, tell."""
    bench, options = Bench.of(arguments(__doc__), argv)
    pixels = bench.real.pixels
    decoded = CohortPainter(bench.pipeline, bench.sampler, BATCH).reconstruct(pixels)
    real, ours = opponent(pixels), opponent(decoded)
    rows: list[dict[str, object]] = []
    for bands in ROWS:
        mixed = ours + sum(band(real - ours, *one) for one in bands)
        rows.append({"put back": told(bands), **bench.seen(as_pixels(mixed), told(bands))})
    rng = np.random.default_rng(bench.seed)
    mixed = ours + sum(noise_of_what_is_missing(real, ours, one, rng) for one in NOISY)
    what = f"noise in {told(NOISY)}"
    rows.append({"put back": what, **bench.seen(as_pixels(mixed), what)})
    return emit("bands", {**bench.told(), "rows": rows}, options.out)


def told(bands: Sequence[Band]) -> str:
    """Bands in words."""
    names = {BRIGHTNESS: "brightness", COLOURS: "colours"}
    return ", ".join(f"{names[which]} of {low:g} to {high:g} px" for low, high, which in bands) or "nothing"


def opponent(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n h w 3"]:
    """Brightness, red against blue, magenta against green."""
    return np.asarray(pixels.astype(np.float32) @ np.array(OPPONENT_COLOURS, np.float32).T, np.float32)


def as_pixels(colours: Float32[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Back to red, green and blue."""
    mixed = colours @ np.array(OPPONENT_COLOURS, np.float32)
    return np.asarray(mixed.clip(0, 255).round(), np.uint8)


def band(
    colours: Float32[np.ndarray, "n h w 3"], low: float, high: float, which: Sequence[int]
) -> Float32[np.ndarray, "n h w 3"]:
    """What lies between two wavelengths in these of the opponent colours; the rest is nothing."""
    height, width = colours.shape[1:3]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    kept = (frequency >= 1 / high) & (frequency < 1 / low)
    out = np.zeros_like(colours)
    for colour in which:
        waves = np.fft.fft2(colours[..., colour]) * kept
        out[..., colour] = np.fft.ifft2(waves).real
    return out


def noise_of_what_is_missing(
    real: Float32[np.ndarray, "n h w 3"],
    ours: Float32[np.ndarray, "n h w 3"],
    one: Band,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "n h w 3"]:
    """Noise of a band, in each place as strong as the real one is stronger than ours."""

    def energy(x: Float32[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n h w 3"]:
        return np.asarray(gaussian_filter(x**2, (0, AROUND_PX, AROUND_PX, 0)), np.float32)

    missing = np.maximum(energy(band(real, *one)) - energy(band(ours, *one)), 0)
    noise = band(rng.standard_normal(real.shape).astype(np.float32), *one)
    return np.asarray(noise * np.sqrt(missing / (energy(noise) + 1e-3)), np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
