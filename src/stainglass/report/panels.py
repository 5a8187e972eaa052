"""What every figure of tissue is made of: overviews, maps laid over tissue, patches in their places, scale bars, files."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from stainglass.analysis.maps import SmoothMap
from stainglass.cohort.cohort import PreparedSection
from stainglass.cohort.tissue import TISSUE_MPP
from stainglass.files import atomic_path
from stainglass.report.images import scale_bar_um
from stainglass.synthesis.stamp import KEY, SENTENCE, Stamp

SIGNAL_MAP, MATTER_MAP = "viridis", "cividis"
"""Colour maps for signals and for attribution: even in lightness, told apart by every kind of colour vision."""

OVERVIEW_PX = 900
MARGIN = 0.02
"""Round the tissue, as a share of its longer side."""

DPI = 170
LEAST_HALF_PX = 26
"""A square smaller than this has its number beside it."""

GREY_LIGHT, GREY_SPREAD = 0.30, 0.70
"""Under a map tissue is grey: this much light where it is black, and the rest by its own lightness."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.06,
    "axes.edgecolor": "#b9b4c2",
    "axes.linewidth": 0.6,
    "text.color": "#1c1b22",
    "axes.labelcolor": "#1c1b22",
    "xtick.color": "#1c1b22",
    "ytick.color": "#1c1b22",
    "svg.fonttype": "none",
    "svg.hashsalt": "stainglass",
    "image.interpolation": "antialiased",
}
SOFT, SYNTHETIC = "#5d5a68", "#0072B2"


@dataclass(frozen=True)
class Field:
    """A part of a section, as pixels of a figure.

    Attributes
    ----------
    corner_um_yx
        Its top-left corner.
    shape
        (height, width) in pixels.
    mpp
        µm/px.
    """

    corner_um_yx: tuple[float, float]
    shape: tuple[int, int]
    mpp: float

    @classmethod
    def of(
        cls,
        section: PreparedSection,
        centres_um_yx: Float64[np.ndarray, "n 2"],
        half_um: float,
        longest_px: int = OVERVIEW_PX,
    ) -> Field:
        """The tissue and the windows round these spots, a little margin, no glass beyond."""
        at = np.argwhere(section.tissue) * TISSUE_MPP
        places = np.concatenate([at, at + TISSUE_MPP, centres_um_yx - half_um, centres_um_yx + half_um])
        full = np.array(section.size_px_yx) * section.mpp
        margin = MARGIN * (places.max(0) - places.min(0)).max()
        low, high = np.maximum(places.min(0) - margin, 0), np.minimum(places.max(0) + margin, full)
        mpp = float((high - low).max()) / longest_px
        height, width = (max(1, round(float(n) / mpp)) for n in high - low)
        return cls((float(low[0]), float(low[1])), (height, width), mpp)

    def px(self, um_yx: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Where places of the section lie in the field."""
        return np.asarray((um_yx - np.array(self.corner_um_yx)) / self.mpp, np.float64)


def overview(section: PreparedSection, field: Field) -> UInt8[np.ndarray, "h w 3"]:
    """A field of a section, from the coarsest level of its pyramid that is fine enough."""
    full = section.size_px_yx[0]
    levels = sorted((str(k) for k in section.root["he"].array_keys()), key=int)
    scales = {k: section.mpp * full / section.root[f"he/{k}"].shape[0] for k in levels}
    level = [k for k in levels if scales[k] <= field.mpp * 1.001] or levels[:1]
    array, mpp = section.root[f"he/{level[-1]}"], scales[level[-1]]
    (top, left), (height, width) = field.corner_um_yx, field.shape
    bottom, right = (round((c + n * field.mpp) / mpp) for c, n in zip((top, left), (height, width)))
    cut = np.asarray(array[round(top / mpp) : max(bottom, 1), round(left / mpp) : max(right, 1)])
    return np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.LANCZOS))


def patchwork(
    patches: UInt8[np.ndarray, "n size size 3"],
    corners_um_yx: Float64[np.ndarray, "n 2"],
    patch_mpp: float,
    field: Field,
) -> UInt8[np.ndarray, "h w 3"]:
    """Patches in their places on white; where several lie over one another, the one whose centre is nearest.

    Parameters
    ----------
    corners_um_yx
        Top and left of each patch.
    """
    side, shape = patches.shape[1] * patch_mpp, field.shape
    canvas = np.full((*shape, 3), 255, np.uint8)
    rows, columns = (c + (np.arange(n) + 0.5) * field.mpp for c, n in zip(field.corner_um_yx, shape))
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    _, nearest = KDTree(corners_um_yx + side / 2).query(grid.reshape(-1, 2))
    nearest = np.asarray(nearest).reshape(shape)
    at = grid - corners_um_yx[nearest]
    inside = ((at >= 0) & (at < side)).all(-1)
    n = max(1, round(side / field.mpp))
    small = np.stack(
        [np.asarray(Image.fromarray(p).resize((n, n), Image.Resampling.LANCZOS)) for p in patches]
    )
    cell = np.clip((at / side * n).astype(int), 0, n - 1)
    canvas[inside] = small[nearest[inside], cell[inside][:, 0], cell[inside][:, 1]]
    return canvas


def colours(
    values: NDArray[np.floating], scale: Normalize, name: str = SIGNAL_MAP
) -> UInt8[np.ndarray, "*s 3"]:
    """Values as colours; where there is none, white."""
    found = mpl.colormaps[name](scale(np.nan_to_num(values)))[..., :3]
    found = np.where(np.isfinite(values)[..., None], found, 1.0)
    return np.asarray((found * 255).round(), np.uint8)


def over(
    picture: UInt8[np.ndarray, "h w 3"],
    values: Float32[np.ndarray, "h w"],
    scale: Normalize,
    name: str = SIGNAL_MAP,
) -> UInt8[np.ndarray, "h w 3"]:
    """A map over grey tissue: its colour, shaded by the tissue's lightness; the tissue itself where there is no value."""
    light = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    shade = (GREY_LIGHT + GREY_SPREAD * light)[..., None]
    faint = 255 - (255 - picture.astype(np.float32)) * 0.45
    tinted = np.where(np.isfinite(values)[..., None], colours(values, scale, name) * shade, faint)
    return np.asarray(tinted.round(), np.uint8)


def map_at(smooth: SmoothMap, field: Field) -> Float32[np.ndarray, "h w"]:
    """A map at the pixels of a field."""
    side = max(field.shape)
    square = smooth.crop(*field.corner_um_yx, side * field.mpp, side)
    return square[: field.shape[0], : field.shape[1]]


def robust_scale(*values: NDArray[np.floating]) -> Normalize:
    """From the 2nd to the 98th hundredth of the values; wider than nothing."""
    known = np.concatenate([np.ravel(v) for v in values])
    known = known[np.isfinite(known)]
    low, high = (float(q) for q in np.quantile(known, [0.02, 0.98])) if len(known) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high, clip=True)


def show(axes: Axes, picture: NDArray[Any], title: str = "", edge: str = "#b9b4c2", **options: Any) -> None:
    """A picture without ticks."""
    axes.imshow(picture, **options)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(edge)
    if title:
        axes.set_title(title)


def scale_bar(axes: Axes, width_px: float, mpp: float, share: float = 0.28, size: float = 8) -> None:
    """A bar of a round length in the lower left corner, its length beside it, readable on any ground."""
    length_um = scale_bar_um(2 * share * width_px * mpp)
    length = length_um / mpp / width_px
    plate = {"facecolor": "white", "alpha": 0.78, "edgecolor": "none"}
    axes.plot(
        [0.035, 0.035 + length], [0.035, 0.035], transform=axes.transAxes, color="black", linewidth=2.6,
        solid_capstyle="butt", zorder=5,
    )  # fmt: skip
    axes.text(
        0.035, 0.055, f"{length_um:g} µm", transform=axes.transAxes, fontsize=size, ha="left", va="bottom",
        zorder=5, bbox={**plate, "pad": 1.2},
    )  # fmt: skip


def synthetic_mark(axes: Axes, size: float = 8) -> None:
    """The word under what was painted."""
    axes.set_xlabel("synthetic", color=SYNTHETIC, fontsize=size, labelpad=2, loc="right")


def circles(
    axes: Axes, centres_px: Float64[np.ndarray, "n 2"], labels: list[str], radius_px: float, size: float = 9
) -> None:
    """Numbered places on an overview."""
    for (y, x), label in zip(centres_px, labels, strict=True):
        half = radius_px
        axes.add_patch(
            Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, edgecolor="white", linewidth=2.6)
        )
        axes.add_patch(
            Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, edgecolor="black", linewidth=1.1)
        )
        axes.text(
            x, y, label, ha="center", va="center", fontsize=size, fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.18", "facecolor": "white", "edgecolor": "black", "linewidth": 0.6},
        )  # fmt: skip


def caption_under(figure: Figure, text: str, size: float = 7.6) -> None:
    """A caption below everything, wrapped to the figure's width, its own line breaks kept."""
    wide = int(figure.get_figwidth() * 72 / (size * 0.57))
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, wide)]
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=size, color=SOFT)


def heading(figure: Figure, text: str) -> None:
    """What the figure shows, large, at its top left."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=13, fontweight="bold")


def figure_text(value: float, form: str = ".2f") -> str:
    """A figure with a true minus sign; a dash when there is none."""
    return "–" if np.isnan(value) else format(value, form).replace("-", "−")


def figure_style() -> Any:
    """A context in which figures are drawn."""
    return mpl.rc_context(STYLE)


def save_figure(figure: Figure, stem: Path, stamp: Stamp, title: str) -> tuple[Path, Path]:
    """Write ``stem.png`` and ``stem.svg``; both say in their metadata what is synthetic, by which model."""
    text = json.dumps(asdict(stamp), ensure_ascii=True)
    png, svg = stem.parent / f"{stem.name}.png", stem.parent / f"{stem.name}.svg"
    with figure_style():
        with atomic_path(png) as temporary:
            raster: Any = FigureCanvasAgg(figure)
            figure.set_dpi(DPI)
            facts: Mapping[str, str] = {
                "Title": title,
                "Description": SENTENCE,
                KEY: text,
                "Software": "stainglass",
            }
            raster.print_png(str(temporary), metadata=facts)
        with atomic_path(svg) as temporary:
            vector: Any = FigureCanvasSVG(figure)
            about = {
                "Title": title,
                "Description": f"{SENTENCE} {KEY}={text}",
                "Date": None,
                "Creator": "stainglass",
            }
            vector.print_svg(str(temporary), metadata=about)
    return png, svg
