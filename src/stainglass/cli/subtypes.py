"""``stainglass subtypes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next
from stainglass.cli.finished import CohortPath, Most, SectionNames, open_run


def subtypes(
    run: Path,
    *,
    labels: Annotated[
        Path | None,
        Parameter(help="A pathologist's labels: a folder or file of TSV per spot, or GeoJSON from QuPath."),
    ] = None,
    sections: SectionNames = (),
    most: Most = None,
    classes: Annotated[
        tuple[str, ...],
        Parameter(help="Classes to score; by default those the training tissue shows.", negative=""),
    ] = (),
    cohort: CohortPath = None,
) -> None:
    """Score classes from expression and read them from real and generated pictures: macro-F1, AUROC, confusion.

    Keratinocytes, fibroblasts, immune cells and others by marker sets; a calibrated classifier of pictures, its folds
    grouped by patient. Writes subtypes.json, spots.csv and subtypes.png under RUN/analysis/subtypes.

    For instance::

        stainglass subtypes runs/her2st --labels labels --section C5

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml and generator/.
    """
    from stainglass.analysis.find_subtypes import write_subtypes
    from stainglass.analysis.subtype_figures import tell
    from stainglass.files import read_json

    recipe, opened, generator, sampler, sections = open_run(run, cohort, sections, most)
    path = write_subtypes(
        run, opened, generator, sampler, sections, most, labels, classes, noise_seed=recipe.sampling.seed
    )
    tell(read_json(path, "subtypes"))
    say_next(f"stainglass components {run}, or stainglass report {run}")
    print_result(path)
