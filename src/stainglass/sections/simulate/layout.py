"""Where the classes lie: smooth maps of a section of skin or colon, on a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from stainglass.sections.simulate.tissues import TISSUES, TissueClass

GRID_UM = 4.0
"""Side of a cell of the maps. Edges stay sharp when drawn: they are interpolated as distances, then cut."""

Map = NDArray[np.float32]


@dataclass
class Crypt:
    """A gland: an ellipse of epithelium round a lumen; centre and semi-axes in µm, angle in radians."""

    y_um: float
    x_um: float
    long_um: float
    short_um: float
    angle: float


@dataclass
class Layout:
    """Maps of a section, (h, w) cells of ``GRID_UM``.

    Attributes
    ----------
    classes
        The tissue's classes.
    shares
        (classes, h, w), from 0 to 1; their sum is 1 on tissue and 0 off it.
    flow
        Angle of the fibres, in radians.
    inside
        Signed distance in µm to the tissue's edge, positive inside.
    hole
        Signed distance in µm to the nearest lumen's edge, positive inside the lumen.
    hypoxia
        From 0 to 1.
    keratin
        Share of horny layer: no nuclei, much eosin.
    pigment
        Share of pigmented cells.
    density
        Factor on the nuclei of the class's own density.
    """

    classes: tuple[TissueClass, ...]
    shares: Map
    flow: Map
    inside: Map
    hole: Map
    hypoxia: Map
    keratin: Map
    pigment: Map
    density: Map
    crypts: list[Crypt] = field(default_factory=list)

    def share(self, name: str) -> Map:
        """Map of one class."""
        return np.asarray(self.shares[[one.name for one in self.classes].index(name)])


def resized(grid: Map, shape: tuple[int, int]) -> Map:
    """A map at another resolution, bicubic."""
    image = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], period: float) -> Map:
    """Random hills, about unit deviation, of a width of ``period`` cells."""
    coarse = (max(round(shape[0] / period), 1) + 3, max(round(shape[1] / period), 1) + 3)
    return resized(rng.standard_normal(coarse, dtype=np.float32) * 1.4, shape)


def step(distance: Map, width: float) -> Map:
    """0 below ``-width / 2``, 1 above ``width / 2``, smooth between."""
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def grid_um(size_um: float) -> tuple[Map, Map]:
    """Centres (y, x) in µm of the grid's cells."""
    cells = round(size_um / GRID_UM)
    y, x = np.meshgrid(*[(np.arange(cells, dtype=np.float32) + 0.5) * GRID_UM] * 2, indexing="ij")
    return y, x


def lay_out(tissue: str, size_um: float, rng: np.random.Generator) -> Layout:
    """Draw the maps of one section of ``skin`` or ``colon``, ``size_um`` a side."""
    return _skin(size_um, rng) if tissue == "skin" else _colon(size_um, rng)


def _cover(shares: Map, index: int, alpha: Map) -> None:
    """Lay a class over the others."""
    shares *= 1.0 - alpha
    shares[index] += alpha


def _blobs(
    rng: np.random.Generator,
    y: Map,
    x: Map,
    centres: Sequence[tuple[float, float]],
    radius_um: tuple[float, float],
) -> Map:
    """Signed distance in µm, positive inside, to a union of round patches with uneven edges."""
    uneven = smooth_noise(rng, y.shape, 14.0)
    distance = np.full(y.shape, -1e4, dtype=np.float32)
    for cy, cx in centres:
        radius = rng.uniform(*radius_um)
        stretch = rng.uniform(0.75, 1.33)
        away = np.hypot((y - cy) * stretch, (x - cx) / stretch)
        np.maximum(distance, radius * (1 + 0.22 * uneven) - away, out=distance)
    return distance


def _places(
    rng: np.random.Generator, allowed: NDArray[np.bool_], number: int, spacing_um: float
) -> list[tuple[float, float]]:
    """Up to ``number`` points (y, x) in µm inside ``allowed``, at least ``spacing_um`` apart."""
    candidates = np.argwhere(allowed).astype(np.float64)
    rng.shuffle(candidates)
    kept: list[tuple[float, float]] = []
    for cy, cx in (candidates[: 60 * number] + 0.5) * GRID_UM:
        if all(np.hypot(cy - ky, cx - kx) >= spacing_um for ky, kx in kept):
            kept.append((float(cy), float(cx)))
            if len(kept) == number:
                break
    return kept


def _skin(size_um: float, rng: np.random.Generator) -> Layout:
    y, x = grid_um(size_um)
    tilt = rng.uniform(-0.22, 0.22)
    across = x * np.cos(tilt) + y * np.sin(tilt)
    depth = (y - size_um / 2) * np.cos(tilt) - (x - size_um / 2) * np.sin(tilt) + size_um / 2
    depth += 14 * smooth_noise(rng, y.shape, 45.0) - rng.uniform(0.07, 0.12) * size_um
    ridge = np.sin(2 * np.pi * (across + 25 * smooth_noise(rng, y.shape, 40.0)) / rng.uniform(110, 160))
    thickness = 105 + 40 * ridge + 20 * smooth_noise(rng, y.shape, 35.0)
    area = (size_um / 1200) ** 2
    shares = np.zeros((len(TISSUES["skin"]), *y.shape), dtype=np.float32)
    shares[1] = 1.0
    epidermis = thickness - depth
    deep = (epidermis < -70) & (depth > 0)
    vessels = _places(rng, deep, max(round(9 * area), 2), 110.0)
    infiltrate = _blobs(rng, y, x, vessels[: max(round(4 * area), 1)], (55.0, 125.0))
    _cover(shares, 2, step(infiltrate, 30.0) * 0.95)
    _cover(shares, 0, step(epidermis, 10.0))
    junction = np.abs(epidermis + 30) < 25
    nests = _blobs(
        rng, y, x, _places(rng, junction & (depth > 40), max(round(5 * area), 1), 170.0), (38.0, 85.0)
    )
    nests = np.minimum(nests, depth - 45)
    _cover(shares, 4, step(nests, 14.0))
    follicle, shaft = _follicles(rng, across, depth, max(round(2 * area), 1), size_um)
    _cover(shares, 3, step(follicle, 8.0))
    wall = _blobs(rng, y, x, vessels, (13.0, 24.0))
    _cover(shares, 5, step(wall, 6.0) * step(-follicle, 8.0))
    inside = depth.astype(np.float32)
    basal = step(18 - np.abs(epidermis - 9), 14.0) * shares[0]
    keratin = np.maximum(step(24 - depth, 8.0) * shares[0], step(shaft, 4.0))
    shares *= step(inside, 6.0)
    return Layout(
        classes=TISSUES["skin"],
        shares=shares,
        flow=(tilt + 0.8 * smooth_noise(rng, y.shape, 60.0)).astype(np.float32),
        inside=inside,
        hole=np.asarray(wall - 7, dtype=np.float32),
        hypoxia=np.zeros_like(y),
        keratin=keratin.astype(np.float32),
        pigment=np.maximum(0.8 * shares[4], 0.35 * basal).astype(np.float32),
        density=np.asarray((1 + 0.7 * basal) * (1 - np.clip(keratin, 0, 1)), dtype=np.float32),
    )


def _follicles(
    rng: np.random.Generator, across: Map, depth: Map, number: int, size_um: float
) -> tuple[Map, Map]:
    """Signed distances to hair follicles and to the hairs in them, positive inside: oblique tubes from
    the surface.
    """
    follicle = np.full(across.shape, -1e4, dtype=np.float32)
    shaft = follicle.copy()
    for i in range(number):
        start = size_um * (i + rng.uniform(0.25, 0.75)) / number
        length = rng.uniform(0.45, 0.7) * size_um
        lean = rng.uniform(-0.45, 0.45)
        along = np.clip(depth, 0, length)
        centre = start + lean * along + 16 * np.sin(along / 90.0)
        away = np.hypot((across - centre) * np.cos(lean), depth - along)
        bulb = 1 + 0.45 * np.exp(-(((along - length) / 60.0) ** 2))
        radius = rng.uniform(36, 48)
        np.maximum(follicle, radius * bulb - away, out=follicle)
        np.maximum(shaft, np.minimum(9.0 - away, length - 70 - depth), out=shaft)
    return follicle, shaft


def _colon(size_um: float, rng: np.random.Generator) -> Layout:
    y, x = grid_um(size_um)
    area = (size_um / 1200) ** 2
    turn = rng.uniform(0, 2 * np.pi)
    u = (y - size_um / 2) * np.cos(turn) + (x - size_um / 2) * np.sin(turn)
    v = (x - size_um / 2) * np.cos(turn) - (y - size_um / 2) * np.sin(turn)
    shares = np.zeros((len(TISSUES["colon"]), *y.shape), dtype=np.float32)
    shares[1] = 1.0
    wave = 30 * smooth_noise(rng, y.shape, 60.0)
    inside = np.asarray(0.46 * size_um + u + wave, dtype=np.float32)
    muscle = np.asarray(0.10 * size_um - np.abs(u - 0.22 * size_um + wave), dtype=np.float32)
    fat = np.asarray(u + wave - 0.33 * size_um, dtype=np.float32)
    mucosa = (u < 0.08 * size_um) & (inside > 60)
    dead_at = _places(rng, mucosa & (np.abs(v) < 0.36 * size_um) & (inside > 150), max(round(area), 1), 200.0)
    dead = _blobs(rng, y, x, dead_at, (0.10 * size_um, 0.14 * size_um))
    lymph = _blobs(
        rng, y, x, _places(rng, mucosa & (dead < -90), max(round(3 * area), 1), 210.0), (65.0, 115.0)
    )
    crypts = _crypts(rng, mucosa & (dead < -60) & (lymph < -45), area)
    gland, hole = _glands(rng, y, x, crypts)
    vessels = _blobs(
        rng,
        y,
        x,
        _places(rng, mucosa & (gland < -22) & (dead < -30), max(round(6 * area), 1), 90.0),
        (11.0, 18.0),
    )
    _cover(shares, 5, step(muscle, 16.0))
    _cover(shares, 3, step(fat, 12.0))
    _cover(shares, 2, step(lymph, 26.0) * 0.96)
    _cover(shares, 4, step(dead, 24.0))
    _cover(shares, 6, step(vessels, 6.0))
    _cover(shares, 0, step(gland, 5.0))
    shares *= step(inside, 6.0)
    outside_um = distance_transform_edt(dead < 0) * GRID_UM
    flow = np.where(muscle > -10, turn + 0.1 * wave / 30, turn + 1.1 * smooth_noise(rng, y.shape, 40.0))
    return Layout(
        classes=TISSUES["colon"],
        shares=shares,
        flow=flow.astype(np.float32),
        inside=inside,
        hole=np.maximum(hole, vessels - 6).astype(np.float32),
        hypoxia=(np.exp(-outside_um / 110.0) * step(inside, 6.0)).astype(np.float32),
        keratin=np.zeros_like(y),
        pigment=np.zeros_like(y),
        density=np.ones_like(y),
        crypts=crypts,
    )


def _crypts(rng: np.random.Generator, allowed: NDArray[np.bool_], area: float) -> list[Crypt]:
    places = _places(rng, allowed, round(90 * area), rng.uniform(108, 128))
    return [
        Crypt(cy, cx, rng.uniform(46, 60), rng.uniform(34, 46), rng.uniform(0, np.pi)) for cy, cx in places
    ]


def _glands(rng: np.random.Generator, y: Map, x: Map, crypts: list[Crypt]) -> tuple[Map, Map]:
    """Signed distances to the glands and their lumina."""
    gland = np.full(y.shape, -1e4, dtype=np.float32)
    hole = gland.copy()
    for crypt in crypts:
        reach = crypt.long_um + 60
        rows = slice(
            *np.clip([(crypt.y_um - reach) / GRID_UM, (crypt.y_um + reach) / GRID_UM], 0, y.shape[0]).astype(
                int
            )
        )
        columns = slice(
            *np.clip([(crypt.x_um - reach) / GRID_UM, (crypt.x_um + reach) / GRID_UM], 0, y.shape[1]).astype(
                int
            )
        )
        dy, dx = y[rows, columns] - crypt.y_um, x[rows, columns] - crypt.x_um
        a = (dx * np.cos(crypt.angle) + dy * np.sin(crypt.angle)) / crypt.long_um
        b = (dy * np.cos(crypt.angle) - dx * np.sin(crypt.angle)) / crypt.short_um
        radius = np.hypot(a, b)
        scale = (crypt.long_um + crypt.short_um) / 2
        np.maximum(gland[rows, columns], (1 - radius) * scale, out=gland[rows, columns])
        lumen = rng.uniform(0.18, 0.36)
        np.maximum(hole[rows, columns], (lumen - radius) * scale, out=hole[rows, columns])
    return gland, hole
