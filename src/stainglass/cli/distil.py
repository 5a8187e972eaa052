"""``stainglass distil``."""

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


def distil(run: Path, *, out: Path, cohort: CohortPath = None, sets: Sets = ()) -> None:
    """Train a generator that needs four steps from a run's, which may need thirty.

    The new one begins as the old one and learns to go in one step where that goes by many, guidance included (settings: the
    recipe's ``distil``). It is a run of its own: evaluate it as any other, beside the one it came from.

    For instance::

        stainglass distil runs/breast --out runs/breast_few
        stainglass evaluate runs/breast_few --cohort runs/breast/cohort

    Parameters
    ----------
    run
        A finished run.
    out
        Folder of the new run; an interrupted one goes on.
    """
    from stainglass.cli.stages import make_from_finished, refuse_no_run
    from stainglass.recipe_files import load_recipe
    from stainglass.training.distil import (
        few_step_sampling,
        load_guide,
        refuse_between_levels,
        refuse_foreign,
    )
    from stainglass.training.from_finished import distilled_generator

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)
    plan = plan.model_copy(update={"sampling": few_step_sampling(plan.sampling, plan.distil)})

    def prepare(opened: Cohort, split: Split, teacher: TissuePipeline) -> Callable[[], object]:
        assert teacher.facts is not None
        refuse_foreign(teacher)
        refuse_between_levels(teacher.facts, plan.distil, run)
        guide = load_guide(opened, split, plan.distil, teacher.facts)
        return lambda: distilled_generator(opened, split, plan, teacher, out, guide)

    make_from_finished(run, out, cohort, plan, prepare)
