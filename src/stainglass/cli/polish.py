"""``stainglass polish``."""

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


def polish(run: Path, *, out: Path, cohort: CohortPath = None, sets: Sets = ()) -> None:
    """Hold a few-step generator's pictures against tissue, in the eyes of frozen networks: crisp nuclei instead of haze.

    Its denoiser walks the whole way to the picture and learns from what the eyes see there (settings: the recipe's ``polish``, of
    which ``eyes`` must name folders of tiny autoencoders such as taesd3). It is a run of its own: evaluate it as any other,
    beside the one it came from. The eyes took part in training, so they never judge.

    For instance::

        stainglass polish runs/breast_few --out runs/breast_polished --set "polish.eyes=[weights/taesd3, weights/taesd]"
        stainglass evaluate runs/breast_polished --cohort runs/breast_few/cohort

    Parameters
    ----------
    run
        A finished run of ``stainglass distil``, or made from one.
    out
        Folder of the new run; an interrupted one goes on.
    """
    from stainglass.cli.stages import make_from_finished, refuse_no_run
    from stainglass.recipe_files import load_recipe
    from stainglass.training.from_finished import polished_generator
    from stainglass.training.polish import load_eyes, refuse_unpolishable

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)

    def prepare(opened: Cohort, split: Split, generator: TissuePipeline) -> Callable[[], object]:
        refuse_unpolishable(generator, plan.sampling, run)
        eyes = load_eyes(plan.polish)
        return lambda: polished_generator(opened, split, plan, str(run), generator, eyes, out)

    make_from_finished(run, out, cohort, plan, prepare)
