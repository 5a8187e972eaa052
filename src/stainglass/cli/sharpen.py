"""``stainglass sharpen``."""

from __future__ import annotations

from pathlib import Path

from stainglass.cli.common import Sets, print_result, say_next
from stainglass.cli.finished import CohortPath


def sharpen(run: Path, *, out: Path, cohort: CohortPath = None, sets: Sets = ()) -> None:
    """Give a run's generator a decoder that paints finer detail; everything else stays as it is.

    Latents are not touched, so a distilled generator needs no new distillation (settings: the recipe's ``train_autoencoder``,
    of which sharpen_steps must be above zero, and ``autoencoder.decoder_widths`` for a larger decoder). It is a run of its own:
    evaluate it as any other, beside the one it came from.

    For instance::

        stainglass sharpen runs/breast --out runs/breast_finer --set train_autoencoder.sharpen_steps=4000
        stainglass evaluate runs/breast_finer --cohort runs/breast/cohort

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
    from stainglass.training.from_finished import require_sharpening, sharpened_generator

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)
    opened = Cohort.open(cohort or run / "cohort")
    refuse_another_run(plan, str(run), out)
    if not (out / "generator" / FACTS_FILE).is_file():
        generator, split = TissuePipeline.from_pretrained(run / "generator"), opened.split(plan.split.name)
        require_sharpening(generator, opened, split, plan)
        write_recipe(plan, out / "recipe.yaml")
        write_provenance(out, plan, data=str(run))
        sharpened_generator(opened, split, plan, str(run), generator, out)
    say_next(f"stainglass evaluate {out} --cohort {opened.path}")
    print_result(out / "generator")
