"""``stainglass figures``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next
from stainglass.cli.finished import CohortPath, SectionNames, open_run

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import Recipe
    from stainglass.models.sampler import SamplerSettings
    from stainglass.synthesis.generator import Generator


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
