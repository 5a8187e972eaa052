"""Read one section from whatever it came as, or simulate one; check it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainglass.sections.read import SectionSource, read_section, read_sections
    from stainglass.sections.section import Section
    from stainglass.sections.simulate.cohort import simulate_cohort
    from stainglass.sections.slides import Slide, open_slide

_HOME = {
    "Section": "section",
    "SectionSource": "read",
    "Slide": "slides",
    "open_slide": "slides",
    "read_section": "read",
    "read_sections": "read",
    "simulate_cohort": "simulate.cohort",
}

__all__ = [
    "Section",
    "SectionSource",
    "Slide",
    "open_slide",
    "read_section",
    "read_sections",
    "simulate_cohort",
]


def __getattr__(name: str) -> Any:
    # Lazily: anndata alone takes most of a second to import, and a help text needs none of it.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
