"""A signal over a whole section: measured, and read back from real and from generated patches of the same spots."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from stainglass.analysis.maps import SmoothMap, smooth_map
from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.read_signals import ReadSignal
from stainglass.cohort.cohort import PreparedSection
from stainglass.report.figures import CONTROL, GENERATED, REAL
from stainglass.report.panels import (
    SIGNAL_MAP,
    SOFT,
    Field,
    caption_under,
    colours,
    figure_style,
    figure_text,
    heading,
    map_at,
    overview,
    patchwork,
    robust_scale,
    scale_bar,
    show,
    synthetic_mark,
)

PANEL_INCH = 3.3


@dataclass(frozen=True)
class SectionPictures:
    """The two overviews of a section that all its figures share.

    Attributes
    ----------
    real
        The slide's tissue, small.
    generated
        Generated patches in their places.
    field
        Where both lie.
    """

    real: UInt8[np.ndarray, "h w 3"]
    generated: UInt8[np.ndarray, "h w 3"]
    field: Field

    @classmethod
    def of(cls, section: PreparedSection, painted: PaintedSection) -> SectionPictures:
        """Read the slide and lay out the patches."""
        field = Field.of(section, painted.centres_um_yx, painted.real.shape[1] * painted.mpp / 2)
        corners_um = np.array([(w.top_px, w.left_px) for w in painted.windows]) * painted.mpp
        return cls(
            overview(section, field), patchwork(painted.generated, corners_um, painted.mpp, field), field
        )


@dataclass(frozen=True)
class SignalMaps:
    """The smooth maps of one signal on one section, on one colour scale.

    Attributes
    ----------
    read
        The signal.
    measured, real, generated
        Its maps.
    scale
        From the measured values' 2nd to their 98th hundredth.
    """

    read: ReadSignal
    measured: SmoothMap
    real: SmoothMap
    generated: SmoothMap
    scale: Normalize

    @classmethod
    def of(cls, section: PreparedSection, painted: PaintedSection, read: ReadSignal) -> SignalMaps:
        """Interpolate all three."""
        spots = painted.centres_um_yx
        maps = (smooth_map(spots, v, section.tissue) for v in (read.measured, read.real, read.generated))
        measured, real, generated = maps
        return cls(read, measured, real, generated, robust_scale(read.measured))


def caption(read: ReadSignal, painted: PaintedSection, spots: int, held_out: bool) -> str:
    """What a reader must know of any figure of a signal."""
    shown = (
        f"{len(painted)} spots"
        if len(painted) == spots
        else f"{len(painted)} of {spots} spots, spread evenly"
    )
    seen = "" if held_out else " This section was trained on: nothing here is held out."
    return (
        f"{read.name.title}: {read.name.source}; {read.name.unit}; {shown}. Between spots: natural-neighbour "
        "interpolation, on the tissue, no farther than one pitch from a spot. Readings: ridge on EfficientNet-Lite0 "
        "features, fitted on real training patches only; what real patches give is the ceiling. Shuffled: where 95 % of "
        f"200 shuffles of the spots lie.{seen}"
    )


def map_figure(pictures: SectionPictures, maps: SignalMaps, painted: PaintedSection, about: str) -> Figure:
    """Two rows: real and generated tissue and the figures of merit; the three maps on one scale.

    Parameters
    ----------
    about
        `caption`.
    """
    read, (height, width) = maps.read, pictures.real.shape[:2]
    tall = PANEL_INCH * height / width
    with figure_style():
        figure = Figure(figsize=(3 * PANEL_INCH + 1.15, 2 * tall + 1.75), layout="constrained")
        heading(figure, f"{read.name.title} · section {painted.section}, patient {painted.patient}")
        caption_under(figure, about)
        grid = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 0.055], wspace=0.03, hspace=0.05)
        axes = [[figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(2)]
        show(axes[0][0], pictures.real, "Real tissue")
        scale_bar(axes[0][0], width, pictures.field.mpp)
        show(axes[0][1], pictures.generated, "Generated patches in their places")
        synthetic_mark(axes[0][1])
        merit(axes[0][2], read)
        axes[0][2].set_box_aspect(height / width)
        for panel, smooth, title, r in (
            (axes[1][0], maps.measured, "Measured", None),
            (axes[1][1], maps.real, "Read from real patches", read.r_real),
            (axes[1][2], maps.generated, "Read from generated patches", read.r_generated),
        ):
            show(panel, colours(map_at(smooth, pictures.field), maps.scale), title)
            if r is not None:
                panel.set_title(f"r = {figure_text(r)}", loc="right", fontweight="normal", fontsize=9.5)
        scale_bar(axes[1][0], width, pictures.field.mpp)
        synthetic_mark(axes[1][2])
        figure.colorbar(
            mpl.cm.ScalarMappable(maps.scale, SIGNAL_MAP), cax=figure.add_subplot(grid[1, 3]), extend="both",
            label=f"{read.name.name} ({read.name.unit})",
        )  # fmt: skip
    return figure


def merit(axes: Axes, read: ReadSignal) -> None:
    """r of both readings as bars, over the band that shuffled spots reach."""
    axes.set_title("Pearson r with what was measured")
    values = [("real\npatches", read.r_real, REAL), ("generated\npatches", read.r_generated, GENERATED)]
    bound = read.shuffled
    if np.isnan(bound):
        axes.text(0.5, 0.5, "constant signal: no r", transform=axes.transAxes, ha="center", color=SOFT)
        axes.set_axis_off()
        return
    axes.axhspan(-bound, bound, color=CONTROL, alpha=0.25, linewidth=0)
    axes.text(
        0.5,
        -bound + 0.01,  # below the zero line, where no bar of a positive r reaches
        f"shuffled: within ±{bound:.2f}",
        ha="center",
        va="bottom",
        fontsize=8,
        color="#8a5a00",
    )
    for place, (_, r, colour) in enumerate(values):
        axes.bar(place, r, color=colour, width=0.42)
        end = max(r, 0) if r >= 0 else r
        axes.text(
            place - 0.24,
            end,
            figure_text(r),
            ha="right",
            va="bottom" if r >= 0 else "top",
            fontsize=10,
            fontweight="bold",
        )
    low = min(-bound, read.r_real, read.r_generated, 0) - 0.08
    axes.set_ylim(low, max(1.0, bound))
    axes.set_xlim(-0.75, 1.45)
    axes.axhline(0, color="#1c1b22", linewidth=0.7)
    axes.set_xticks(range(2), [name for name, _, _ in values])
    axes.tick_params(axis="both", length=0)
    axes.yaxis.tick_right()
    axes.spines[["top", "left", "bottom"]].set_visible(False)
