"""``stainglass ablate``: variants of a recipe, trained and judged on one cohort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import DryRun, Sets, print_result, say_next, write_provenance
from stainglass.cli.run import data_of
from stainglass.progress import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stainglass.cohort.cohort import Cohort
    from stainglass.cohort.splits import Split
    from stainglass.config import Recipe
    from stainglass.evaluation.card import Card


def ablate(
    recipe: str,
    *,
    out: Path,
    data: Annotated[
        Path | None, Parameter(help="Folder or manifest of sections; without it the recipe simulates.")
    ] = None,
    preset: Annotated[str | None, Parameter(help="One of the recipe's presets.")] = None,
    sets: Sets = (),
    dry_run: DryRun = False,
) -> None:
    """Train and judge every variant of a recipe on one cohort and one autoencoder: the ablation table.

    A variant that is finished in --out is not done again. Writes OUT/ablation.md and ablation.json.

    For instance::

        stainglass ablate recipes/crc_ablation.yaml --out runs/ablation

    Parameters
    ----------
    recipe
        A recipe with ``ablation.variants``.
    out
        Folder of the ablation; every training is a run under OUT/variants.
    """
    from stainglass.recipe_files import load_recipe, variants_of

    plan = load_recipe(recipe, preset, sets)
    source = data_of(plan, data)
    if source is not None:
        plan = plan.on(source.resolve().name)
    variants = variants_of(plan)
    if dry_run:
        from stainglass.cli.estimate import tell_ablation

        tell_ablation(variants, out)
        return
    from stainglass.cli.stages import prepared, refuse_other_data
    from stainglass.evaluation.ablation import Ablation

    _refuse_unjudged(variants)
    _refuse_incomparable(plan, variants)
    refuse_other_data(str(source or "simulated"), out)
    _refuse_another_ablation(plan, out)
    cohort, split = prepared(plan, source, out)
    folder = _shared_autoencoder(cohort, split, plan, out)
    cards: dict[str, list[Card]] = {}
    for name, variant in variants.items():
        for seed in variant.ablation.training_seeds:
            place = out / "variants" / name / f"seed-{seed}"
            console.rule(f"{name}, training seed {seed}", align="left")
            cards.setdefault(name, []).append(_judged(cohort, split, variant, seed, folder, place))
            tried = {path.name for path in (out / "variants").iterdir()}
            path = Ablation.of(plan.title or plan.name, cards, sorted(tried - set(variants))).write(out)
    print(path.read_text(encoding="utf-8"))
    say_next(f"look at {path}; every training is a run: stainglass report {out}/variants/…")
    print_result(path)


def _refuse_unjudged(variants: Mapping[str, Recipe]) -> None:
    """A variant whose training uses the only network that could judge it is told of before hours of training."""
    from stainglass.errors import StainglassError
    from stainglass.models.features import EfficientNetLite0

    for name, variant in variants.items():
        evaluation = variant.evaluation
        others = evaluation.lpips_weights or evaluation.inception_weights
        if variant.train_denoiser.representation > 0 and not others:
            raise StainglassError(
                f"variant {name}", f"{EfficientNetLite0.name} takes part in its training and no other judge's weights are given",
                "Set evaluation.lpips_weights to the file with LPIPS weights",
            )  # fmt: skip


def _refuse_incomparable(plan: Recipe, variants: Mapping[str, Recipe]) -> None:
    """A variant that is judged on other windows, under other noise or another split has no place in one table with the rest."""
    from stainglass.errors import StainglassError

    for name, variant in variants.items():
        pairs = {
            "split": (plan.split, variant.split),
            **{
                f"evaluation.{key}": (getattr(plan.evaluation, key), getattr(variant.evaluation, key))
                for key in ("windows", "noise_seeds", "part")
            },
            # One cohort and one autoencoder serve all variants: what is set here would not be heard.
            **{
                key: (getattr(plan, key), getattr(variant, key))
                for key in ("prepare", "simulate", "autoencoder", "train_autoencoder")
            },
        }
        if differs := [key for key, (one, other) in pairs.items() if one != other]:
            raise StainglassError(
                f"variant {name}", f"has another {', '.join(differs)} than the recipe, so it cannot be compared",
                "Set it for the whole recipe",
            )  # fmt: skip


def _refuse_another_ablation(plan: Recipe, out: Path) -> None:
    """Variants may be added to an ablation; all else stays, or its autoencoder and its cards would be of several recipes."""
    from stainglass.config import Ablation
    from stainglass.errors import StainglassError
    from stainglass.recipe_files import load_recipe

    path, bare = out / "recipe.yaml", {"ablation": Ablation()}
    if path.is_file() and load_recipe(path).model_copy(update=bare) != plan.model_copy(update=bare):
        raise StainglassError(
            out, "holds an ablation with other settings", "Choose another --out, or delete it"
        )


def _shared_autoencoder(cohort: Cohort, split: Split, plan: Recipe, out: Path) -> str | None:
    """Folder of the one autoencoder all variants paint in; None where the recipe names it (or a checkpoint brings it)."""
    if plan.autoencoder.folder is not None or plan.denoiser.source is not None or plan.start is not None:
        return plan.autoencoder.folder
    from stainglass.training.autoencoder import train_autoencoder

    train_autoencoder(cohort, split, plan, out / "autoencoder")
    return str((out / "autoencoder" / "model").resolve())


def _judged(
    cohort: Cohort, split: Split, variant: Recipe, seed: int, autoencoder: str | None, place: Path
) -> Card:
    """Train a variant with one seed, judge it, and read its card; what is there is not done again."""
    from stainglass.cli.judge import judge_run
    from stainglass.cli.stages import refuse_another_run
    from stainglass.cohort.of_run import as_noted
    from stainglass.config import Ablation
    from stainglass.evaluation.card import Card
    from stainglass.recipe_files import write_recipe
    from stainglass.training.stages import train_generator

    loop = variant.train_denoiser.model_copy(update={"seed": seed})
    latents = variant.autoencoder.model_copy(update={"folder": autoencoder})
    alone = {"train_denoiser": loop, "autoencoder": latents, "ablation": Ablation()}
    plan = variant.model_copy(update=alone)
    refuse_another_run(plan, str(cohort.path), place)
    write_recipe(plan, place / "recipe.yaml")
    write_provenance(place, plan, data=str(cohort.path), cohort=as_noted(cohort.path, place))
    train_generator(cohort, split, plan, place, plan.data)
    path = place / "evaluation" / "card.json"
    return Card.read(path) if path.is_file() else judge_run(place, cohort, plan)
