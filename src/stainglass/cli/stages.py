"""The stages of a run, in order; each leaves its result in the run's folder and is skipped when it is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from stainglass.cli.alignment import examine
from stainglass.cli.analyse import analyse_run, embed_run
from stainglass.cli.common import print_result, say_next, write_provenance
from stainglass.cli.judge import judge_run
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.expression import add_expression
from stainglass.cohort.of_run import as_noted, open_cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, sha256_of
from stainglass.models.facts import FACTS_FILE
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import console
from stainglass.recipe_files import load_recipe, write_recipe
from stainglass.report.page import write_report
from stainglass.sections import read_sections, simulate_cohort
from stainglass.synthesis.generator import Generator
from stainglass.training.from_finished import refuse_other_tissue
from stainglass.training.processes import by_the_first
from stainglass.training.stages import train_generator

OF_A_RUN = ("recipe.yaml", "provenance.json", "timing.json", "checkpoint.json", "simulated", "cohort", "autoencoder",
            "denoiser", "distil", "polish", "generator", "generated", "clip", "embeddings", "evaluation", "analysis",
            "report.html")  # fmt: skip
CLIP = Path("clip") / "model"
SHOWN = 36
"""Patches written as files: the first windows, uncurated."""


def run_stages(plan: Recipe, source: Path | None, out: Path, preset: str | None = None) -> Path:
    """Do what is missing of a run; returns the report's path.

    Parameters
    ----------
    source
        Folder or manifest of sections; None simulates.
    """
    stages = _names(plan)
    _say(stages, "sections and cohort")
    cohort, split = prepared(plan, source, out, preset)
    _say(stages, "training")
    train_generator(cohort, split, plan, out, plan.data)
    if plan.clip is not None:
        _say(stages, "alignment")
        if not (out / "clip" / "alignment.json").is_file():
            examine(out, cohort, plan)
        embed_run(out, cohort)
    _say(stages, "generation")
    if not (out / "generated" / "patches.csv").is_file():
        generator = Generator.from_pretrained(out / "generator")
        sampling = plan.sampling
        settings = SamplerSettings.of(sampling)
        held_out = split.part(plan.evaluation.part)
        order = generator.order_cohort(cohort, held_out, SHOWN, seed=sampling.seed, settings=settings)
        generator.paint_into(order, out / "generated", batch=sampling.batch)
    _say(stages, "evaluation")
    if not (out / "evaluation" / "card.json").is_file():
        judge_run(out, cohort, plan)
    if plan.analysis.steps:
        _say(stages, "analysis")
        analyse_run(out, cohort, plan)
    _say(stages, "report")
    return write_report(out)


def prepared(plan: Recipe, source: Path | None, out: Path, preset: str | None = None) -> tuple[Cohort, Split]:
    """Simulate or read the sections, put them on one cohort, split it; what is there is kept."""
    write_recipe(plan, out / "recipe.yaml")
    manifest = source if source is not None else _simulated(plan, out / "simulated")
    cohort = prepare_cohort(read_sections(manifest), out / "cohort", plan.prepare)
    if plan.prepare.expression is not None:
        add_expression(Path(plan.prepare.expression), cohort.path)
    split = prepare_split(cohort, plan.split, plan.seed, plan.windows)
    hashes = {name: sha256_of(section.path / "record.json") for name, section in cohort.sections.items()}
    write_provenance(out, plan, preset=preset, data=str(source or "simulated"), section_records=hashes)
    parts = {part: ", ".join(split.part(part)) or "–" for part in ("train", "validation", "test")}
    console.print("  " + "; ".join(f"{part} {names}" for part, names in parts.items()), highlight=False)
    return cohort, split


def _names(plan: Recipe) -> list[str]:
    """The stages this recipe has."""
    aligned, analysed = plan.clip is not None, bool(plan.analysis.steps)
    return [
        *("sections and cohort", "training"),
        *(["alignment"] if aligned else []),
        *("generation", "evaluation"),
        *(["analysis"] if analysed else []),
        "report",
    ]


def _say(stages: list[str], name: str) -> None:
    console.rule(f"{stages.index(name) + 1}/{len(stages)} {name}", align="left")


def _simulated(plan: Recipe, folder: Path) -> Path:
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    if plan.simulate is None:
        raise StainglassError(
            f"recipe {plan.name}", "needs data and simulates none", "Pass --data FOLDER_OR_MANIFEST"
        )
    s = plan.simulate
    return simulate_cohort(folder, s.tissue, s.patients, s.size_um, s.mpp, plan.seed)


def refuse_no_run(run: Path, out: Path) -> None:
    """Refuse what is no finished run, or to write a new one over it.

    Raises
    ------
    StainglassError
        When it has no recipe or no generator, or ``out`` is the same folder.
    """
    if not (run / "recipe.yaml").is_file():
        raise StainglassError(
            run, "no recipe.yaml, so this is no run", "Give the folder that 'stainglass train' wrote"
        )
    if not (run / "generator" / "model_index.json").is_file():
        raise StainglassError(run, "has no finished generator", "Let 'stainglass train' end first")
    if out.resolve() == run.resolve():
        raise StainglassError(
            out, "is the run itself, which a new one would overwrite", "Choose another --out"
        )


def make_from_finished(
    run: Path,
    out: Path,
    cohort: Path | None,
    plan: Recipe,
    prepare: Callable[[Cohort, Split, TissuePipeline], Callable[[], object]],
) -> None:
    """A new run from a finished run's generator; what is finished is not done again.

    Parameters
    ----------
    cohort
        By default the finished run's own.
    prepare
        Refuses what cannot be made, before anything is written, and returns what makes it.
    """
    opened = open_cohort(run, cohort)
    refuse_another_run(plan, str(run), out)
    if not (out / "generator" / FACTS_FILE).is_file():
        generator, split = TissuePipeline.from_pretrained(run / "generator"), opened.split(plan.split.name)
        refuse_other_tissue(
            generator, opened, split
        )  # again when it is made; here, before anything is written
        if plan.clip is not None and not (run / CLIP).is_dir():
            raise StainglassError(
                run / CLIP,
                "no CLIP in this run",
                "Copy it here from the run it was made from, or --set clip=null",
            )
        make = prepare(opened, split, generator)
        write_recipe(plan, out / "recipe.yaml")
        write_provenance(out, plan, data=str(run), cohort=as_noted(opened.path, out))
        if plan.clip is not None:
            # The CLIP that it began with, by which its card tells alignment.
            by_the_first(lambda: _copied(run / CLIP, out / CLIP))
        make()
    say_next(f"stainglass evaluate {out}")
    print_result(out / "generator")


def _copied(folder: Path, to: Path) -> None:
    with atomic_path(to) as temporary:
        shutil.copytree(folder, temporary)


def refuse_another_run(plan: Recipe, data: str, out: Path) -> None:
    """A folder that holds a run with other settings or data is not gone on with: the result would be neither."""
    path = out / "recipe.yaml"
    remedy = "Choose another --out, or delete the run (stainglass run has --fresh)"
    if path.is_file() and load_recipe(path) != plan:  # settings that came since have their defaults there
        raise StainglassError(out, "holds a run with other settings", remedy)
    refuse_other_data(data, out)


def refuse_other_data(data: str, out: Path) -> None:
    """A folder that holds a run on other data is not gone on with."""
    remedy = "Choose another --out, or delete the run (stainglass run has --fresh)"
    provenance = out / "provenance.json"
    if provenance.is_file() and read_json(provenance, "provenance").get("data") != data:
        raise StainglassError(out, f"holds a run on other data than {data}", remedy)


def clear_run(out: Path) -> None:
    """Delete what a run writes, and nothing else, so that a wrong --out harms nobody."""
    for name in OF_A_RUN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
