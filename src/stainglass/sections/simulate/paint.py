"""Draw a section as H&E: optical densities of the stains, added up, then Beer–Lambert's law.

Stain vectors: Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, Anal.
Quant.
Cytol. Histol. 23:291 (2001); they, their strength and the lamp vary from patient to patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from stainglass.sections.simulate.layout import GRID_UM, Layout, Map, resized, smooth_noise, step

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.12, 0.88, 0.42)
MELANIN = (0.38, 0.58, 0.72)


@dataclass(frozen=True)
class Stain:
    """One laboratory's stain: optical density of each dye in (red, green, blue), and the lamp's white."""

    haematoxylin: NDArray[np.float32]
    eosin: NDArray[np.float32]
    melanin: NDArray[np.float32]
    lamp: NDArray[np.float32]


def random_stain(rng: np.random.Generator) -> Stain:
    """A patient's stain: vectors turned by some degrees, strengths within a fifth."""

    def dye(vector: tuple[float, ...], strength: float) -> NDArray[np.float32]:
        turned = np.maximum(np.array(vector) + rng.normal(0, 0.035, 3), 0.01)
        return np.asarray(turned / np.linalg.norm(turned) * strength, dtype=np.float32)

    return Stain(
        haematoxylin=dye(HAEMATOXYLIN, rng.uniform(0.66, 0.9)),
        eosin=dye(EOSIN, rng.uniform(0.42, 0.62)),
        melanin=dye(MELANIN, 0.9),
        lamp=(rng.uniform(243, 250) - np.array([0.0, rng.uniform(0, 4), rng.uniform(0, 3)])).astype(
            np.float32
        ),
    )


def paint(
    layout: Layout, nuclei: pd.DataFrame, size_um: float, mpp: float, stain: Stain, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw the section.

    Returns
    -------
    (h, w, 3) RGB with ``h = w = size_um / mpp``.
    """
    side = round(size_um / mpp)
    shape = (side, side)
    eosin, haematoxylin, pigment = _ground(layout, shape, mpp, rng)
    _membranes(layout, nuclei, eosin, shape, mpp)
    if layout.crypts:
        _vacuoles(layout, eosin, haematoxylin, mpp, rng)
    _stamp_nuclei(nuclei, eosin, haematoxylin, mpp, rng)
    hole = np.maximum(resized(layout.hole, shape), -resized(layout.inside, shape))
    open_field = 1.0 - step(hole, max(1.5, 1.5 * mpp))
    del hole
    for dye in (eosin, haematoxylin, pigment):
        dye *= open_field
        gaussian_filter(dye, 0.35 / mpp, output=dye, truncate=2.5)  # the objective's own blur
    grain = rng.standard_normal(shape, dtype=np.float32) * 1.6
    image = np.empty((*shape, 3), dtype=np.uint8)
    for channel in range(3):
        density = eosin * stain.eosin[channel]
        density += haematoxylin * stain.haematoxylin[channel]
        density += pigment * stain.melanin[channel]
        light = np.exp(-2.3026 * density) * stain.lamp[channel]
        light += grain
        image[:, :, channel] = np.clip(light + 0.5, 0, 255)
    return image


def _fibres(layout: Layout, shape: tuple[int, int], rng: np.random.Generator) -> Map:
    """Wavy bundles along the flow, 0 in the clefts and 1 in the fibres, at half the resolution."""
    half = (shape[0] // 2, shape[1] // 2)
    base = rng.standard_normal((1024, 1024), dtype=np.float32)
    cell_um = 1.0
    strands = gaussian_filter(base, (1.5, 16), mode="wrap")
    strands += 0.6 * gaussian_filter(base[::-1], (4.0, 34), mode="wrap") * (4.0 * 34 / (1.5 * 16)) ** 0.5
    strands /= strands.std()
    rows = (
        np.arange(half[0], dtype=np.float32)[:, None] * (layout.flow.shape[0] * GRID_UM / half[0]) / cell_um
    )
    columns = (
        np.arange(half[1], dtype=np.float32)[None, :] * (layout.flow.shape[1] * GRID_UM / half[1]) / cell_um
    )
    mean = float(np.angle(np.exp(2j * layout.flow).mean()) / 2)
    # The bundles lie along the mean direction; a smooth displacement bends them.
    bend = resized(smooth_noise(rng, layout.flow.shape, 38.0), half) * 15
    along = columns * np.cos(mean) + rows * np.sin(mean)
    across = rows * np.cos(mean) - columns * np.sin(mean) + bend
    sampled = map_coordinates(strands, [across, along], order=1, mode="grid-wrap")
    return resized(step(np.asarray(sampled, dtype=np.float32) + 0.35, 1.5), shape)


def _ground(
    layout: Layout, shape: tuple[int, int], mpp: float, rng: np.random.Generator
) -> tuple[Map, Map, Map]:
    """Everything but nuclei: eosin, haematoxylin and melanin in optical density."""
    fibres = _fibres(layout, shape, rng)
    cloud = np.tile(_grain(rng, 1.1 / mpp), (shape[0] // 512 + 1, shape[1] // 512 + 1))[
        : shape[0], : shape[1]
    ]
    plain = np.tensordot(
        np.array([one.eosin * (1 - one.fibrous) for one in layout.classes], dtype=np.float32),
        layout.shares,
        axes=1,
    )
    fibrous = np.tensordot(
        np.array([one.eosin * one.fibrous for one in layout.classes], dtype=np.float32), layout.shares, axes=1
    )
    blue = np.tensordot(
        np.array([one.haematoxylin for one in layout.classes], dtype=np.float32), layout.shares, axes=1
    )
    plain *= 1 + 0.25 * layout.hypoxia
    keratin = resized(layout.keratin, shape)
    eosin = resized(plain, shape) + resized(fibrous, shape) * (0.30 + 0.85 * fibres)
    eosin *= 1 + 0.13 * cloud
    debris = resized(smooth_noise(rng, layout.flow.shape, 3.0), shape)
    eosin *= 1 + 0.22 * debris * resized(_share_or_zero(layout, "necrosis"), shape)
    flakes = np.clip(
        np.tile(_grain(rng, (0.8 / mpp, 9 / mpp)), (shape[0] // 512 + 1, shape[1] // 512 + 1)), -1.5, 1.5
    )
    eosin += np.clip(keratin, 0, 1) * (0.28 + 0.22 * flakes[: shape[0], : shape[1]])
    haematoxylin = resized(blue, shape) * (1 + 0.2 * cloud) * (1 - 0.8 * np.clip(keratin, 0, 1))
    granules = np.clip(cloud - 0.6, 0, 1.2)
    pigment = np.clip(resized(layout.pigment, shape), 0, 1) * granules
    return np.maximum(eosin, 0), np.maximum(haematoxylin, 0), pigment


def _share_or_zero(layout: Layout, name: str) -> Map:
    names = [one.name for one in layout.classes]
    return layout.share(name) if name in names else np.zeros_like(layout.flow)


def _grain(rng: np.random.Generator, width_px: float | tuple[float, float]) -> Map:
    """A tile of 512 px of fine texture, unit deviation, without seams."""
    tile = gaussian_filter(rng.standard_normal((512, 512), dtype=np.float32), width_px, mode="wrap")
    return np.asarray(tile / tile.std(), dtype=np.float32)


def _membranes(layout: Layout, nuclei: pd.DataFrame, eosin: Map, shape: tuple[int, int], mpp: float) -> None:
    """Borders of cells: bright seams in epithelium, thin walls between fat cells."""
    names = [one.name for one in layout.classes]
    fat = names.index("adipose") if "adipose" in names else None
    if fat is not None and layout.shares[fat].max() > 0.5:
        seed = np.argwhere(layout.shares[fat] > 0.05)
        # Fat cells are places of their own: their nuclei sit in the wall.
        rng = np.random.default_rng(len(seed))
        chosen = _thin((seed[rng.permutation(len(seed))] * GRID_UM).astype(np.float64), 44.0)
        wall = _seam(chosen, layout.flow.shape, shape)
        share = resized(layout.shares[fat], shape)
        eosin += step(2.6 - wall, 2.2) * np.clip(share, 0, 1) * 0.42
    for name in ("epidermis", "melanocytic nest"):
        if name in names:
            own = nuclei[nuclei["type"] == name]
            if len(own) > 3:
                seam = _seam(own[["y_um", "x_um"]].to_numpy(), layout.flow.shape, shape)
                share = np.clip(resized(layout.share(name), shape), 0, 1)
                eosin *= 1 - 0.55 * share * step(1.5 - seam, 1.8)


def _thin(points: NDArray[np.float64], apart_um: float) -> NDArray[np.float64]:
    """Points at least ``apart_um`` apart, the first come kept."""
    kept: list[NDArray[np.float64]] = []
    taken: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for point in points:
        cell = (int(point[0] // apart_um), int(point[1] // apart_um))
        around = [
            p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in taken.get((cell[0] + i, cell[1] + j), ())
        ]
        if all(np.hypot(*(point - p)) >= apart_um for p in around):
            taken.setdefault(cell, []).append(point)
            kept.append(point)
    return np.array(kept)


def _seam(points_um: NDArray[np.float64], grid: tuple[int, ...], shape: tuple[int, int]) -> Map:
    """Difference in µm between the distances to the two nearest points: 0 on the border between two cells."""
    fine = 2
    y, x = np.meshgrid(*[(np.arange(side * fine) + 0.5) * GRID_UM / fine for side in grid], indexing="ij")
    distance = cKDTree(points_um).query(np.stack([y, x], axis=-1), k=2, distance_upper_bound=70.0)[0]
    distance = np.where(np.isfinite(distance), distance, [0.0, 70.0])
    return resized((distance[..., 1] - distance[..., 0]).astype(np.float32), shape)


def _vacuoles(layout: Layout, eosin: Map, haematoxylin: Map, mpp: float, rng: np.random.Generator) -> None:
    """Goblet cells: pale drops of mucin between the nuclei of a gland and its lumen."""
    for crypt in layout.crypts:
        number = rng.poisson(9)
        turn = rng.uniform(0, 2 * np.pi, number)
        radius = rng.normal(0.58, 0.04, number)
        a, b = radius * crypt.long_um * np.cos(turn), radius * crypt.short_um * np.sin(turn)
        dx = a * np.cos(crypt.angle) - b * np.sin(crypt.angle)
        dy = a * np.sin(crypt.angle) + b * np.cos(crypt.angle)
        for y, x, along in zip(crypt.y_um + dy, crypt.x_um + dx, np.arctan2(dy, dx), strict=True):
            where, distance = _ellipse((y / mpp, x / mpp), (6.0 / mpp, 4.0 / mpp), float(along), eosin.shape)
            if distance.size:
                drop = np.clip((1 - distance) * 4, 0, 1)
                eosin[where] *= 1 - 0.85 * drop
                haematoxylin[where] = haematoxylin[where] * (1 - drop) + 0.07 * drop


def _ellipse(
    centre: tuple[float, float], semi: tuple[float, float], angle: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], Map]:
    """The box round an ellipse (px) and, in it, the distance from the centre in units of the semi-axes."""
    reach = max(semi) * 1.25 + 1
    top, left = max(int(centre[0] - reach), 0), max(int(centre[1] - reach), 0)
    bottom, right = min(int(centre[0] + reach) + 2, shape[0]), min(int(centre[1] + reach) + 2, shape[1])
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - centre[0])[:, None]
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - centre[1])[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = np.hypot((x * cos + y * sin) / np.float32(semi[0]), (y * cos - x * sin) / np.float32(semi[1]))
    return (slice(top, bottom), slice(left, right)), distance


def _stamp_nuclei(
    nuclei: pd.DataFrame, eosin: Map, haematoxylin: Map, mpp: float, rng: np.random.Generator
) -> None:
    """Draw every nucleus: a soft-edged ellipse with clumped chromatin, a darker rim, sometimes a
    nucleolus.
    """
    chromatin = _grain(rng, 0.7 / mpp)
    offsets = rng.integers(0, 512 - 128, (len(nuclei), 2))
    columns = nuclei[["y_um", "x_um", "long_um", "short_um", "angle", "od"]].to_numpy(np.float64)
    vesicular = nuclei["type"].isin(["epidermis", "melanocytic nest"]).to_numpy()
    for (y, x, long, short, angle, od), (oy, ox), pale in zip(columns, offsets, vesicular, strict=True):
        where, distance = _ellipse((y / mpp, x / mpp), (long / mpp, short / mpp), angle, eosin.shape)
        if not distance.size:
            continue
        soft = np.float32(max(short / mpp * 0.55, 1.0))
        alpha = np.clip((1 - distance) * soft + 0.5, 0, 1)
        texture = chromatin[oy : oy + distance.shape[0], ox : ox + distance.shape[1]]
        if texture.shape != distance.shape:  # a nucleus larger than the spare texture: draw it plain
            texture = np.zeros_like(distance)
        rim = np.exp(-(((distance - 0.86) / 0.16) ** 2))
        tone = np.float32(od) * (0.86 + (0.22 if pale else 0.16) * texture + (0.28 if pale else 0.14) * rim)
        np.maximum(haematoxylin[where], alpha * tone, out=haematoxylin[where])
        eosin[where] *= 1 - 0.45 * alpha
