"""Figures to look into: one small page each, maps to fade in and out, spots that answer to the pointer."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.colors import Normalize
from PIL import Image

from stainglass.files import atomic_path
from stainglass.report.images import data_uri, scale_bar_um
from stainglass.report.panels import SIGNAL_MAP, colours, figure_text
from stainglass.synthesis.stamp import SENTENCE

MAP_PX, BASE_PX = 420, 900


@dataclass(frozen=True)
class PagePanel:
    """A picture, perhaps a map over it, and the spots that lie in it.

    Attributes
    ----------
    title, note
        Above it; ``note`` at the right.
    base, over
        Data URIs; ``over`` is empty where there is no map.
    bar_um, bar_share
        Scale bar: its length and its share of the width.
    synthetic
        Whether the picture was painted.
    spots
        ``(x, y, key)``: where a spot lies, in shares of width and height, and what it is called on the page.
    wide
        Whether it takes the whole height at the left.
    """

    title: str
    base: str
    over: str
    bar_um: float
    bar_share: float
    note: str = ""
    synthetic: bool = False
    spots: tuple[tuple[float, float, str], ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Page:
    """An interactive figure.

    Attributes
    ----------
    panels, columns
        The panels, and how many stand side by side (a wide one not counted).
    about
        Key of a spot → what to tell of it.
    low, high, unit, gradient
        The colour scale.
    table
        Lines below the panels: name, value, control.
    """

    title: str
    caption: str
    panels: tuple[PagePanel, ...]
    columns: int
    about: Mapping[str, str]
    low: str
    high: str
    unit: str
    gradient: str
    table: tuple[tuple[str, str, str], ...] = ()
    table_heads: tuple[str, str, str] = ("", "", "")
    footer: str = field(default=SENTENCE)


def panel(
    title: str,
    picture: UInt8[np.ndarray, "h w 3"],
    mpp: float,
    values: Float[np.ndarray, "mh mw"] | None = None,
    scale: Normalize | None = None,
    name: str = SIGNAL_MAP,
    **more: Any,
) -> PagePanel:
    """A panel from a picture at ``mpp`` and, perhaps, a map of the same field."""
    width_um = picture.shape[1] * mpp
    bar_um = scale_bar_um(width_um * 0.8)
    over = "" if values is None or scale is None else overlay_uri(values, scale, name)
    return PagePanel(
        title, data_uri(Image.fromarray(picture), BASE_PX), over, bar_um, bar_um / width_um, **more
    )


def overlay_uri(values: Float[np.ndarray, "h w"], scale: Normalize, name: str = SIGNAL_MAP) -> str:
    """A map as a PNG data URI, clear where it has no value."""
    step = max(1, max(values.shape) // MAP_PX)
    small = values[::step, ::step]
    alpha = np.where(np.isfinite(small), 255, 0).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.dstack([colours(small, scale, name), alpha])).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def gradient(name: str = SIGNAL_MAP, stops: int = 12) -> str:
    """A colour map as CSS."""
    found = (mpl.colormaps[name](np.linspace(0, 1, stops))[:, :3] * 255).round().astype(int)
    return "linear-gradient(to right," + ",".join(f"rgb({r},{g},{b})" for r, g, b in found) + ")"


def ends(scale: Normalize) -> tuple[str, str]:
    """The two ends of a scale, for people."""
    return figure_text(float(scale.vmin or 0.0), ".3g"), figure_text(float(scale.vmax or 0.0), ".3g")


def template(name: str) -> Any:
    """A template of this room."""
    environment = Environment(
        loader=PackageLoader("stainglass.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 escaped above


def write_page(page: Page, path: Path) -> Path:
    """Write the page: one file, nothing loaded from outside."""
    spots: Sequence[Any] = [asdict(p)["spots"] for p in page.panels]
    html = template("figure.html.j2").render(
        page=page, data=script_json({"spots": spots, "about": dict(page.about)})
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path
