"""``stainglass components``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.models.pipeline import SamplerSettings
    from stainglass.synthesis.generator import Generator

Sections = Annotated[
    tuple[str, ...],
    Parameter(
        name="--section",
        help="A section's id; may be given several times. By default the judged part of the split.",
        negative="",
        consume_multiple=False,
    ),
]
Most = Annotated[
    int | None, Parameter(help="At most this many spots a section, spread evenly; all by default.")
]


def components(
    run: Path,
    *,
    sections: Sections = (),
    most: Most = None,
    signal: Annotated[
        str, Parameter(help="What divides the tissue: classes, clusters, a gene or a gene set.")
    ] = "classes",
    clusters: Annotated[int, Parameter(help="Number of clusters, for --signal clusters.")] = 6,
    threshold: Annotated[
        float | None, Parameter(help="Of a gene or gene set; by default Otsu's over the training spots.")
    ] = None,
    whole: Annotated[
        bool, Parameter(help="Find the nuclei of the whole real section, not only of its patches.")
    ] = True,
    cohort: Annotated[Path | None, Parameter(help="The cohort; by default the run's own.")] = None,
) -> None:
    """Find nuclei and connected regions in real and generated tissue, as clusters with class and confidence.

    Writes tables, GeoJSON for QuPath (px of the full-resolution slide), overlays and components.json with the
    agreement of real and generated tissue (ARI, Dice) under RUN/analysis/components.

    For instance::

        stainglass components runs/her2st --section C5 --signal HALLMARK_HYPOXIA

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml and generator/.
    """
    from stainglass.analysis.find_components import ComponentSettings, write_components

    how = ComponentSettings(signal, clusters, threshold, whole)
    opened, generator, sampler, seed = opened_run(run, cohort, most)
    path = write_components(run, opened, generator, sampler, sections, most, how, noise_seed=seed)
    say_next(f"drag the .geojson of {path.parent} onto the slide in QuPath, or stainglass subtypes {run}")
    print_result(path)


def opened_run(
    run: Path, cohort: Path | None, most: int | None
) -> tuple[Cohort, Generator, SamplerSettings, int]:
    """A run's cohort, generator, sampler settings and noise seed.

    Raises
    ------
    StainglassError
        When it is no run, has no generator or no cohort, or ``most`` leaves no spot.
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
    if not (run / "generator" / "model_index.json").is_file():
        raise StainglassError(
            run / "generator",
            "no generator in this run",
            "Run 'stainglass train' or 'stainglass run' to the end",
        )
    if most is not None and most < 1:
        raise StainglassError("--most", f"{most} is not possible", "Give a whole number from 1 on")
    sampling = load_recipe(run / "recipe.yaml").sampling
    settings = SamplerSettings(sampling.solver, sampling.steps, sampling.guidance, sampling.interval)
    opened = Cohort.open(cohort or run / "cohort")
    return opened, Generator.from_pretrained(run / "generator"), settings, sampling.seed
