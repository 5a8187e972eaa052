"""``stainglass train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next, write_provenance

if TYPE_CHECKING:
    from stainglass.cohort.splits import Split


def train(
    cohort: Path,
    *,
    out: Path,
    recipe: Annotated[str, Parameter(help="A recipe's file or name.")] = "visium",
    preset: str | None = None,
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """Train autoencoder, GeneCondNet and denoiser on a prepared cohort: a generator.

    Stops cleanly on SIGTERM or Ctrl-C with a checkpoint; the same command goes on from there.

    For instance::

        stainglass train cohort --recipe her2st --preset brief --out run

    Parameters
    ----------
    cohort
        A prepared cohort.
    out
        Folder of the run: metrics, previews, checkpoints and generator/.
    preset
        One of the recipe's presets.
    """
    from stainglass.cli.stages import refuse_another_run
    from stainglass.cohort.cohort import Cohort
    from stainglass.cohort.of_run import as_noted
    from stainglass.cohort.prepare_split import prepare_split
    from stainglass.recipe_files import load_recipe, write_recipe
    from stainglass.training.processes import by_the_first
    from stainglass.training.stages import train_generator

    plan = load_recipe(recipe, preset, sets).on(cohort.resolve().name)
    if dry_run:
        from stainglass.cli.estimate import tell_train

        tell_train(Cohort.open(cohort), plan, out)
        return

    def opened_and_split() -> tuple[Cohort, Split]:
        opened = Cohort.open(cohort)
        return opened, prepare_split(opened, plan.split, plan.seed, plan.windows)

    opened, split = by_the_first(opened_and_split)  # a split may divide sections
    refuse_another_run(plan, str(cohort), out)
    write_recipe(plan, out / "recipe.yaml")
    write_provenance(out, plan, data=str(cohort), cohort=as_noted(cohort, out))
    train_generator(opened, split, plan, out, plan.data)
    say_next(f"stainglass evaluate {out}")
    print_result(out / "generator")
