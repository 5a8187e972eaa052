"""``stainglass prepare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next
from stainglass.progress import console

if TYPE_CHECKING:
    from stainglass.cohort.prepare_many import Outcome
    from stainglass.errors import StainglassError


def prepare(
    source: Path,
    *,
    out: Path,
    mpp: Annotated[
        float | None, Parameter(help="µm/px of the cohort; by default 0.5, or the sources' own when coarser.")
    ] = None,
    recipe: Annotated[str | None, Parameter(help="Take the settings and the split from this recipe.")] = None,
    workers: Annotated[
        int, Parameter(help="Sections at once, each in a Dask process of its own; 1 needs no Dask.")
    ] = 1,
    dask: Annotated[
        str | None, Parameter(help="Address of a Dask scheduler (tcp://…); wins over --workers.")
    ] = None,
    retries: Annotated[int, Parameter(help="Further attempts at a section that failed.")] = 1,
    skip_failed: Annotated[
        bool, Parameter(help="Be content when some sections failed, as long as one is there.", negative="")
    ] = False,
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """Put sections on one µm/px and one gene axis: a cohort.

    For instance::

        stainglass prepare samples.csv --out cohort --mpp 0.5
        stainglass prepare samples.csv --out cohort --workers 4
        stainglass prepare samples.csv --out /shared/cohort --dask tcp://scheduler:8786

    Parameters
    ----------
    source
        A Space Ranger folder, an ST folder, an .h5ad, or a manifest (CSV with id, patient, path, slide, mpp).
    out
        The cohort's folder; sections that are there already are not done again.
    """
    from stainglass.cohort.crew import crew_of
    from stainglass.cohort.expression import add_expression
    from stainglass.cohort.prepare_many import prepare_many
    from stainglass.cohort.prepare_split import prepare_split
    from stainglass.errors import StainglassError
    from stainglass.recipe_files import load_recipe, recipe_from_sets
    from stainglass.sections import read_sections

    if mpp is not None:
        sets = (*sets, f"prepare.mpp={mpp}")
    plan = load_recipe(recipe, sets=sets) if recipe else recipe_from_sets("prepare", sets)
    settings = plan.prepare
    # A cluster's workers start elsewhere, so paths are given in full.
    sources = read_sections(source.absolute())
    if dry_run:
        from stainglass.cli.estimate import tell_prepare

        tell_prepare(sources, settings, out)
        return
    (out / "sections").mkdir(parents=True, exist_ok=True)
    with crew_of(workers, dask, out.absolute()) as crew:
        cohort, outcomes = prepare_many(sources, out.absolute(), settings, crew, max(retries, 0))
    failed = [one for one in outcomes if one.state == "failed"]
    if len(outcomes) > 1:
        _tell(outcomes)
    if cohort is None or (failed and not skip_failed):
        raise _error(out, failed, len(outcomes))
    if settings.expression is not None:
        add_expression(Path(settings.expression), cohort.path)
    found = f"{len(cohort.sections)} sections, {cohort.mpp:g} µm/px, {len(cohort.axis)} genes"
    console.print(f"{found}; look at {out / 'proofs'}", highlight=False, soft_wrap=True)
    try:
        prepare_split(cohort, plan.split, plan.seed)
    except StainglassError as error:
        console.print(f"[yellow]no split yet:[/yellow] {error}", highlight=False, soft_wrap=True)
    say_next(f"stainglass train {out} --out run")
    print_result(out)


def _tell(outcomes: Sequence[Outcome]) -> None:
    """The run's summary: failures one a line, the rest counted."""
    from rich.markup import escape

    states = ("prepared", "kept", "failed")
    counts = ", ".join(f"{sum(one.state == state for one in outcomes)} {state}" for state in states)
    seconds = [one.seconds for one in outcomes if one.state == "prepared"]
    each = f"; {sum(seconds) / len(seconds):.1f} s a section" if seconds else ""
    console.print(f"{len(outcomes)} sections: {counts}{each}", highlight=False)
    for one in outcomes:
        if one.error is not None:
            tried = f" (tried {one.attempts} times)" if one.attempts > 1 else ""
            line = f"  [yellow]{escape(one.id)}[/yellow] failed{tried}: {escape(str(one.error))}"
            console.print(line, highlight=False, soft_wrap=True)


def _error(out: Path, failed: Sequence[Outcome], number: int) -> StainglassError:
    """One section's own error; of several, how many and the first."""
    from stainglass.errors import StainglassError

    first = failed[0].error
    assert first is not None
    if number == 1:
        return first
    return StainglassError(
        out,
        f"{len(failed)} of {number} sections failed, {failed[0].id} for one: {str(first).rstrip('.')}",
        "Mend them and run the same command again: only they are done; or pass --skip-failed",
    )
