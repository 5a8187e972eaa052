"""``stainglass figures``, and what it shares with ``stainglass latent``: opening a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import Recipe
    from stainglass.models.pipeline import SamplerSettings
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


def figures(
    run: Path,
    *,
    section: SectionNames = (),
    signal: Annotated[
        tuple[str, ...],
        Parameter(
            help="A gene, a gene set (HALLMARK_HYPOXIA, PROGENy:Hypoxia) or clip; may be given several times. By "
            "default two genes that training tissue shows best, hypoxia, and clip where the run has it.",
            negative="",
            consume_multiple=False,
        ),
    ] = (),
    most: Annotated[int | None, Parameter(help="At most this many spots a section, spread evenly.")] = None,
    cohort: CohortPath = None,
    dry_run: DryRun = False,
) -> None:
    """Draw figures of a run: composite, maps of signals measured and read back, attribution; PNG, SVG, HTML.

    For instance::

        stainglass figures runs/her2st --section C5 --signal ERBB2 --signal HALLMARK_HYPOXIA

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml, cohort/ and generator/.
    """
    recipe, opened, generator, settings, sections = open_run(run, cohort, section)
    if dry_run:
        tell(generator, opened, sections, settings, recipe, most, run)
        return
    from stainglass.report.figure_folder import write_figures

    sampling = recipe.sampling
    page = write_figures(
        run, opened, generator, settings, sections, signal, most, seed=sampling.seed, batch=sampling.batch
    )
    say_next(f"stainglass latent {run}")
    print_result(page)


def open_run(
    run: Path, cohort: Path | None, section: tuple[str, ...]
) -> tuple[Recipe, Cohort, Generator, SamplerSettings, tuple[str, ...]]:
    """A run's recipe, cohort, generator, sampler, and the sections to show: those named, or the judged part.

    Raises
    ------
    StainglassError
        When it is no run, has no generator, or a section is not of its cohort.
    """
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import load_recipe
    from stainglass.errors import StainglassError
    from stainglass.models.pipeline import SamplerSettings
    from stainglass.synthesis.generator import Generator

    if not (run / "recipe.yaml").is_file():
        raise StainglassError(
            run, "no recipe.yaml, so this is no run", "Give the folder that 'stainglass train' wrote"
        )
    recipe = load_recipe(run / "recipe.yaml")
    opened = Cohort.open(cohort or run / "cohort")
    for name in section:
        if name not in opened.sections:
            raise StainglassError(
                opened.path, f"has no section {name!r}", f"Choose one of {', '.join(opened.sections)}"
            )
    if not (run / "generator").is_dir():
        raise StainglassError(
            run / "generator",
            "this run has no generator yet",
            "Run 'stainglass train' or 'stainglass run' first",
        )
    generator = Generator.from_pretrained(run / "generator")
    sampling, part = recipe.sampling, recipe.evaluation.part
    settings = SamplerSettings(sampling.solver, sampling.steps, sampling.guidance, sampling.interval)
    sections = section or tuple(opened.split(recipe.split.name).part(part))
    if not sections:
        raise StainglassError(opened.path, f"its split has no {part} sections", "Name one with --section")
    return recipe, opened, generator, settings, sections


def tell(
    generator: Generator,
    cohort: Cohort,
    sections: tuple[str, ...],
    settings: SamplerSettings,
    recipe: Recipe,
    most: int | None,
    run: Path,
) -> None:
    """Say what painting the sections would take."""
    from stainglass.cli.estimate import tell_painting

    spots = sum(min(len(cohort.patches([s], generator.facts.window_px)), most or 10**9) for s in sections)
    tell_painting(generator.pipeline, spots, settings, recipe.sampling.batch, run / "analysis")
