"""``stainglass components``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next
from stainglass.cli.finished import CohortPath, Most, SectionNames, open_run


def components(
    run: Path,
    *,
    sections: SectionNames = (),
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
    cohort: CohortPath = None,
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
    from stainglass.analysis.dividers import ComponentSettings
    from stainglass.analysis.find_components import write_components

    how = ComponentSettings(signal, clusters, threshold, whole)
    recipe, opened, generator, sampler, sections = open_run(run, cohort, sections, most)
    path = write_components(
        run, opened, generator, sampler, sections, most, how, noise_seed=recipe.sampling.seed
    )
    say_next(f"drag the .geojson of {path.parent} onto the slide in QuPath, or stainglass subtypes {run}")
    print_result(path)
