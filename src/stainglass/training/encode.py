"""Rasters → latent rasters, once, in overlapping tiles that equal encoding a section whole; and the space trained in."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.cohort.raster import WHITE
from stainglass.cohort.splits import Split
from stainglass.cohort.stain_variants import StainVariant, stain_variants
from stainglass.cohort.windows import Window
from stainglass.config import Recipe
from stainglass.models.autoencoder import encode_pixels, pixels_to_input
from stainglass.models.facts import Facts
from stainglass.models.stable_diffusion import scaled_statistics
from stainglass.models.turns import turn_plane
from stainglass.progress import Advance, progress_bar
from stainglass.training.checkpoint import hash_of_weights
from stainglass.training.denoise import LatentSpace
from stainglass.training.fit import latent_statistics
from stainglass.training.processes import processes, shared_out
from stainglass.units import LATENT_STEP_PX

TILE_PX = 1024
A_DAY_SECONDS = 86_400
CHUNK = 128
"""Latents a side of a chunk: a window is read a third faster than from chunks of 64."""
FOREIGN_HALO_PX = 160
"""Pixels encoded round a tile and thrown away, for an autoencoder that does not tell how far it looks: measured on
Stable Diffusion 3's tiny one, 20 latents are enough."""


def raster_name(autoencoder: Any, turn: int = 0, stain: str = "") -> str:
    """``<class>-<hash of the encoder's weights>-<turn>[-<stain>]``: another encoder or stain gives another raster beside it.

    A decoder has no say in latents, so those of a sharpened one are there already.
    """
    name = f"{type(autoencoder).__name__.lower()}-{hash_of_weights(autoencoder, without='decoder.')}-{turn}"
    return f"{name}-{stain}" if stain else name


def turns_needed(autoencoder: Any) -> range:
    """One raster serves all turns when the autoencoder commutes with them; else one a turn."""
    return range(1) if getattr(autoencoder, "frequencies", None) is not None else range(8)


def encode_sections(
    cohort: Cohort,
    sections: Sequence[str],
    autoencoder: Any,
    turns: Sequence[int],
    stains: Sequence[StainVariant] = (),
) -> None:
    """Write the latent rasters that are missing: of every section as it is and, beside it, in each of ``stains``.

    Of several processes each encodes a share, and none goes on before all have.
    """
    missing = shared_out(
        lambda: [
            (cohort.sections[name], turn, stain)
            for name in sections
            for stain in (None, *stains)
            for turn in turns
            if not cohort.sections[name].has_latents(
                raster_name(autoencoder, turn, stain.name if stain else "")
            )
        ]
    )
    total = sum(len(_tiles(section)) for section, _, _ in missing)
    if total > 0:
        with progress_bar("encoding sections", total) as advance:
            for section, turn, stain in missing:
                advance(0, f"{section.id}, {stain.name}" if stain else section.id)
                _encode_section(section, autoencoder, turn, stain, advance)
    processes().wait_for_everyone()


def latent_space(
    cohort: Cohort, split: Split, recipe: Recipe, autoencoder: Any, known: Facts | None = None
) -> LatentSpace:
    """Encode the training sections (what is missing), in every stain they are given, and fit the statistics of the latents.

    Stable Diffusion's family works on latents scaled by the autoencoder's own factor, where it has one; a generator
    that is gone on from or taught from (``known``), on those it knows.
    """
    processes()  # of several, each then has a GPU of its own
    autoencoder = autoencoder.to("cuda" if torch.cuda.is_available() else "cpu")
    loop = recipe.train_denoiser
    turns = turns_needed(autoencoder) if loop.turns else range(1)
    stain_seed = loop.seed if loop.stain_seed is None else loop.stain_seed
    stains = stain_variants(cohort, split.train, loop.stain_variants, loop.stain_method, stain_seed)
    encode_sections(cohort, split.train, autoencoder, turns, stains)
    rasters = tuple(raster_name(autoencoder, turn) for turn in turns)
    restained = tuple(tuple(raster_name(autoencoder, turn, s.name) for turn in turns) for s in stains)
    scaled = scaled_statistics(autoencoder) if recipe.denoiser.kind == "stable-diffusion" else None
    if known is not None:
        scaled = np.asarray(known.latent_mean, np.float32), np.asarray(known.latent_std, np.float32)
    if scaled is None:
        frequencies = getattr(autoencoder, "frequencies", None)
        scaled = latent_statistics(cohort, split.train, rasters[0], recipe.windows.size_px, frequencies)
    mean, std = scaled
    return LatentSpace(autoencoder, rasters, mean, std, restained, stains)


def _tiles(section: PreparedSection) -> list[tuple[int, int]]:
    height, width = section.size_px_yx
    return [(top, left) for top in range(0, height, TILE_PX) for left in range(0, width, TILE_PX)]


def _encode_section(
    section: PreparedSection, autoencoder: Any, turn: int, stain: StainVariant | None, advance: Advance
) -> None:
    height, width = section.size_px_yx
    step = LATENT_STEP_PX
    size = (-(-height // step), -(-width // step))
    halo = _halo_px(autoencoder)
    white = white_latent(autoencoder)
    name = raster_name(autoencoder, turn, stain.name if stain else "")
    # Of a name of its own: another run may be encoding the same section.
    temporary = section.path / "latent" / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
    _sweep(temporary.parent)
    array = zarr.create_array(
        str(temporary),
        shape=(*size, len(white)),
        chunks=(CHUNK, CHUNK, len(white)),
        dtype="float16",
        compressors=None,  # half floats of latents hardly compress, and windows are read all the time
        attributes={"white": [float(v) for v in white], "turn": turn, "mpp": section.mpp * step},
        dimension_names=("y", "x", "c"),
        zarr_format=3,
    )
    for top, left in _tiles(section):
        rows, columns = (
            min(TILE_PX // step, size[0] - top // step),
            min(TILE_PX // step, size[1] - left // step),
        )
        tile = section.pixels(Window(section.id, top - halo, left - halo, TILE_PX + 2 * halo))
        if (tile == WHITE).all():
            latents = np.broadcast_to(white.astype(np.float16), (rows, columns, len(white)))
        else:
            restained = tile if stain is None else stain.of(section.id, tile)
            latents = _encode_tile(autoencoder, restained, turn)[:rows, :columns]
        array[top // step : top // step + rows, left // step : left // step + columns] = latents
        advance()
    final = section.path / "latent" / name
    if not final.exists():
        with contextlib.suppress(OSError):  # the other run was first
            temporary.rename(final)
    shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed runs left behind: nobody encodes a section for a day."""
    for leftover in folder.glob(".*.tmp"):
        if time.time() - leftover.stat().st_mtime > A_DAY_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _halo_px(autoencoder: Any) -> int:
    return int(getattr(autoencoder, "halo_px", FOREIGN_HALO_PX))


@torch.no_grad()
def _encode_tile(autoencoder: Any, tile: NDArray[np.uint8], turn: int) -> NDArray[np.float16]:
    """Latents of the inner part of a tile, (h, w, c). The turned tile is encoded and its plane turned back,
    so that every raster of a section lies on the same grid.
    """
    device = next(autoencoder.parameters()).device
    pixels = turn_plane(pixels_to_input(torch.from_numpy(tile)[None]).to(device), turn)
    latents = turn_plane(encode_pixels(autoencoder, pixels), _inverse(turn))[0].float()
    halo = _halo_px(autoencoder) // LATENT_STEP_PX
    inner = latents[:, halo:-halo, halo:-halo].movedim(0, -1)
    return inner.to(torch.float16).cpu().numpy()


def _inverse(turn: int) -> int:
    """The turn that undoes this one: without the swap each is its own; with it the two flips change places."""
    return turn if not turn & 4 else 4 | ((turn & 1) << 1) | ((turn & 2) >> 1)


@torch.no_grad()
def white_latent(autoencoder: Any) -> NDArray[np.float32]:
    """The latent of glass, (c,)."""
    device = next(autoencoder.parameters()).device
    side = 2 * FOREIGN_HALO_PX
    latents = encode_pixels(autoencoder, torch.ones(1, 3, side, side, device=device))
    return np.asarray(latents[0, :, side // 16, side // 16].float().cpu().numpy())
