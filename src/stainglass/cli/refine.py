"""``stainglass refine``."""

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


def refine(run: Path, *, out: Path, cohort: CohortPath = None, sets: Sets = ()) -> None:
    """Draw over what a generator's decoder leaves: the fine detail of a scan, which latents do not tell.

    A small network behind the decoder is taught by frozen eyes (settings: the recipe's ``refine``, of which ``eyes`` must name
    folders of tiny autoencoders such as taesd3); everything else stays as it is. It is a run of its own: evaluate it as any
    other, beside the one it came from. The eyes took part in training, so they never judge.

    For instance::

        stainglass refine runs/breast_polished --out runs/breast_refined --set "refine.eyes=[weights/taesd3, weights/taesd]"
        stainglass evaluate runs/breast_refined --cohort runs/breast/cohort

    Parameters
    ----------
    run
        A finished run, of few steps or many.
    out
        Folder of the new run; an interrupted one goes on.
    """
    from stainglass.cli.stages import make_from_finished, refuse_no_run
    from stainglass.recipe_files import load_recipe
    from stainglass.training.from_finished import refined_generator
    from stainglass.training.looks import load_eyes
    from stainglass.training.refine import require_refining

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)

    def prepare(opened: Cohort, split: Split, generator: TissuePipeline) -> Callable[[], object]:
        require_refining(generator, run)
        eyes = load_eyes(plan.refine.eyes, "refine")
        return lambda: refined_generator(opened, split, plan, str(run), generator, eyes, out)

    make_from_finished(run, out, cohort, plan, prepare)
