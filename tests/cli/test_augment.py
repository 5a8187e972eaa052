"""`stainglass augment` as a user meets it, on a run that was trained for four steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split, write_split
from stainglass.evaluation.card import TRAINING_SETS, Card
from stainglass.recipe_files import write_recipe
from stainglass.synthesis.augment import hash_of
from stainglass.synthesis.stamp import read_stamp
from verbs import bad, call


@pytest.fixture(scope="module")
def run(run_folder: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own: generator and cohort."""
    folder = tmp_path_factory.mktemp("augmented") / "run"
    shutil.copytree(run_folder / "generator", folder / "generator")
    shutil.copytree(cohort.path, folder / "cohort")
    write_recipe(small_recipe(sampling={"steps": 1, "guidance": 1.0}), folder / "recipe.yaml")
    return folder


@pytest.fixture
def augment(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the verb; it must succeed."""

    def told(*words: object) -> tuple[str, str]:
        code, out, err = call(monkeypatch, capsys, "augment", run, *words)
        assert code == 0, err
        return out, err

    return told


def test_labels_provenance_and_a_folder_a_class(augment, run: Path, tmp_path: Path):
    out = tmp_path / "patches"
    stdout, err = augment("--out", out, "--n", 15, "--balance", "classes", "--balance", "patients")
    assert stdout.splitlines()[-1] == str(out / "labels.csv")
    table = pd.read_csv(out / "labels.csv")
    assert len(table) == 15
    counts = table["label"].value_counts()
    assert len(counts) >= 2
    assert counts.max() - counts.min() <= 1
    cohort = Cohort.open(run / "cohort")
    split = cohort.split()
    assert set(table["section"]) <= set(split.train)
    assert set(table["patient"]).isdisjoint(cohort.patients[name] for name in split.test)
    for row in table.itertuples():
        stamp = read_stamp(out / row.path)
        assert (stamp.section, stamp.seed, stamp.condition) == (row.section, row.noise_seed, "matched")
        assert stamp.synthetic
        assert row.barcode == row.spots.split()[0]  # the nearest spot it was told of is its own
        assert Image.open(out / row.path).size == (64, 64)
        assert row.confidence > 0.5
    assert {p.relative_to(out).as_posix() for p in out.glob("*/*.png")} == set(table["path"])
    tree = json.loads((out / "provenance.json").read_text())
    assert tree["finished"]
    assert {tree["classes"][path.split("/")[0]] for path in table["path"]} == set(table["label"])
    assert set(table["generator"]) == {hash_of(run / "generator")} == {tree["painting"]["generator"]}
    assert sum(sum(row.values()) for row in tree["counts"].values()) == 15
    assert "test it on real tissue" in err
    assert not list(out.rglob(".*"))


def test_it_goes_on_where_it_was_stopped_and_grows(augment, tmp_path: Path):
    out = tmp_path / "patches"
    augment("--out", out, "--n", 6, "--seed", 5)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*/*.png")}
    assert len(before) == 6
    lost, cut, *_ = before
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:40])
    augment("--out", out, "--n", 9, "--seed", 5)
    after = set(out.glob("*/*.png"))
    assert len(after) == 9
    assert set(before) < after
    for path, (time, content) in before.items():
        if path in (lost, cut):
            assert np.array_equal(np.asarray(Image.open(path)).shape, (64, 64, 3))
        else:
            assert path.stat().st_mtime_ns == time
        assert path.read_bytes() == content  # painted in another batch, or not again: the same
    assert len(pd.read_csv(out / "labels.csv")) == 9
    # Begun by a version that knew nothing of a setting which is at its default: gone on with all the same.
    tree = json.loads((out / "provenance.json").read_text())
    del tree["painting"]["sampler"]["depth"]
    (out / "provenance.json").write_text(json.dumps(tree))
    augment("--out", out, "--n", 10, "--seed", 5)
    assert len(pd.read_csv(out / "labels.csv")) == 10


def test_more_patches_than_spots_are_painted_in_other_noise(augment, cohort: Cohort, tmp_path: Path):
    out, section = tmp_path / "patches", cohort.split().train[0]
    augment("--out", out, "--n", 60, "--by", "compartments", "--section", section)
    table = pd.read_csv(out / "labels.csv")
    assert not table.duplicated(["section", "barcode", "noise_seed"]).any()
    twice = table[table["noise_seed"] == 1]
    assert len(twice)
    first = table.merge(twice[["section", "barcode"]], on=["section", "barcode"])
    one, two = (
        np.asarray(Image.open(out / p)) for p in first.sort_values("noise_seed")["path"].iloc[[0, -1]]
    )
    assert (one != two).any()


def test_a_dry_run_tells_and_writes_nothing(augment, tmp_path: Path):
    _, err = augment("--out", tmp_path / "o", "--n", 8, "--dry-run")
    assert "paint 8 windows" in err
    assert " min, " in err
    assert not (tmp_path / "o").exists()


def test_bad_input_is_one_line(
    run: Path,
    cohort: Cohort,
    augment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def refused(*words: object) -> str:
        return bad(monkeypatch, capsys, "augment", *words)

    out, (held,) = tmp_path / "o", cohort.split().test
    assert "held out; its patches would leak" in refused(run, "--out", out, "--section", held)
    assert "has no section 'X9'" in refused(run, "--out", out, "--section", "X9")
    assert "--n: 0 is not possible" in refused(run, "--out", out, "--n", 0)
    assert "--repeats" in refused(run, "--out", out, "--repeats", 0)
    assert "no such group" in refused(run, "--out", out, "--balance", "stage")
    assert "no such class" in refused(run, "--out", out, "--classes", "bone")
    assert "no such file" in refused(run, "--out", out, "--labels", tmp_path / "none")
    assert "this is no run" in refused(tmp_path, "--out", out)
    assert not out.exists()

    out.mkdir()
    (out / "thesis.doc").write_text("mine")
    assert "no folder of synthetic patches" in refused(run, "--out", out)
    assert (out / "thesis.doc").read_text() == "mine"
    augment("--out", tmp_path / "p", "--n", 6)
    assert "another generator, sampler, seed" in refused(run, "--out", tmp_path / "p", "--n", 6, "--seed", 1)
    assert "not of this plan" in refused(run, "--out", tmp_path / "p", "--n", 4)


def test_a_split_that_holds_out_what_the_generator_saw_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(run / "cohort", tmp_path / "cohort")
    before = Cohort.open(tmp_path / "cohort").split()
    swapped = Split("default", before.test, before.validation, before.train)
    write_split(swapped, tmp_path / "cohort" / "splits")
    words = ("augment", run, "--cohort", tmp_path / "cohort", "--out", tmp_path / "o")
    assert "which the generator was trained on" in bad(monkeypatch, capsys, *words)


def test_a_pathologists_labels_are_taken_as_they_are(augment, cohort: Cohort, tmp_path: Path):
    name = cohort.split().train[0]
    spots = cohort.sections[name].used_spots.obs_names
    words = ["Invasive cancer", "Connective / fat", "undetermined"]
    rows = {"barcode": spots, "label": [words[i % 3] for i in range(len(spots))], "section": name}
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    augment("--out", tmp_path / "o", "--n", 6, "--balance", "classes", "--labels", tmp_path / "labels.csv")
    table = pd.read_csv(tmp_path / "o" / "labels.csv")
    assert table["label"].value_counts().to_dict() == {"Invasive cancer": 3, "Connective / fat": 3}
    assert {path.split("/")[0] for path in table["path"]} == {"Invasive_cancer", "Connective_fat"}
    drawn = dict(zip(rows["barcode"], rows["label"]))
    assert all(drawn[row.barcode] == row.label for row in table.itertuples())
    assert table["confidence"].isna().all()


@pytest.mark.slow
def test_the_card_says_whether_they_help(
    run: Path, cohort: Cohort, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The verb hands classes and patients of the cohort through; two patients of nine spots teach two classes."""
    sets = ("usefulness=40", "windows=9", "derange_um=100", "bootstrap=50", "recovery_genes=10")
    words = [word for one in sets for word in ("--set", f"evaluation.{one}")]
    code, out, err = call(monkeypatch, capsys, "evaluate", run, *words)
    assert code == 0, err
    card = Card.read(Path(out.splitlines()[-1]))
    rows = [row for row in card.rows if row.metric == "usefulness_f1"]
    assert {row.subject for row in rows} == set(TRAINING_SETS), rows[0].why
    assert {row.features for row in rows} == {"EfficientNet-Lite0"}
    (patient,) = {cohort.patients[name] for name in cohort.split().test}
    assert f"patient {patient}" in {row.group for row in rows}
    (note,) = (note for note in card.notes if note.startswith("Usefulness"))
    assert patient not in note.split("patients ")[1].split(", and as many")[0].split(", ")
