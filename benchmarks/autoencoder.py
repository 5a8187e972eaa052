"""An autoencoder on tissue it was not trained on: quality, nuclei, seams, turns, realism, speed.

    python -m benchmarks.autoencoder AUTOENCODER --cohort COHORT --section C5 --train C2 C3 C4 [--out autoencoder.json]

AUTOENCODER is a folder (RUN/autoencoder/model, RUN/generator/autoencoder, or a diffusers one). Judged are the
section's patches of 256 px, as real pixels against what comes back. Nuclei are counted by a reader whose threshold
was fitted on the first of ``--train``. A seam is the largest difference between the latents of a square encoded alone (with the
margin the network looks) and as the section's raster has it, across the corner of four tiles, in units of the
latents' deviation. Of the eight turns the worst is told: how many dB a turned latent loses against the straight one.
``fd_ratio`` is the Fréchet distance of what comes back over that of as many windows of ``--train``, judge by judge
(``--lpips-weights`` for the second); painting on these latents seldom does better. ``power`` is the share of the real
pictures' energy in brightness waves of so many px, and low where detail is lost; ``lattice`` the deviation, in grey levels, of a
pattern in step with the latents that every decoded picture has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from benchmarks.common import arguments, emit, target
from stainglass.analysis.nuclei import NucleusReader
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.evaluation.distances import frechet_distance, kernel_distance
from stainglass.evaluation.features import build_judges
from stainglass.evaluation.measure import judge_features
from stainglass.evaluation.pairs import ssim
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.models.autoencoder import decode_latents, encode_pixels, load_autoencoder, pixels_to_input
from stainglass.models.turns import TURNS, turn_latents, turn_plane
from stainglass.training.encode import FOREIGN_HALO_PX, TILE_PX, encode_sections, raster_name
from stainglass.training.reconstruct import lattice
from stainglass.units import LATENT_STEP_PX

WINDOW_PX, BATCH, SQUARE_PX, TURNED = 256, 16, 256, 24
WAVES_PX = (32, 16, 8, 5.3, 4, 3, 2)


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("autoencoder", type=Path)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--section", required=True)
    parser.add_argument("--train", required=True, nargs="+", help="training sections")
    parser.add_argument("--lpips-weights", type=Path)
    options = parser.parse_args(argv)
    cohort, autoencoder = Cohort.open(options.cohort), load_autoencoder(options.autoencoder)
    pixels = cohort.pixels(cohort.patches([options.section], WINDOW_PX))
    reader = NucleusReader.fit(cohort.pixels(cohort.patches(options.train[:1], WINDOW_PX)), cohort.mpp)
    began = time.perf_counter()
    latents = _batches(autoencoder, pixels, lambda x: encode_pixels(autoencoder, x))
    encoded = time.perf_counter() - began
    began = time.perf_counter()
    back = np.concatenate([decode_latents(autoencoder, z).numpy() for z in latents.split(BATCH)])
    decoded = time.perf_counter() - began
    counts = np.corrcoef(reader.read(pixels)[:, 0], reader.read(back)[:, 0])[0, 1]
    lost = _turned(autoencoder, pixels[:TURNED], latents[:TURNED], psnr(pixels[:TURNED], back[:TURNED]))
    megapixels = pixels.size / 3e6
    figures = {
        "section": options.section,
        "windows": len(pixels),
        "psnr_db": target(psnr(pixels, back), 30.0),
        "ssim": target(float(ssim(pixels, back).mean()), 0.93),
        "nuclei_r": target(float(counts), 0.95),
        "turn_costs_db": target(lost, 0.5, at_least=False),
        **_realism(cohort, options.train, pixels, back, options.lpips_weights),
        "power": _power(pixels, back),
        "lattice": round(_lattice(pixels, back), 3),
        "seam": round(_seam(cohort, options.section, autoencoder, latents), 4),
        "megapixels_a_second": {
            "encode": round(megapixels / encoded, 2),
            "decode": round(megapixels / decoded, 2),
        },
    }
    return emit("autoencoder", figures, options.out)


def _realism(
    cohort: Cohort,
    train: Sequence[str],
    real: UInt8[np.ndarray, "n h w 3"],
    back: UInt8[np.ndarray, "n h w 3"],
    lpips_weights: Path | None,
) -> dict[str, dict[str, float]]:
    """How far from tissue what comes back is, in the eyes of the card's judges."""
    patches = cohort.patches(train, WINDOW_PX)
    n = min(len(real), len(patches))
    some, ours = (np.linspace(0, total - 1, n).round().astype(int) for total in (len(patches), len(real)))
    judges = build_judges(EvaluationSettings(mpp=cohort.mpp, lpips_weights=lpips_weights))[0]
    training = cohort.pixels([patches[i] for i in some])
    pictures = {"real": real[ours], "decoded": back[ours], "training": training}
    seen = {name: judge_features(judges, found, f"{name} windows") for name, found in pictures.items()}
    ratio, kid = {}, {}
    for judge, there in seen["real"].items():
        decoded, other = seen["decoded"][judge], seen["training"][judge]
        ratio[judge] = round(frechet_distance(decoded, there) / frechet_distance(other, there), 3)
        kid[judge] = round(kernel_distance(decoded, there), 4)
    return {"fd_ratio": ratio, "kid": kid}


def _power(real: UInt8[np.ndarray, "n h w 3"], back: UInt8[np.ndarray, "n h w 3"]) -> dict[str, float]:
    """Share of the energy there is, by wavelength."""
    cycles = np.hypot(np.fft.fftfreq(real.shape[1])[:, None], np.fft.rfftfreq(real.shape[2])[None])
    # A hard edge would be in every wave.
    faded = np.outer(np.hanning(real.shape[1]), np.hanning(real.shape[2]))

    def energy(pixels: np.ndarray) -> np.ndarray:
        found = np.zeros_like(cycles)
        for one in pixels:
            grey = one.mean(-1)
            found += np.abs(np.fft.rfft2((grey - grey.mean()) * faded)) ** 2
        return found

    ours, its = energy(real), energy(back)
    bands = {(long, short): (cycles >= 1 / long) & (cycles < 1 / short) for long, short in pairwise(WAVES_PX)}
    return {
        f"{long:g}-{short:g}": round(float(its[at].sum() / ours[at].sum()), 3)
        for (long, short), at in bands.items()
    }


def _lattice(real: UInt8[np.ndarray, "n h w 3"], back: UInt8[np.ndarray, "n h w 3"]) -> float:
    """Deviation, in grey levels, of the mean error by place in a block: a pattern that every picture has."""
    error = torch.from_numpy(back.astype(np.float32) - real).movedim(-1, 1)
    return float(lattice(error).std())


def psnr(real: UInt8[np.ndarray, "n h w 3"], back: UInt8[np.ndarray, "n h w 3"]) -> float:
    """dB over all pixels together."""
    error = np.mean((real.astype(np.float32) - back.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / error))


@torch.no_grad()
def _batches(autoencoder: Any, pixels: UInt8[np.ndarray, "n h w 3"], work: Any) -> torch.Tensor:
    return torch.cat([work(pixels_to_input(part)) for part in torch.from_numpy(pixels).split(BATCH)])


def _turned(autoencoder: Any, pixels: np.ndarray, latents: torch.Tensor, straight: float) -> float:
    """What the worst of the turns, done on latents, costs in dB."""
    frequencies = getattr(autoencoder, "frequencies", None)
    found = []
    for turn in TURNS:
        back = decode_latents(autoencoder, turn_latents(latents, turn, frequencies)).numpy()
        real = turn_plane(torch.from_numpy(pixels).movedim(-1, 1), turn).movedim(1, -1).numpy()
        found.append(psnr(real, back))
    return straight - min(found)


def _seam(cohort: Cohort, section: str, autoencoder: Any, latents: torch.Tensor) -> float:
    """Largest difference, in deviations, between a square encoded alone and its place in the raster of tiles."""
    encode_sections(cohort, [section], autoencoder, [0])
    prepared, halo = cohort.sections[section], int(getattr(autoencoder, "halo_px", FOREIGN_HALO_PX))
    std = latents.std((0, 2, 3)).numpy()[:, None, None]
    worst, name = 0.0, raster_name(autoencoder, 0)
    height, width = prepared.size_px_yx
    for y in range(TILE_PX, height - SQUARE_PX, TILE_PX):
        for x in range(TILE_PX, width - SQUARE_PX, TILE_PX):
            corner = Window(section, y - SQUARE_PX // 2, x - SQUARE_PX // 2, SQUARE_PX)
            if (prepared.pixels(corner) == 255).mean() > 0.5:
                continue  # glass
            wide = Window(section, corner.top_px - halo, corner.left_px - halo, SQUARE_PX + 2 * halo)
            with torch.no_grad():
                alone = encode_pixels(
                    autoencoder, pixels_to_input(torch.from_numpy(prepared.pixels(wide))[None])
                )[0].numpy()
            margin = halo // LATENT_STEP_PX
            inner = alone[:, margin:-margin, margin:-margin]
            worst = max(
                worst, float(np.abs((inner - prepared.latents(name, corner).astype(np.float32)) / std).max())
            )
    return worst


if __name__ == "__main__":
    main(sys.argv[1:])
