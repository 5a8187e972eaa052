"""``stainglass sharpen``."""

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
    from stainglass.cli.stages import make_from_finished, refuse_no_run
    from stainglass.recipe_files import load_recipe
    from stainglass.training.distil import refuse_other_steps
    from stainglass.training.from_finished import require_sharpening, sharpened_generator

    refuse_no_run(run, out)
    plan = load_recipe(run / "recipe.yaml", sets=sets)

    def prepare(opened: Cohort, split: Split, generator: TissuePipeline) -> Callable[[], object]:
        refuse_other_steps(generator, plan.sampling, run)
        require_sharpening(generator, plan)
        return lambda: sharpened_generator(opened, split, plan, str(run), generator, out)

    make_from_finished(run, out, cohort, plan, prepare)
