"""Tissue from transcripts: paint H&E histology from spatial transcriptomics, and prove that the genes drove the picture.

The names below are loaded when they are first used, so that ``import stainglass`` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import Recipe
    from stainglass.errors import StainglassError
    from stainglass.models.sampler import SamplerSettings
    from stainglass.recipe_files import load_recipe
    from stainglass.sections import read_section, read_sections, simulate_cohort
    from stainglass.synthesis.generator import Generator

__version__ = "0.1.0"

_HOMES = {
    "Cohort": "stainglass.cohort.cohort",
    "Generator": "stainglass.synthesis.generator",
    "Recipe": "stainglass.config",
    "SamplerSettings": "stainglass.models.sampler",
    "StainglassError": "stainglass.errors",
    "load_recipe": "stainglass.recipe_files",
    "read_section": "stainglass.sections",
    "read_sections": "stainglass.sections",
    "simulate_cohort": "stainglass.sections",
}

__all__ = [
    "Cohort",
    "Generator",
    "Recipe",
    "SamplerSettings",
    "StainglassError",
    "load_recipe",
    "read_section",
    "read_sections",
    "simulate_cohort",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stainglass' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
