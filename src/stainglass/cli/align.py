"""``stainglass align``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import Sets, print_result, say_next, write_provenance


def align(
    cohort: Path,
    *,
    out: Path,
    recipe: Annotated[str, Parameter(help="A recipe with a clip, its file or name.")] = "skin_clip",
    preset: str | None = None,
    sets: Sets = (),
) -> None:
    """Train CLIP on a prepared cohort, and examine it on held-out sections against chance and colour.

    Stops cleanly on SIGTERM or Ctrl-C with a checkpoint; the same command goes on from there, and
    ``stainglass train`` with the same recipe and --out takes the finished CLIP.

    For instance::

        stainglass align cohort --recipe skin_clip --preset brief --out run

    Parameters
    ----------
    cohort
        A prepared cohort.
    out
        Folder of the run; the CLIP lies in clip/model/, its figures in clip/alignment.json.
    preset
        One of the recipe's presets.
    """
    from stainglass.cli.alignment import examine
    from stainglass.cli.stages import refuse_another_run
    from stainglass.cohort.cohort import Cohort
    from stainglass.cohort.of_run import as_noted
    from stainglass.cohort.prepare_split import prepare_split
    from stainglass.errors import StainglassError
    from stainglass.recipe_files import load_recipe, write_recipe
    from stainglass.training.clip import train_clip

    plan = load_recipe(recipe, preset, sets).on(cohort.resolve().name)
    if plan.clip is None:
        raise StainglassError(f"recipe {plan.name}", "has no clip", "Choose skin_clip, or --set clip.dim=128")
    opened = Cohort.open(cohort)
    split = prepare_split(opened, plan.split, plan.seed, plan.windows)
    refuse_another_run(plan, str(cohort), out)
    write_recipe(plan, out / "recipe.yaml")
    write_provenance(out, plan, data=str(cohort), cohort=as_noted(cohort, out))
    train_clip(opened, split, plan, out / "clip")
    path = examine(out, opened, plan)
    say_next(f"stainglass embed {out}")
    print_result(path)
