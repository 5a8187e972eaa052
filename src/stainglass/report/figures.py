"""The page's two figures, as inline SVG that takes its ink from the page (dark, light, print)."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stainglass.evaluation.card import Row
from stainglass.report.table import short
from stainglass.report.words import SUBJECTS

# Okabe & Ito's colours: told apart by colour-blind readers, and by lightness in print.
REAL, GENERATED, CONTROL, BESIDE = "#009E73", "#0072B2", "#E69F00", "#8C8C8C"
COLOURS = {
    "floor": REAL,
    "generated": GENERATED,
    "bulk": CONTROL,
    "shuffled": CONTROL,
    "other_patient_genes": CONTROL,
    "unconditional": CONTROL,
    "retrieval": BESIDE,
    "reconstruction": REAL,
}
INK = "#010203"
"""Stands for the page's text colour; replaced by ``currentColor``."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "stainglass",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def recovery_bars(rows: Mapping[str, Row], label: str, title: str) -> str | None:
    """Horizontal bars with 95 % intervals, one a subject, in the order given; None without any figure.

    ``title`` is read to those who cannot see it; it must differ from figure to figure.
    """
    shown = [(name, row) for name, row in rows.items() if row.value is not None]
    if not shown:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.46 * len(shown) + 0.75), layout="constrained")
        axes = figure.subplots()
        ends = [0.0]
        for place, (name, row) in enumerate(shown):
            value = row.value or 0.0
            low, high = (value if end is None else end for end in (row.low, row.high))
            axes.barh(place, value, color=COLOURS.get(name, BESIDE), height=0.62)
            axes.plot([low, high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
            ends += [low, high]
        reach = (max(ends) - min(ends)) or 1.0
        for place, (_, row) in enumerate(shown):
            end = max(0.0, row.value or 0.0, row.high or 0.0)
            axes.text(end + 0.02 * reach, place, _figure_text(row), va="center", fontsize=10)
        axes.set_yticks(range(len(shown)), [SUBJECTS[name].title for name, _ in shown])
        axes.set_xlim(min(ends) - 0.03 * reach, max(ends) + 0.34 * reach)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure, title)


def _figure_text(row: Row) -> str:
    value = short(row.value or 0.0)
    return value if row.low is None or row.high is None else f"{value}  [{short(row.low)}, {short(row.high)}]"


def training_curves(records: Sequence[Mapping[str, object]], title: str) -> str | None:
    """Loss over steps, with a running mean; None when fewer than two steps hold a loss."""
    points = [
        (float(record["step"]), float(record["loss"]))  # type: ignore[arg-type]
        for record in records
        if _number(record.get("step")) and _number(record.get("loss"))
    ]
    if len(points) < 2:
        return None
    steps, losses = zip(*points, strict=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, losses, color=GENERATED, linewidth=0.8, alpha=0.35)
        axes.plot(steps, _smoothed(losses), color=GENERATED, linewidth=1.8)
        if min(losses) > 0 and max(losses) / min(losses) > 20:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.spines[["top", "right"]].set_visible(False)
        return _svg(figure, title)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a twentieth of the run, corrected for its start."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(mean / weight)
    return found


def _svg(figure: Figure, title: str) -> str:
    """SVG without prologue or metadata, in the page's ink, with a title for screen readers."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(out, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # matplotlib repeats ids from figure to figure; within one page they must differ.
    mark = re.sub(r"\W+", "-", title)
    svg = re.sub(r'(id="|href="#|url\(#)', lambda found: f"{found[1]}{mark}-", svg)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{_attribute(title)}" ', svg, count=1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
