"""``stainglass evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next


def evaluate(
    run: Path,
    *,
    cohort: Annotated[Path | None, Parameter(help="The cohort; by default the run's own.")] = None,
    features: Annotated[
        tuple[Literal["efficientnet", "lpips", "inception"], ...],
        Parameter(
            help="The networks that judge, the leading one first; may be given several times. By default all judge "
            "whose weights are here. FID needs inception: see docs/fid.md.",
            negative="",
            consume_multiple=False,
        ),
    ] = (),
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """Judge a run's generator on held-out windows, beside every control: the card.

    For instance::

        stainglass evaluate runs/her2st --set evaluation.windows=64
        stainglass evaluate runs/her2st --features inception

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml and generator/.
    """
    from stainglass.cli.judge import judge_run
    from stainglass.cohort.of_run import open_cohort
    from stainglass.errors import StainglassError
    from stainglass.recipe_files import load_recipe

    if not (run / "recipe.yaml").is_file():
        raise StainglassError(
            run, "no recipe.yaml, so this is no run", "Give the folder that 'stainglass train' wrote"
        )
    if dry_run:
        from stainglass.cli.estimate import tell_evaluate

        tell_evaluate(load_recipe(run / "recipe.yaml", sets=sets), run)
        return
    recipe = load_recipe(run / "recipe.yaml", sets=sets)
    judge_run(run, open_cohort(run, cohort), recipe, features)
    say_next(f"stainglass report {run}")
    print_result(run / "evaluation" / "card.json")
