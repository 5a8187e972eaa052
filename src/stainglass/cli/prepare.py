"""``stainglass prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next
from stainglass.progress import console


def prepare(
    source: Path,
    *,
    out: Path,
    mpp: Annotated[
        float | None, Parameter(help="µm/px of the cohort; by default 0.5, or the sources' own when coarser.")
    ] = None,
    recipe: Annotated[str | None, Parameter(help="Take the settings and the split from this recipe.")] = None,
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """Put sections on one µm/px and one gene axis: a cohort.

    For instance::

        stainglass prepare samples.csv --out cohort --mpp 0.5

    Parameters
    ----------
    source
        A Space Ranger folder, an ST folder, an .h5ad, or a manifest (CSV with id, patient, path, slide, mpp).
    out
        The cohort's folder; sections that are there already are not done again.
    """
    from stainglass.cohort.prepare import prepare_cohort, prepare_split
    from stainglass.config import load_recipe, recipe_from_sets
    from stainglass.errors import StainglassError
    from stainglass.sections import read_sections

    if mpp is not None:
        sets = (*sets, f"prepare.mpp={mpp}")
    plan = load_recipe(recipe, sets=sets) if recipe else recipe_from_sets("prepare", sets)
    settings = plan.prepare
    sources = read_sections(source)
    if dry_run:
        from stainglass.cli.estimate import tell_prepare

        tell_prepare(sources, settings, out)
        return
    cohort = prepare_cohort(sources, out, settings)
    found = f"{len(cohort.sections)} sections, {cohort.mpp:g} µm/px, {len(cohort.axis)} genes"
    console.print(f"{found}; look at {out / 'proofs'}", highlight=False, soft_wrap=True)
    try:
        prepare_split(cohort, plan.split, plan.seed)
    except StainglassError as error:
        console.print(f"[yellow]no split yet:[/yellow] {error}", highlight=False, soft_wrap=True)
    say_next(f"stainglass train {out} --out run")
    print_result(out)
