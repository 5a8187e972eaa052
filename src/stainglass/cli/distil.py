"""``stainglass distil``."""

from __future__ import annotations

from pathlib import Path

from stainglass.cli.common import Sets, print_result, say_next
from stainglass.cli.finished import CohortPath


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
    from stainglass.cli.common import write_provenance
    from stainglass.cli.stages import refuse_another_run, refuse_no_run
    from stainglass.cohort.cohort import Cohort
    from stainglass.models.pipeline import FACTS_FILE, TissuePipeline
    from stainglass.recipe_files import load_recipe, write_recipe
    from stainglass.training.distil import few_step_sampling, load_guide, refuse_foreign
    from stainglass.training.from_finished import distilled_generator

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)
    plan = plan.model_copy(update={"sampling": few_step_sampling(plan.sampling, plan.distil)})
    opened = Cohort.open(cohort or run / "cohort")
    refuse_another_run(plan, str(run), out)
    if not (out / "generator" / FACTS_FILE).is_file():
        teacher, split = TissuePipeline.from_pretrained(run / "generator"), opened.split(plan.split.name)
        assert teacher.facts is not None
        refuse_foreign(teacher)
        guide = load_guide(opened, split, plan.distil, teacher.facts)
        write_recipe(plan, out / "recipe.yaml")
        write_provenance(out, plan, data=str(run))
        distilled_generator(opened, split, plan, teacher, out, guide)
    say_next(f"stainglass evaluate {out} --cohort {opened.path}")
    print_result(out / "generator")
