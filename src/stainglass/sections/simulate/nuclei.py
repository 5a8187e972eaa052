"""Where the nuclei lie: by the density of the classes, kept apart like cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stainglass.sections.simulate.layout import GRID_UM, Crypt, Layout

SPARE = 2.6
"""Candidates for every nucleus wanted; those too near to another fall away."""
APART = 0.58
"""Least distance, in units of the mean spacing 1 / √density."""


def place_nuclei(layout: Layout, rng: np.random.Generator) -> pd.DataFrame:
    """Place and shape every nucleus.

    Returns
    -------
    One row a nucleus: ``y_um``, ``x_um``, ``type`` (class name), ``long_um``, ``short_um`` (semi-axes),
    ``angle``
    (radians, of the long axis from x towards y), ``od`` (haematoxylin).
    """
    names = [one.name for one in layout.classes]
    density = np.stack(
        [share * one.nuclei_per_mm2 for one, share in zip(layout.classes, layout.shares, strict=True)]
    )
    density *= layout.density * (layout.hole < 0) * (layout.inside > 3)
    if layout.crypts:
        density[names.index("crypt")] = 0  # they stand in a ring, see below
    yx, kind = _scatter(density, rng)
    cell = np.clip((yx / GRID_UM).astype(int), 0, np.array(layout.flow.shape) - 1)
    flow = layout.flow[cell[:, 0], cell[:, 1]] + rng.normal(0, 0.25, len(yx))
    follows = np.array([one.along == "flow" for one in layout.classes])[kind]
    angle = np.where(follows, flow, rng.uniform(0, np.pi, len(yx)))
    for crypt in layout.crypts:
        ring, turned = _ring(crypt, rng)
        yx, angle = np.concatenate([yx, ring]), np.concatenate([angle, turned])
        kind = np.concatenate([kind, np.full(len(ring), names.index("crypt"))])
    size = np.array(layout.flow.shape) * GRID_UM
    kept = ((yx >= 0) & (yx < size)).all(axis=1)
    return _shaped(layout, yx[kept], kind[kept], angle[kept], rng)


def _shaped(
    layout: Layout,
    yx: NDArray[np.float64],
    kind: NDArray[np.int64],
    angle: NDArray[np.float64],
    rng: np.random.Generator,
) -> pd.DataFrame:
    cell = (yx / GRID_UM).astype(int)
    lack = layout.hypoxia[cell[:, 0], cell[:, 1]]
    vary = rng.lognormal(0, 0.13, (len(yx), 2))
    # Cells short of oxygen shrink and darken.
    long = np.array([one.nucleus_um[0] for one in layout.classes])[kind] * vary[:, 0] * (1 - 0.22 * lack)
    short = np.array([one.nucleus_um[1] for one in layout.classes])[kind] * vary[:, 1] * (1 - 0.22 * lack)
    od = (
        np.array([one.nucleus_od for one in layout.classes])[kind]
        * rng.lognormal(0, 0.12, len(yx))
        * (1 + 0.45 * lack)
    )
    return pd.DataFrame(
        {
            "y_um": yx[:, 0],
            "x_um": yx[:, 1],
            "type": np.array([one.name for one in layout.classes], dtype=object)[kind],
            "long_um": np.maximum(long, short),
            "short_um": np.minimum(long, short),
            "angle": angle,
            "od": od,
        }
    )


def _scatter(
    density: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points (y, x) in µm of a varying density (classes, h, w) per mm², kept apart, and their classes."""
    total = density.sum(axis=0, dtype=np.float64)
    cell_mm2 = (GRID_UM / 1000) ** 2
    number = rng.poisson(total * cell_mm2 * SPARE)
    rows, columns = np.nonzero(number)
    rows, columns = np.repeat(rows, number[rows, columns]), np.repeat(columns, number[rows, columns])
    order = rng.permutation(len(rows))
    rows, columns = rows[order], columns[order]
    yx = (np.stack([rows, columns], axis=1) + rng.random((len(rows), 2))) * GRID_UM
    apart_um = APART * 1000 / np.sqrt(np.maximum(total[rows, columns], 1.0))
    kept = _keep_apart(yx, np.minimum(apart_um, 26.0), rng)
    # What stands too dense after all is thinned down to the density that was asked for.
    wanted = rng.poisson(total.sum() * cell_mm2)
    kept = kept[:wanted] if len(kept) > wanted else kept
    rows, columns, yx = rows[kept], columns[kept], yx[kept]
    edges = np.cumsum(density[:, rows, columns], axis=0)
    kind = (rng.random(len(rows)) * edges[-1] > edges).sum(axis=0)
    return yx, np.minimum(kind, len(density) - 1)


def _keep_apart(
    yx: NDArray[np.float64], apart_um: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of a maximal set in which no two are nearer than the smaller of their distances; first
    come stays.
    """
    if not len(yx):
        return np.zeros(0, dtype=np.int64)
    alive = np.ones(len(yx), dtype=np.bool_)
    # Dense and sparse regions are searched apart: one radius for all would find millions of pairs.
    for low, high in ((0.0, 7.0), (7.0, 12.0), (12.0, 27.0)):
        band = np.flatnonzero((apart_um >= low) & (apart_um < high) & alive)
        if len(band) < 2:
            continue
        pairs = cKDTree(yx[band]).query_pairs(high, output_type="ndarray")
        pairs = band[pairs]
        near = np.linalg.norm(yx[pairs[:, 0]] - yx[pairs[:, 1]], axis=1) < np.minimum(*apart_um[pairs].T)
        pairs = np.sort(pairs[near], axis=1)
        for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
            if alive[first]:
                alive[second] = False
    return np.flatnonzero(alive)


def _ring(crypt: Crypt, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nuclei of a gland: one row near its base, long axes towards the lumen."""
    number = round(2 * np.pi * np.sqrt(crypt.long_um * crypt.short_um) * 0.80 / 5.6)
    turn = (np.arange(number) + rng.uniform(-0.25, 0.25, number)) * 2 * np.pi / number
    radius = rng.normal(0.80, 0.035, number)
    a, b = radius * crypt.long_um * np.cos(turn), radius * crypt.short_um * np.sin(turn)
    dx = a * np.cos(crypt.angle) - b * np.sin(crypt.angle)
    dy = a * np.sin(crypt.angle) + b * np.cos(crypt.angle)
    return np.stack([crypt.y_um + dy, crypt.x_um + dx], axis=1), np.arctan2(dy, dx) + rng.normal(
        0, 0.12, number
    )
