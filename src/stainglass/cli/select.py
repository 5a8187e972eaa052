"""``stainglass select``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stainglass.cli.common import Sets
from stainglass.cli.finished import CohortPath

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.cohort.splits import Split
    from stainglass.models.pipeline import TissuePipeline


def select(run: Path, *, out: Path, cohort: CohortPath = None, sets: Sets = ()) -> None:
    """Let a generator paint several candidates of each window and keep the one that shows best what it was told.

    What a picture shows is read by the generator's own denoiser, with a ridge fitted on training windows in a minute; weights
    stay as they are. How many candidates: the recipe's ``sampling.candidates``. It is a run of its own: evaluate it as any other,
    beside the one it came from.

    For instance::

        stainglass select runs/breast --out runs/breast_best --set sampling.candidates=3
        stainglass evaluate runs/breast_best --cohort runs/breast/cohort

    Parameters
    ----------
    run
        A finished run.
    out
        Folder of the new run.
    """
    from stainglass.cli.stages import make_from_finished, refuse_no_run
    from stainglass.errors import StainglassError
    from stainglass.recipe_files import load_recipe
    from stainglass.training.distil import refuse_other_steps
    from stainglass.training.from_finished import selecting_generator

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)
    if plan.sampling.candidates < 2:
        raise StainglassError(
            "sampling.candidates", "is 1, so there would be nothing to select from",
            "Set it: --set sampling.candidates=3",
        )  # fmt: skip

    def prepare(opened: Cohort, split: Split, generator: TissuePipeline) -> Callable[[], object]:
        refuse_other_steps(generator, plan.sampling, run)
        return lambda: selecting_generator(opened, split, plan, generator, out)

    make_from_finished(run, out, cohort, plan, prepare)
