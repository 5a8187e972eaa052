"""The page of the latent view: self-contained, spots and generated patches in three dimensions, a slider."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.offline
from jaxtyping import Float32
from markupsafe import Markup
from numpy.typing import NDArray

from stainglass.files import atomic_path
from stainglass.report.figure_page import script_json, template
from stainglass.synthesis.stamp import SENTENCE

OKABE_ITO = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#7A4FA3",
    "#8C6D31",
)
"""Okabe & Ito's colours, then two more that stay apart from them in lightness; beyond that, grey."""

GREY = "#9A97A0"


@dataclass(frozen=True)
class Colouring:
    """A way to colour points: classes by name, or numbers on a scale."""

    name: str
    about: str
    codes: NDArray[np.integer] | None = None
    names: tuple[str, ...] = ()
    values: NDArray[np.floating] | None = None
    unit: str = ""


@dataclass(frozen=True)
class LatentData:
    """All that the page shows.

    Attributes
    ----------
    real, generated
        (n, 3) where the patches of each spot lie; row by row the same spots.
    labels
        A line a spot.
    thumbs
        Row → data URIs of its real and its generated patch.
    slider
        As the page's script reads it.
    notes
        What was thinned, where colours come from, how far pictures lie apart.
    """

    title: str
    axes: tuple[str, str, str]
    real: Float32[np.ndarray, "n 3"]
    generated: Float32[np.ndarray, "n 3"]
    labels: tuple[str, ...]
    colourings: tuple[Colouring, ...]
    thumbs: dict[int, tuple[str, str]]
    slider: dict[str, Any]
    notes: tuple[str, ...]


def write_latent_page(data: LatentData, path: Path) -> Path:
    """Write the page: plotly and all data inline, nothing loaded from outside."""
    everything = np.concatenate([data.real, data.generated])
    if "places" in data.slider:
        moved = np.frombuffer(base64.b64decode(data.slider["places"]), np.float32).reshape(-1, 3)
        everything = np.concatenate([everything, moved])
    payload = {
        "axes": data.axes,
        "ranges": _ranges(everything),
        "real": packed(data.real),
        "generated": packed(data.generated),
        "labels": data.labels,
        "colourings": [_as_tree(way) for way in data.colourings],
        "thumbs": data.thumbs,
        "slider": data.slider,
    }
    html = template("latent.html.j2").render(
        title=data.title,
        notes=data.notes,
        spots=len(data.real),
        sentence=SENTENCE,
        colourings=data.colourings,
        data=script_json(payload),
        plotly=Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 plotly's own script
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _as_tree(way: Colouring) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": way.name, "about": way.about}
    if way.codes is not None:
        palette = [OKABE_ITO[i] if i < len(OKABE_ITO) else GREY for i in range(len(way.names))]
        return tree | {"names": way.names, "palette": palette, "codes": packed(way.codes.astype(np.uint16))}
    values = np.asarray(way.values, np.float32)
    known = values[np.isfinite(values)]
    low, high = (float(q) for q in np.quantile(known, [0.02, 0.98])) if len(known) else (0.0, 1.0)
    filled = np.where(np.isfinite(values), values, low).astype(np.float32)
    return tree | {"values": packed(filled), "low": low, "high": max(high, low + 1e-6), "unit": way.unit}


def _ranges(places: NDArray[np.floating]) -> list[list[float]]:
    low, high = places.min(0), places.max(0)
    margin = np.maximum((high - low) * 0.04, 1e-3)
    return [[float(a), float(b)] for a, b in zip(low - margin, high + margin, strict=True)]


def packed(values: NDArray[Any]) -> str:
    """Little-endian bytes of an array, in base64: a third of what the same numbers take in digits."""
    return base64.b64encode(
        np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    ).decode("ascii")
