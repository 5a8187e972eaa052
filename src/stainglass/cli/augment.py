"""``stainglass augment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next
from stainglass.cli.finished import CohortPath, open_run

if TYPE_CHECKING:
    from stainglass.synthesis.augment import PatchFolder


def augment(
    run: Path,
    *,
    out: Path,
    n: Annotated[int, Parameter(help="This many patches.")] = 1000,
    balance: Annotated[
        tuple[str, ...],
        Parameter(
            help="classes, patients, or a group of the cohort's sections (site, …); may be given several times.",
            negative="",
            consume_multiple=False,
        ),
    ] = (),
    by: Annotated[
        Literal["markers", "compartments"], Parameter(help="What the spots' expression is called as.")
    ] = "markers",
    classes: Annotated[
        tuple[str, ...],
        Parameter(help="Classes to paint; by default those the training tissue shows.", negative=""),
    ] = (),
    labels: Annotated[
        Path | None,
        Parameter(
            help="A pathologist's labels instead: TSV per spot, or GeoJSON from QuPath (docs/analysis.md)."
        ),
    ] = None,
    sections: Annotated[
        tuple[str, ...],
        Parameter(
            name="--section",
            help="A training section's id; may be given several times. All by default.",
            negative="",
            consume_multiple=False,
        ),
    ] = (),
    repeats: Annotated[int, Parameter(help="Paint a spot at most this often, each time in other noise.")] = 8,
    seed: Annotated[int, Parameter(help="Of the choice of spots, and the first noise seed.")] = 0,
    cohort: CohortPath = None,
    dry_run: DryRun = False,
) -> None:
    """Paint labelled patches for a downstream classifier, balanced over classes and patients when asked.

    Painted from training sections only: a classifier may be tested on what the run holds out. Writes
    OUT/CLASS/PATCH.png, labels.csv and provenance.json; run again, it goes on, and a larger --n adds to it.

    For instance::

        stainglass augment runs/crc --out patches --n 2000 --balance classes --balance patients

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml and generator/.
    out
        Folder for the patches; one subfolder a class, as torchvision, keras and fastai read it.
    """
    from stainglass.analysis.label_spots import label_spots
    from stainglass.cli.common import provenance_of
    from stainglass.errors import StainglassError
    from stainglass.synthesis.augment import PatchFolder, painting_of, refuse_another_scale
    from stainglass.synthesis.patch_plan import paintable_sections, plan_patches

    for name, value in (("--n", n), ("--repeats", repeats)):
        if value < 1:
            raise StainglassError(name, f"{value} is not possible", "Give a whole number from 1 on")
    recipe, opened, generator, settings, _ = open_run(run, cohort, sections)
    refuse_another_scale(opened, generator.facts)
    split = opened.split(recipe.split.name)
    known = paintable_sections(opened, split, generator.facts)
    wanted = paintable_sections(opened, split, generator.facts, sections)
    spots = label_spots(opened, wanted, known, generator.facts.window_px, by, classes, labels)
    plan = plan_patches(spots, n, balance, repeats, seed)
    painting = painting_of(run / "generator", settings, opened, spots, seed)
    folder = PatchFolder(out, spots, plan, seed, painting)
    _tell(folder, sorted({opened.patients[name] for name in wanted} & set(split.shared_patients)))
    if dry_run:
        from stainglass.cli.estimate import tell_painting

        tell_painting(generator.pipeline, len(folder.missing), settings, recipe.sampling.batch, out)
        return
    table = folder.paint(opened, generator, settings, recipe.sampling.batch, provenance_of(recipe))
    say_next(
        f"train a classifier on {out}, and test it on real tissue of {', '.join((*split.validation, *split.test))}"
    )
    print_result(table)


def _tell(folder: PatchFolder, shared: list[str]) -> None:
    """What will be painted, and what could not be planned as asked."""
    from stainglass.progress import console

    counts = folder.counts()
    for name, row in counts.iterrows():
        by_patient = ", ".join(f"{patient} {count}" for patient, count in row.items())
        console.print(f"  {name}: {row.sum()} patches ({by_patient})", highlight=False, markup=False)
    notes = list(folder.plan.notes)
    if shared:
        notes.append(
            f"Patient {', '.join(shared)} is held out too: a test on that tissue is no patient generalisation."
        )
    for note in notes:
        console.print(f"  note: {note}", highlight=False, markup=False, soft_wrap=True)
