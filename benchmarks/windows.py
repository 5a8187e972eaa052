"""Windows a second: from the cohort's rasters against OpenSlide on the tiled slide they came from.

    python -m benchmarks.windows [--cohort COHORT --slide SLIDE] [--out windows.json]

The same random windows both ways. Pixels: `PreparedSection.pixels` against ``read_region`` at the best
level and a resize to the window. Latents: `PreparedSection.latents` against the same and an encoding, in
one batch, by the same autoencoder. Without ``--cohort`` a section is simulated in a temporary folder; it is
small, so a good part of it fits OpenSlide's cache of decoded tiles, which a real slide does not: the ratios
are rather too low than too high. Training holds rasters in memory when they fit, the third figure.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openslide
import torch
from PIL import Image

from benchmarks.common import arguments, emit, in_turns, simulated, target
from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.cohort.windows import Window
from stainglass.models.autoencoder import TissueAutoencoder, encode_pixels, pixels_to_input
from stainglass.training.encode import encode_sections, raster_name
from stainglass.units import LATENT_STEP_PX


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--cohort", type=Path, help="a prepared cohort; its first section is read")
    parser.add_argument("--slide", type=Path, help="that section's tiled slide")
    parser.add_argument("--windows", type=int, default=48)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    if (options.cohort is None) != (options.slide is None):
        parser.error("--cohort and --slide go together")
    with tempfile.TemporaryDirectory() as temporary:
        if options.cohort is None:
            cohort = simulated(Path(temporary), size_um=1600.0, slide_mpp=0.5, mpp=0.75)
            slide = Path(temporary) / "simulated" / "P1" / "slide.tif"
        else:
            cohort, slide = Cohort.open(options.cohort), options.slide
        section = next(iter(cohort.sections.values()))
        windows = random_windows(section, options.windows, options.size_px, options.seed)
        figures = measure(cohort, section, slide, windows, options.rounds)
    return emit("windows", figures, options.out)


def measure(
    cohort: Cohort, section: PreparedSection, slide: Path, windows: list[Window], rounds: int
) -> dict[str, object]:
    """Seconds of every way over the same windows, taken in turns, as windows a second and ratios."""
    torch.manual_seed(0)
    autoencoder = TissueAutoencoder().eval().requires_grad_(False)
    encode_sections(cohort, [section.id], autoencoder, range(1))
    raster = raster_name(autoencoder)
    held = PreparedSection(section.path, section.record, section.mpp)
    held.keep_in_memory("he/0")
    handle = openslide.OpenSlide(str(slide))
    scale = handle.dimensions[1] / section.size_px_yx[0]

    def from_slide() -> np.ndarray:
        return np.stack([read_and_resize(handle, window, scale) for window in windows])

    def encoded() -> torch.Tensor:
        return encode_pixels(autoencoder, pixels_to_input(torch.from_numpy(from_slide())))

    seconds = in_turns(
        {
            "pixels_openslide": from_slide,
            "pixels_cohort": lambda: [section.pixels(window) for window in windows],
            "pixels_in_memory": lambda: [held.pixels(window) for window in windows],
            "latents_openslide": encoded,
            "latents_cohort": lambda: [section.latents(raster, window) for window in windows],
        },
        rounds,
    )
    difference = np.abs(from_slide().astype(int) - np.stack([section.pixels(w) for w in windows]))
    return {
        "windows": len(windows),
        "window_px": windows[0].size_px,
        "slide_px_yx": [handle.dimensions[1], handle.dimensions[0]],
        "raster_px_yx": list(section.size_px_yx),
        "same_picture_median_difference": float(np.median(difference)),
        "windows_per_second": {name: round(len(windows) / value, 1) for name, value in seconds.items()},
        "latents_ratio": target(seconds["latents_openslide"] / seconds["latents_cohort"], 20),
        "pixels_ratio": target(seconds["pixels_openslide"] / seconds["pixels_cohort"], 3),
        "pixels_in_memory_ratio": round(seconds["pixels_openslide"] / seconds["pixels_in_memory"], 1),
    }


def random_windows(section: PreparedSection, number: int, size_px: int, seed: int) -> list[Window]:
    """Windows anywhere inside the raster, on the latent grid."""
    rng = np.random.default_rng(seed)
    room = [(side - size_px) // LATENT_STEP_PX for side in section.size_px_yx]
    corners = rng.integers(0, [room[0] + 1, room[1] + 1], (number, 2)) * LATENT_STEP_PX
    return [Window(section.id, int(top), int(left), size_px) for top, left in corners]


def read_and_resize(handle: openslide.OpenSlide, window: Window, scale: float) -> np.ndarray:
    """The way without a cohort: the best level's region of the same field, resized to the window."""
    level = handle.get_best_level_for_downsample(scale)
    side = round(window.size_px * scale / handle.level_downsamples[level])
    corner = (round(window.left_px * scale), round(window.top_px * scale))
    region = handle.read_region(corner, level, (side, side)).convert("RGB")
    return np.asarray(region.resize((window.size_px, window.size_px), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main(sys.argv[1:])
