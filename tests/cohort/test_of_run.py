"""A run finds its cohort: in its folder, or where it was trained from."""

import json
import shutil
from pathlib import Path

import pytest

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.of_run import as_noted, cohort_folder, open_cohort
from stainglass.errors import StainglassError


@pytest.fixture
def run(tmp_path: Path, cohort: Cohort) -> Path:
    shutil.copytree(cohort.path, tmp_path / "place" / "cohort")
    run = tmp_path / "place" / "runs" / "one"
    run.mkdir(parents=True)
    noted = as_noted(tmp_path / "place" / "cohort", run)
    (run / "provenance.json").write_text(json.dumps({"cohort": noted}))
    return run


def test_a_run_knows_what_it_was_trained_on_wherever_both_are_moved(
    run: Path, tmp_path: Path, cohort: Cohort
) -> None:
    assert open_cohort(run).patients == cohort.patients
    shutil.move(tmp_path / "place", tmp_path / "elsewhere")
    assert open_cohort(tmp_path / "elsewhere" / "runs" / "one").path == tmp_path / "elsewhere" / "cohort"


def test_its_own_comes_first_and_one_that_is_named_before_all(
    run: Path, tmp_path: Path, cohort: Cohort
) -> None:
    shutil.copytree(cohort.path, run / "cohort")
    assert cohort_folder(run) == run / "cohort"
    assert open_cohort(run, cohort.path).path == cohort.path


@pytest.mark.parametrize("provenance", [None, "{}", '{"cohort": "gone"}', '{"cohort": 3}', "[]", "broken"])
def test_no_cohort(provenance: str | None, tmp_path: Path) -> None:
    if provenance is not None:
        (tmp_path / "provenance.json").write_text(provenance)
    with pytest.raises(StainglassError, match="no prepared cohort of this run") as refused:
        open_cohort(tmp_path)
    assert "--cohort" in refused.value.remedy
