import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.folds import make_folds, strata_of
from stainglass.cohort.prepare_split import prepare_split
from stainglass.config import Recipe, Split
from stainglass.errors import StainglassError
from stainglass.recipe_files import recipe_from_sets
from verbs import call


@given(st.integers(2, 15), st.integers(1, 3), st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_every_patient_is_held_out_once_and_never_trained_on(
    patients: int, each: int, folds: int, sites: int, seed: int
) -> None:
    table = {f"P{p}S{s}": f"P{p}" for p in range(patients) for s in range(each)}
    strata = {f"P{p}": f"site{p * 7 % sites}" for p in range(patients)}
    settings = Split(kind="k-fold", folds=min(folds, patients))
    made = make_folds(table, strata, settings, seed, "cohort")
    assert Counter(s for fold in made for s in fold.test) == Counter(dict.fromkeys(table, 1))
    for fold in made:
        fold.check(table, "cohort")
        assert set(fold.train) | set(fold.test) == set(table)
        assert not fold.validation
    held = [{table[s] for s in fold.test} for fold in made]
    assert max(map(len, held)) - min(map(len, held)) <= 1
    for site in set(strata.values()):
        shares = [sum(strata[p] == site for p in fold) for fold in held]
        assert max(shares) - min(shares) <= 1


def test_folds_depend_on_the_seed_and_leaving_one_out_does_not() -> None:
    table = {f"P{p}": f"P{p}" for p in range(9)}
    five = Split(kind="k-fold", folds=3)
    assert make_folds(table, {}, five, 0, "c") == make_folds(table, {}, five, 0, "c")
    assert make_folds(table, {}, five, 0, "c") != make_folds(table, {}, five, 1, "c")
    alone = make_folds(table, {}, Split(kind="leave-one-patient-out"), 5, "c")
    assert [fold.test for fold in alone] == [(f"P{p}",) for p in range(9)]
    assert alone[8].name == "left-out-8"


def test_a_patient_of_several_sites_is_a_stratum_of_its_own() -> None:
    patients = {"a": "P1", "b": "P1", "c": "P2"}
    groups = {"a": {"site": "colon"}, "b": {"site": "liver"}, "c": {"site": "colon"}}
    assert strata_of(patients, groups, Split(), "c") == {"P1": "colon + liver", "P2": "colon"}
    assert strata_of(patients, {name: {} for name in patients}, Split(), "c") == {}
    assert strata_of(patients, groups, Split(stratify=None), "c") == {}
    with pytest.raises(StainglassError, match=r"no section has a 'sex'.*one of: site"):
        strata_of(patients, groups, Split(stratify="sex"), "c")


@pytest.mark.parametrize(
    ("patients", "settings", "words"),
    [
        (3, Split(kind="k-fold"), r"3 patients are too few for 5 folds\. Set split.folds to 3"),
        (1, Split(kind="k-fold", folds=2), r"one patient is too few.*Add sections of another patient"),
        (1, Split(kind="leave-one-patient-out"), r"one patient is too few for folds"),
    ],
)
def test_too_few_patients_are_one_line(patients: int, settings: Split, words: str) -> None:
    with pytest.raises(StainglassError, match=words):
        make_folds({f"P{p}": f"P{p}" for p in range(patients)}, {}, settings, 0, "cohort")


def test_a_fold_names_its_file_wherever_the_recipe_is_read() -> None:
    plan = recipe_from_sets("r", ("split.kind=k-fold", "split.folds=3", "split.fold=1"))
    assert plan.split.name == "fold-1-of-3"
    assert Recipe.model_validate(plan.model_dump(mode="json")) == plan
    assert Split(train=("a",)).name == "default"


@pytest.fixture
def copied(cohort: Cohort, tmp_path: Path) -> Cohort:
    """The three patients, to write splits beside."""
    shutil.copytree(cohort.path, tmp_path / "cohort")
    return Cohort.open(tmp_path / "cohort")


def test_folds_are_written_together_and_kept_together(copied: Cohort) -> None:
    settings = Split(kind="k-fold", folds=3, fold=2)
    asked = prepare_split(copied, settings, seed=0)
    folder = copied.path / "splits"
    assert sorted(p.stem for p in folder.glob("fold-*")) == [f"fold-{i}-of-3" for i in range(3)]
    assert copied.split(settings.name) == asked
    (folder / "fold-0-of-3.json").unlink()
    assert prepare_split(copied, settings, seed=0) == asked
    assert (folder / "fold-0-of-3.json").is_file()
    tree = json.loads((folder / "fold-1-of-3.json").read_text())
    tree["train"], tree["test"] = tree["train"][:1], tree["train"][1:]
    (folder / "fold-1-of-3.json").write_text(json.dumps(tree))
    with pytest.raises(StainglassError, match=r"another seed.*fold-\*\.json"):
        prepare_split(copied, settings, seed=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Split(kind="k-fold", folds=3, fold=3), "there are 3 folds. Choose one from 0 to 2"),
        (Split(kind="random", train=("P1",)), "sections are named under split"),
        (Split(kind="leave-one-patient-out", test=("P1",)), "sections are named under split"),
        (Split(kind="fixed"), "no section is named"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(copied: Cohort, settings: Split, words: str) -> None:
    with pytest.raises(StainglassError, match=words):
        prepare_split(copied, settings, seed=0)


def test_the_verb_deals_folds(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, copied: Cohort, simulated: Path
) -> None:
    words = ("prepare", simulated, "--out", copied.path, "--set", "split.kind=leave-one-patient-out")
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert [copied.split(f"left-out-{i}").test for i in range(3)] == [("P1",), ("P2",), ("P3",)]
