"""One noise field: a window's noise is a crop of it, so a picture does not depend on batch, order or device.

Counter-based random numbers (Philox, Salmon et al. 2011) keyed by seed, section and tile of the latent
plane: any crop can be drawn without what lies around it, and overlapping windows agree where they overlap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from stainglass.cohort.windows import Window
from stainglass.units import LATENT_STEP_PX

TILE = 32
"""Latent cells a side of one draw."""


def candidate_seed(seed: int, candidate: int) -> int:
    """The seed of another field, from which a window's next candidate is painted; the first has the seed itself."""
    if candidate == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/candidate {candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def field_key(seed: int, section: str) -> int:
    """64-bit key of a section's field."""
    digest = hashlib.sha256(f"{seed}/{section}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def noise_tile(key: int, row: int, column: int, channels: int) -> Float32[np.ndarray, "c tile tile"]:
    """Standard normal noise of one tile of the plane; rows and columns may be negative."""
    place = ((row & 0xFFFFFFFF) << 32) | (column & 0xFFFFFFFF)
    generator = np.random.Generator(np.random.Philox(key=np.array([key, place], dtype=np.uint64)))
    return generator.standard_normal((channels, TILE, TILE), dtype=np.float32)


def noise_crop(
    seed: int, section: str, top: int, left: int, height: int, width: int, channels: int
) -> Float32[np.ndarray, "c h w"]:
    """A crop of a section's field; all in latent cells."""
    key = field_key(seed, section)
    rows = range(top // TILE, (top + height - 1) // TILE + 1)
    columns = range(left // TILE, (left + width - 1) // TILE + 1)
    plane = np.concatenate(
        [np.concatenate([noise_tile(key, r, c, channels) for c in columns], axis=2) for r in rows], axis=1
    )
    y, x = top - rows[0] * TILE, left - columns[0] * TILE
    return np.ascontiguousarray(plane[:, y : y + height, x : x + width])


def window_noise(seed: int, windows: Sequence[Window], channels: int) -> Float32[np.ndarray, "n c side side"]:
    """The noise of windows."""
    step = LATENT_STEP_PX
    return np.stack(
        [
            noise_crop(
                seed,
                w.section,
                w.top_px // step,
                w.left_px // step,
                w.size_px // step,
                w.size_px // step,
                channels,
            )
            for w in windows
        ]
    )
