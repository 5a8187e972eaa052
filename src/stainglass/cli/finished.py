"""A finished run as the verbs of analysis open it, and the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import Recipe
    from stainglass.models.sampler import SamplerSettings
    from stainglass.synthesis.generator import Generator

SectionNames = Annotated[
    tuple[str, ...],
    Parameter(
        name="--section",
        help="A section's id; may be given several times. By default the judged part of the split.",
        negative="",
        consume_multiple=False,
    ),
]
CohortPath = Annotated[Path | None, Parameter(help="The cohort; by default the run's own.")]
Most = Annotated[
    int | None, Parameter(help="At most this many spots a section, spread evenly; all by default.")
]


def open_run(
    run: Path, cohort: Path | None, section: tuple[str, ...], most: int | None = None
) -> tuple[Recipe, Cohort, Generator, SamplerSettings, tuple[str, ...]]:
    """A run's recipe, cohort, generator, sampler, and the sections to show: those named, or the judged part.

    Raises
    ------
    StainglassError
        When it is no run, has no generator, a section is not of its cohort, or ``most`` leaves no spot.
    """
    from stainglass.cohort.of_run import open_cohort
    from stainglass.errors import StainglassError
    from stainglass.models.sampler import SamplerSettings
    from stainglass.recipe_files import load_recipe
    from stainglass.synthesis.generator import Generator

    if not (run / "recipe.yaml").is_file():
        raise StainglassError(
            run, "no recipe.yaml, so this is no run", "Give the folder that 'stainglass train' wrote"
        )
    if not (run / "generator" / "model_index.json").is_file():
        raise StainglassError(
            run / "generator",
            "no generator in this run",
            "Run 'stainglass train' or 'stainglass run' to the end",
        )
    recipe = load_recipe(run / "recipe.yaml")
    opened = open_cohort(run, cohort)
    for name in section:
        if name not in opened.sections:
            raise StainglassError(
                opened.path, f"has no section {name!r}", f"Choose one of {', '.join(opened.sections)}"
            )
    if most is not None and most < 1:
        raise StainglassError("--most", f"{most} is not possible", "Give a whole number from 1 on")
    generator = Generator.from_pretrained(run / "generator")
    sampling, part = recipe.sampling, recipe.evaluation.part
    settings = SamplerSettings.of(sampling)
    sections = section or tuple(opened.split(recipe.split.name).part(part))
    if not sections:
        raise StainglassError(opened.path, f"its split has no {part} sections", "Name one with --section")
    return recipe, opened, generator, settings, sections
