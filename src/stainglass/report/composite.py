"""The composite: the same spots real and generated, and the signal over both, beside the whole section."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from jaxtyping import Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from stainglass.analysis.attribution import Attribution
from stainglass.analysis.painted import PaintedSection
from stainglass.report.figures import CONTROL, GENERATED
from stainglass.report.map_figures import SectionPictures, SignalMaps
from stainglass.report.panels import (
    MATTER_MAP,
    SIGNAL_MAP,
    caption_under,
    circles,
    figure_style,
    figure_text,
    heading,
    map_at,
    over,
    robust_scale,
    scale_bar,
    show,
    synthetic_mark,
)

ROWS = 5
PLACES = 8
"""Spots that an attribution shows."""
TILE_INCH = 1.55
COLUMNS = ("Real", "Generated", "Real + signal", "Generated + signal")


def shown_spots(n: int, rows: int = ROWS) -> Int64[np.ndarray, k]:
    """Rows of the composite: spots evenly spaced over the section, in its order, chosen before anything is seen."""
    rows = min(rows, n)
    return ((np.arange(rows) + 0.5) * n / rows).astype(np.int64)


@dataclass(frozen=True)
class CompositeTiles:
    """The tiles of a composite, row by row: real, generated, signal over real, signal read back over generated."""

    at: Int64[np.ndarray, k]
    tiles: UInt8[np.ndarray, "k 4 size size 3"]

    @classmethod
    def of(cls, painted: PaintedSection, maps: SignalMaps) -> CompositeTiles:
        """Cut the maps at the spots shown and lay them over the patches."""
        at = shown_spots(len(painted))
        size = painted.real.shape[1]
        side_um = size * painted.mpp
        rows = []
        for i in at:
            window = painted.windows[i]
            corner = window.top_px * painted.mpp, window.left_px * painted.mpp
            measured, read = (m.crop(*corner, side_um, size) for m in (maps.measured, maps.generated))
            real, generated = painted.real[i], painted.generated[i]
            rows.append(
                [real, generated, over(real, measured, maps.scale), over(generated, read, maps.scale)]
            )
        return cls(at, np.array(rows, np.uint8))


def composite_figure(
    pictures: SectionPictures, maps: SignalMaps, painted: PaintedSection, about: str
) -> Figure:
    """The section with its signal at the left, rows of spots at the right, one colour scale.

    Parameters
    ----------
    about
        `stainglass.report.map_figures.caption`.
    """
    read, tiles = maps.read, CompositeTiles.of(painted, maps)
    height, width = pictures.real.shape[:2]
    rows = len(tiles.at)
    left = min(TILE_INCH * rows * 0.86 * width / height, TILE_INCH * 4.2)
    with figure_style():
        figure = Figure(figsize=(left + 4 * TILE_INCH + 1.1, TILE_INCH * rows + 1.9), layout="constrained")
        heading(figure, f"{read.name.title} · section {painted.section}, patient {painted.patient}")
        caption_under(figure, composite_caption(read.r_real, read.r_generated, read.shuffled, rows, about))
        grid = figure.add_gridspec(rows, 5, width_ratios=[left, *[TILE_INCH] * 4], wspace=0.02, hspace=0.02)
        whole = figure.add_subplot(grid[:, 0])
        show(whole, over(pictures.real, map_at(maps.measured, pictures.field), maps.scale),
             "Measured, over the section")  # fmt: skip
        whole.set_anchor("N")
        scale_bar(whole, width, pictures.field.mpp, share=0.22)
        centres = pictures.field.px(painted.centres_um_yx[tiles.at])
        half = painted.real.shape[1] * painted.mpp / pictures.field.mpp / 2
        circles(whole, centres, [str(i + 1) for i in range(rows)], half)
        below = whole.inset_axes(
            (0.04, -0.26 / (left * height / width), 0.92, 0.15 / (left * height / width))
        )
        bar = figure.colorbar(
            mpl.cm.ScalarMappable(maps.scale, SIGNAL_MAP), cax=below, orientation="horizontal", extend="both"
        )
        bar.set_label(f"{read.name.name} ({read.name.unit})")
        for row in range(rows):
            for column in range(4):
                axes = figure.add_subplot(grid[row, column + 1])
                show(axes, tiles.tiles[row, column], COLUMNS[column] if row == 0 else "")
                axes.title.set_fontsize(8.6)
                if column == 0:
                    axes.set_ylabel(
                        str(row + 1), rotation=0, fontsize=11, fontweight="bold", labelpad=9, va="center"
                    )
                    scale_bar(axes, painted.real.shape[1], painted.mpp, share=0.4, size=7)
                if column in (1, 3) and row == rows - 1:
                    synthetic_mark(axes)
    return figure


def composite_caption(r_real: float, r_generated: float, shuffled: float, rows: int, about: str) -> str:
    """What a reader must know of a composite."""
    return (
        f"{rows} spots evenly spaced over the section in its own order, none chosen by eye; numbers are their places. "
        "Over real: the measured signal, between its spots. Over generated: what is read back from the generated patches.\n"
        f"r with what was measured: real patches {figure_text(r_real)}, generated {figure_text(r_generated)}, shuffled spots "
        f"within ±{figure_text(shuffled)}. " + about
    )


def attribution_figure(
    painted: PaintedSection, mine: Attribution, shuffled: Attribution, i: int, genes: int = 12
) -> Figure:
    """Where each spot of a condition matters in a patch, and which genes darken or brighten it.

    Parameters
    ----------
    mine
        Attribution of patch ``i`` of the section.
    shuffled
        The same patch, told of the spots of a distant place.
    genes
        How many genes to show.
    """
    slots = [s for s in range(len(mine.present)) if mine.present[s]]
    size, mpp = mine.picture.shape[0], painted.mpp
    scale = robust_scale(mine.spots[slots])
    scale.vmin = 0.0
    with figure_style():
        figure = Figure(figsize=(11.6, 5.05), layout="constrained")
        name = painted.windows[i].spot
        heading(figure, f"What the condition does where · section {painted.section}, spot {name}")
        shown = f" The nearest {PLACES} of {len(slots)} spots are shown." if len(slots) > PLACES else ""
        caption_under(
            figure, f"{ATTRIBUTION_CAPTION} Equal shares would be {1 / max(len(slots), 1):.0%}.{shown}"
        )
        grid = figure.add_gridspec(2, 6, width_ratios=[1, 1, 1, 1, 1, 1.55], wspace=0.03, hspace=0.05)
        real, painted_axes = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        show(real, painted.real[i], "Real")
        scale_bar(real, size, mpp, share=0.4, size=7.5)
        show(painted_axes, mine.picture, "Generated")
        synthetic_mark(painted_axes)
        places = [grid[r, c] for r in (0, 1) for c in range(1, 5)]
        panels = []
        for slot, place in zip(slots, places, strict=False):
            axes = figure.add_subplot(place)
            enlarged = np.kron(mine.spots[slot], np.ones((size // mine.spots.shape[1],) * 2, np.float32))
            show(axes, over(mine.picture, enlarged, scale, MATTER_MAP), f"spot {slots.index(slot) + 1}")
            axes.set_title(f"{mine.share[slot]:.0%}", loc="right", fontweight="normal", fontsize=9)
            _mark_spot(axes, mine.offsets_um_yx[slot], size, mpp)
            panels.append(axes)
        if panels:
            bar = figure.colorbar(
                mpl.cm.ScalarMappable(scale, MATTER_MAP), ax=panels, shrink=0.75, pad=0.01, aspect=30
            )
            bar.set_label("change of brightness (grey levels)", fontsize=8)
        _gene_bars(figure.add_subplot(grid[:, 5]), mine, shuffled, genes)
    return figure


ATTRIBUTION_CAPTION = (
    "Gradient attribution (gradient × input, no attention weights): how much the picture the network has in mind changes, "
    "at first order, when one spot's tokens grow; mean over noise levels 0.85, 0.6 and 0.35, without guidance.\n"
    "Percent: the spot's share of all change. White circle or arrow: where the spot lies. Orange: the same patch told of a "
    "distant place's spots. This tells what the network does around this condition, not what tissue does."
)


def _mark_spot(axes: Axes, offset_um: np.ndarray, size: int, mpp: float) -> None:
    """A circle where the spot lies; an arrow at the rim towards one outside the patch."""
    y, x = size / 2 + offset_um[0] / mpp, size / 2 + offset_um[1] / mpp
    if 0 <= y < size and 0 <= x < size:
        for width, colour in ((3.0, "black"), (1.6, "white")):
            axes.plot(x, y, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=colour,
                      markeredgewidth=width)  # fmt: skip
        return
    middle = np.array([size / 2, size / 2])
    way = np.array([x, y]) - middle
    rim = middle + way / np.abs(way).max() * size * 0.47
    start = middle + way / np.abs(way).max() * size * 0.34
    outline = [withStroke(linewidth=4.2, foreground="black")]
    arrow = FancyArrowPatch(start, rim, arrowstyle="->", mutation_scale=9, color="white", linewidth=1.8, shrinkA=0,
                            shrinkB=0, path_effects=outline)  # fmt: skip
    axes.add_patch(arrow)


def _gene_bars(axes: Axes, mine: Attribution, shuffled: Attribution, genes: int) -> None:
    """Signed bars of the genes that matter most, the shuffled condition's beside them."""
    other = dict(zip(shuffled.symbols, shuffled.genes, strict=True))
    top = mine.top_genes(genes)[::-1]
    for place, (symbol, value) in enumerate(top):
        axes.barh(place + 0.18, value, height=0.36, color=GENERATED)
        axes.barh(place - 0.2, other[symbol], height=0.28, color=CONTROL, alpha=0.75)
    axes.set_yticks(range(len(top)), [symbol for symbol, _ in top], fontsize=8)
    axes.axvline(0, color="#1c1b22", linewidth=0.7)
    axes.set_title("Genes that matter most")
    handles = [
        Patch(color=GENERATED, label="this condition"),
        Patch(color=CONTROL, label="a distant place's"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=2, frameon=False, fontsize=8,
                handlelength=1.0, columnspacing=1.0)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("darker (+) or brighter (−), grey levels", fontsize=8)
    axes.tick_params(axis="both", length=0, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.08)
