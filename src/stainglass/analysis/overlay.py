"""Pictures of what was found, for a person to look at before believing a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from stainglass.analysis.components import Components
from stainglass.analysis.nuclei import NucleusFinder
from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.polygons import Polygon
from stainglass.cohort.cohort import PreparedSection
from stainglass.files import atomic_path
from stainglass.genes.classes import UNASSIGNED, tissue_classes
from stainglass.spread import spread

# Okabe & Ito's eight, told apart by every common kind of colour vision, then Tol's muted ones.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (0, 114, 178), (204, 121, 167), (240, 228, 66),
    (136, 34, 85), (51, 34, 136), (153, 153, 51), (68, 170, 153), (17, 119, 51),
)  # fmt: skip
GREY = (140, 140, 140)
LONGEST_PX = 1100
SHOWN = 6
MARGIN_UM = 60.0


def colours_of(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A colour a name: a class has the same everywhere, other names those that these leave, by their order.

    When all are taken they come again, paler each time.
    """
    known = tissue_classes().names
    places = {name: known.index(name) for name in names if name in known}
    left = [i for i in range(len(PALETTE)) if i not in places.values()] or list(range(len(PALETTE)))
    others = [name for name in dict.fromkeys(names) if name not in places and name != UNASSIGNED]
    found = {name: PALETTE[place] for name, place in places.items()} | {UNASSIGNED: GREY}
    for i, name in enumerate(others):
        paler = 0.5 ** (i // len(left))
        r, g, b = (round(255 - (255 - value) * paler) for value in PALETTE[left[i % len(left)]])
        found[name] = r, g, b
    return found


def backdrop(section: PreparedSection) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """A small picture of a section and its µm/px."""
    level = 0
    while max(section.root[f"he/{level}"].shape) > 2 * LONGEST_PX and f"he/{level + 1}" in section.root:
        level += 1
    picture = np.asarray(section.root[f"he/{level}"][:])
    mpp = section.mpp * section.size_px_yx[0] / picture.shape[0]
    step = max(1, round(max(picture.shape) / LONGEST_PX))
    return picture[::step, ::step], mpp * step


def mosaic(
    painted: PaintedSection, pixels: UInt8[np.ndarray, "n size size 3"], shape: tuple[int, ...], mpp: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Patches put where they belong on a small picture of the section; white elsewhere."""
    canvas = np.full((*shape[:2], 3), 255, np.uint8)
    step = max(1, round(mpp / painted.mpp))
    for window, patch in zip(painted.windows, pixels):
        small = patch[step // 2 :: step, step // 2 :: step]
        top, left = (round(px * painted.mpp / mpp) for px in (window.top_px, window.left_px))
        y, x = max(0, -top), max(0, -left)
        part = canvas[top + y : top + len(small), left + x : left + len(small)]
        part[:] = small[y : y + part.shape[0], x : x + part.shape[1]]
    return canvas


def draw_regions(
    path: Path,
    section: PreparedSection,
    painted: PaintedSection,
    components: Mapping[str, Components],
    title: str,
) -> None:
    """Outlines of the components, one panel a source, over the real section or the generated patches."""
    picture, mpp = backdrop(section)
    names = next(iter(components.values())).names
    colours = colours_of(names)
    margin = painted.windows[0].size_px * painted.mpp / 2 + MARGIN_UM
    (top, left), (bottom, right) = (
        (painted.centres_um_yx.min(axis=0) - margin) / mpp,
        (painted.centres_um_yx.max(axis=0) + margin) / mpp,
    )
    height = 5.2 * (bottom - top) / (right - left)
    figure = Figure(figsize=(5.2 * len(components), float(height) + 1.0), dpi=130)
    axes = figure.subplots(1, len(components), squeeze=False)[0]
    for axis, (source, found) in zip(axes, components.items()):
        under = mosaic(painted, painted.generated, picture.shape, mpp) if source == "generated" else picture
        axis.imshow(under, interpolation="antialiased")
        for component in range(1, len(found) + 1):
            name = found.names[int(found.groups[found.of_spot == component][0])]
            _outline(axis, found.outline(component), mpp, colours[name])
        axis.set_xlim(left, right)
        axis.set_ylim(bottom, top)
        axis.set_title(f"{SOURCE_TITLES[source]}: {len(found)} components", fontsize=9)
        axis.set_axis_off()
    handles = [Patch(color=_rgb(colours[name]), label=name) for name in names]
    figure.legend(handles=handles, loc="lower center", ncol=min(len(names), 7), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    _save(figure, path)


SOURCE_TITLES = {
    "expression": "measured expression",
    "real": "read from real pictures",
    "generated": "read from generated pictures",
}


def draw_nuclei(path: Path, painted: PaintedSection, finder: NucleusFinder, title: str) -> None:
    """Contours of nuclei on a few patches, real above, generated below; evenly chosen, nothing curated."""
    from skimage.segmentation import find_boundaries

    at = spread(len(painted), SHOWN)
    rows = []
    for pixels in (painted.real, painted.generated):
        row = []
        for i in at:
            labels = np.kron(finder.find(pixels[i]), np.ones((2, 2), np.int32))
            large = np.kron(pixels[i], np.ones((2, 2, 1), np.uint8))
            large[find_boundaries(labels, mode="inner")] = (0, 255, 0)
            row.append(large)
        rows.append(np.concatenate(row, axis=1))
    figure = Figure(figsize=(2.2 * len(at), 5.0), dpi=150)
    axes = figure.subplots(2, 1)
    for axis, name, picture in zip(axes, ("real", "generated"), rows):
        axis.imshow(picture, interpolation="nearest")
        axis.set_ylabel(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    _save(figure, path)


def draw_classes(
    path: Path,
    classes: Sequence[str],
    matrices: Mapping[str, NDArray[np.integer]],
    maps: Sequence[tuple[str, NDArray[np.float64], Mapping[str, Sequence[str]]]],
) -> None:
    """Confusion matrices, and the spots of every section coloured by what each source calls them.

    Parameters
    ----------
    matrices
        Title → (truth, called) counts.
    maps
        (section, (n, 2) centres in µm, source → (n,) names).
    """
    columns = max(len(matrices), *(len(found) for _, _, found in maps))
    figure = Figure(figsize=(3.9 * columns, 3.9 * (1 + len(maps)) + 0.6), dpi=120)
    grid = figure.subplots(1 + len(maps), columns, squeeze=False)
    for axis in grid.ravel():
        axis.set_axis_off()
    for axis, (title, matrix) in zip(grid[0], matrices.items()):
        _confusion(axis, classes, matrix, title)
    # A source may know classes that pictures were not taught.
    others = {name for _, _, found in maps for one in found.values() for name in one} - {*classes, UNASSIGNED}
    names = [*classes, *sorted(others), UNASSIGNED]
    colours = colours_of(names)
    for row, (section, centres, found) in zip(grid[1:], maps):
        for axis, (source, called) in zip(row, found.items()):
            shade = [_rgb(colours[name]) for name in called]
            axis.scatter(centres[:, 1], centres[:, 0], c=shade, s=14, linewidths=0)
            axis.set_aspect("equal")
            axis.invert_yaxis()
            axis.set_title(f"{section}: {source}", fontsize=8)
    handles = [Patch(color=_rgb(colours[name]), label=name) for name in names]
    figure.legend(handles=handles, loc="lower center", ncol=min(len(names), 6), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    _save(figure, path)


def _confusion(axis: Any, classes: Sequence[str], matrix: NDArray[np.integer], title: str) -> None:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.set_axis_on()
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for i, j in np.ndindex(*matrix.shape):
        if matrix[i, j]:
            shade = "white" if share[i, j] > 0.5 else "black"
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7, color=shade)
    axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=7)
    axis.set_yticks(range(len(classes)), classes, fontsize=7)
    axis.set_xlabel("read from the picture", fontsize=7)
    axis.set_ylabel("label", fontsize=7)
    axis.set_title(title, fontsize=8)


def _outline(axis: Any, polygons: Sequence[Polygon], mpp: float, colour: tuple[int, int, int]) -> None:
    rings = [np.vstack([ring, ring[:1]])[:, ::-1] / mpp - 0.5 for polygon in polygons for ring in polygon]
    axis.add_collection(LineCollection(rings, colors=[_rgb(colour)], linewidths=1.6))


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
