"""What must not happen quietly between two commands."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stainglass.cli.judge import judge_run
from stainglass.cli.stages import refuse_another_run
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.cohort.splits import Split, write_split
from stainglass.config import Prepare, Windows
from stainglass.config import Split as SplitSettings
from stainglass.errors import StainglassError
from stainglass.files import write_json
from stainglass.recipe_files import load_recipe, write_recipe
from stainglass.sections import read_sections
from stainglass.training.stages import train_generator

SMALL = Path(__file__).parents[1] / "small.yaml"


@pytest.fixture
def copied(cohort: Cohort, tmp_path: Path) -> Cohort:
    """A copy of the cohort whose splits may be spoiled."""
    shutil.copytree(cohort.path, tmp_path / "cohort")
    return Cohort.open(tmp_path / "cohort")


def test_a_section_the_generator_saw_is_not_judged(copied: Cohort, run_folder: Path) -> None:
    before = copied.split()
    write_split(Split("default", before.test, before.validation, before.train), copied.path / "splits")
    with pytest.raises(StainglassError, match="which the generator was trained on"):
        judge_run(run_folder, copied, load_recipe(SMALL))


def test_a_split_is_drawn_once(copied: Cohort) -> None:
    before = copied.split()
    assert prepare_split(copied, SplitSettings(), seed=12345) == before
    named = SplitSettings(train=before.test, test=before.train)
    assert prepare_split(copied, named, seed=0).train == before.test


def test_a_split_of_another_making_is_not_taken_for_the_one_that_is_asked_for(
    copied: Cohort, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied.path / "splits" / "default.json"
    path.unlink()
    drawn = prepare_split(copied, SplitSettings(), seed=0)
    capsys.readouterr()
    assert prepare_split(copied, SplitSettings(held_out_share=0.4, kind="random"), seed=0) == drawn
    assert "is kept" not in capsys.readouterr().err
    assert prepare_split(copied, SplitSettings(held_out_share=0.7), seed=0) == drawn
    assert "holds 1 of 3 patients out, not 2; delete" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(StainglassError, match="kind=random, not spatial-blocks") as refused:
        prepare_split(copied, SplitSettings(kind="spatial-blocks"), seed=0, windows=Windows())
    assert "Delete it" in refused.value.remedy
    assert copied.split() == drawn


def test_blocks_are_not_cut_before_windows_are_known(copied: Cohort) -> None:
    (copied.path / "splits" / "default.json").unlink()
    with pytest.raises(StainglassError, match="as far apart as a model's windows need"):
        prepare_split(copied, SplitSettings(kind="spatial-blocks"), seed=0)
    assert not (copied.path / "splits" / "default.json").exists()


def test_a_run_that_was_cut_short_goes_on_at_its_scale(simulated: Path, tmp_path: Path) -> None:
    sources = read_sections(simulated)
    bad = [sources[0], type(sources[1])(sources[1].id, sources[1].patient, {}, lambda: 1 / 0)]  # type: ignore[arg-type, return-value]
    prepare_cohort(sources[:1], tmp_path / "c", Prepare(mpp=1.0))
    with pytest.raises(ZeroDivisionError):
        prepare_cohort(bad, tmp_path / "c")
    with pytest.raises(StainglassError, match=r"has 1 µm/px, not 0\.75"):
        prepare_cohort(sources, tmp_path / "c", Prepare(mpp=0.75))
    assert prepare_cohort(sources[:2], tmp_path / "c").mpp == 1.0


def test_a_corrected_patient_is_not_ignored(simulated: Path, tmp_path: Path) -> None:
    source = read_sections(simulated)[0]
    other = replace(source, patient="X", reader=lambda: replace(source.reader(), patient="X"))
    prepare_cohort([other], tmp_path / "named", Prepare(mpp=1.0))
    with pytest.raises(
        StainglassError, match="was prepared as patient X"
    ):  # it is now named as the section is
        prepare_cohort([source], tmp_path / "named", Prepare(mpp=1.0))
    prepare_cohort([source], tmp_path, Prepare(mpp=1.0))
    renamed = type(source)(source.id, "someone else", {}, source.reader)
    with pytest.raises(StainglassError, match="now it is someone else"):
        prepare_cohort([renamed], tmp_path)


def test_a_finished_generator_is_not_passed_off_as_anothers(copied: Cohort, run_folder: Path) -> None:
    split = copied.split()
    other = Split("default", split.test, (), split.train)
    with pytest.raises(StainglassError, match="trained on other sections"):
        train_generator(copied, other, load_recipe(SMALL), run_folder)


def test_a_run_keeps_its_data(tmp_path: Path) -> None:
    recipe = load_recipe(SMALL)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    write_json(tmp_path / "provenance.json", {"data": "here"})
    refuse_another_run(recipe, "here", tmp_path)
    with pytest.raises(StainglassError, match="other data than there"):
        refuse_another_run(recipe, "there", tmp_path)
