"""``stainglass run``: a whole recipe, top to bottom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next
from stainglass.progress import console

if TYPE_CHECKING:
    from stainglass.config import Recipe


def run(
    recipe: str,
    *,
    out: Path,
    data: Annotated[
        Path | None, Parameter(help="Folder or manifest of sections; without it the recipe simulates.")
    ] = None,
    preset: Annotated[str | None, Parameter(help="One of the recipe's presets, e.g. brief or full.")] = None,
    fresh: Annotated[bool, Parameter(help="Delete an earlier run in --out first.", negative="")] = False,
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """From sections to report: simulate (when there are no data), prepare, train, generate, evaluate, report.

    What is finished in --out is not done again: an interrupted run goes on.

    For instance::

        stainglass run recipes/her2st.yaml --data her2st --out runs/her2st --preset brief

    Parameters
    ----------
    recipe
        A recipe's file, or the name of one that comes with stainglass.
    out
        Folder of the run.
    """
    from stainglass.recipe_files import load_recipe

    plan = load_recipe(recipe, preset, sets)
    source = data_of(plan, data)
    if source is not None:
        plan = plan.on(source.resolve().name)
    if dry_run:
        from stainglass.cli.estimate import tell_run

        tell_run(plan, source, out)
        return
    from stainglass.cli.stages import clear_run, refuse_another_run, run_stages

    if fresh:
        clear_run(out)
    refuse_another_run(plan, str(source or "simulated"), out)
    began = time.perf_counter()
    page = run_stages(plan, source, out, preset)
    console.print(f"done in {(time.perf_counter() - began) / 60:.1f} minutes", highlight=False)
    say_next(f"open {page}")
    print_result(page)


def data_of(plan: Recipe, data: Path | None) -> Path | None:
    """The data given, or None when the recipe simulates its own.

    Raises
    ------
    StainglassError
        When there is neither.
    """
    from stainglass.errors import StainglassError

    if data is None and plan.simulate is None:
        raise StainglassError(
            f"recipe {plan.name}", "needs data and simulates none", "Pass --data FOLDER_OR_MANIFEST"
        )
    if data is not None and not data.exists():
        raise StainglassError(data, "no such file or folder", "Check --data")
    return data
