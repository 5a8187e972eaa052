"""``stainglass compartments``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next
from stainglass.cli.finished import CohortPath, Most, SectionNames, open_run


def compartments(
    run: Path,
    *,
    sections: SectionNames = (),
    most: Most = None,
    pairs: Annotated[int, Parameter(help="Pairs of patches for each compartment.")] = 4,
    blind: Annotated[
        bool,
        Parameter(
            help="Write a blinded reading too: blind/ to hand on, key.csv to keep.",
            negative="",
            name="--blind",
        ),
    ] = False,
    seed: Annotated[int, Parameter(help="Of the choice of pairs and of their order.")] = 0,
    cohort: CohortPath = None,
) -> None:
    """Show real and generated patches of one compartment side by side: tumour, stroma, immune, adipose, necrosis, muscle.

    Compartments are called from expression and read from pictures; what the generator paints unlike any real tissue is
    found and shown. Writes index.html, pairs/, failures.csv and compartments.csv under RUN/analysis/compartments.

    For instance::

        stainglass compartments runs/crc --pairs 6 --blind

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml and generator/.
    """
    from stainglass.errors import StainglassError
    from stainglass.files import read_json
    from stainglass.report.compartment_page import tell, write_compartments

    if pairs < 1:
        raise StainglassError("--pairs", f"{pairs} is not possible", "Give a whole number from 1 on")
    recipe, opened, generator, sampler, sections = open_run(run, cohort, sections, most)
    path = write_compartments(
        run, opened, generator, sampler, sections, most, pairs, blind,
        noise_seed=recipe.sampling.seed, seed=seed,
    )  # fmt: skip
    tell(read_json(path.parent / "compartments.json", "compartments"))
    blinded = f"hand on {path.parent / 'blind'} (key.csv stays here), or " if blind else ""
    say_next(f"{blinded}stainglass report {run}")
    print_result(path)
