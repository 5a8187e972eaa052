"""A run is distilled, evaluated, handed on and painted with, as its recipe's first lines say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from diffusers import AutoencoderTiny

from stainglass.models import builtin
from stainglass.models.pipeline import TissuePipeline
from stainglass.recipe_files import load_recipe, write_recipe
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"
QUICK = (
    "--set",
    "distil.steps=2",
    "--set",
    "distil.batch=2",
    "--set",
    "distil.substeps=1",
    "--set",
    "distil.levels=2",
)


@pytest.fixture
def run(run_folder: Path) -> Path:
    write_recipe(load_recipe(SMALL), run_folder / "recipe.yaml")
    return run_folder


def test_from_many_steps_to_a_builtin_of_few(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    words = ("distil", run, "--out", few, "--cohort", cohort.path, *QUICK)
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert out.splitlines()[-1] == str(few / "generator")
    assert f"next: stainglass evaluate {few}\n" in err
    assert load_recipe(few / "recipe.yaml").sampling.solver == "jumps"
    before = (few / "generator" / "stainglass.json").stat().st_mtime_ns
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert (few / "generator" / "stainglass.json").stat().st_mtime_ns == before
    code, _, err = call(monkeypatch, capsys, "evaluate", few)  # it knows its cohort
    assert code == 0, err
    shipped = tmp_path / "weights" / "toy"
    code, _, err = call(monkeypatch, capsys, "export", few, "--out", shipped, "--form", "stainglass")
    assert code == 0, err
    monkeypatch.setattr(builtin, "FOLDER", shipped.parent)
    painted = tmp_path / "painted"
    section = next(iter(cohort.sections.values()))
    section.used_spots.write_h5ad(tmp_path / "my.h5ad")
    code, _, err = call(
        monkeypatch, capsys,
        "generate", tmp_path / "my.h5ad", "--model", "builtin:toy", "--mpp", "0.5", "--n", "2", "--out", painted,
    )  # fmt: skip
    assert code == 0, err
    assert len(pd.read_csv(painted / "patches.csv")) == 2


def test_bad_input_is_one_line(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no run" in bad(monkeypatch, capsys, "distil", tmp_path, "--out", tmp_path / "o")
    assert "itself" in bad(monkeypatch, capsys, "distil", run, "--out", run)
    line = bad(
        monkeypatch, capsys, "generate", cohort.path, "--model", "builtin:liver", "--out", tmp_path / "p"
    )
    assert "no generator of this name" in line
    line = bad(monkeypatch, capsys, "export", tmp_path, "--out", tmp_path / "o", "--form", "stainglass")
    assert "no generator" in line


def test_a_distilled_run_gets_a_sharper_decoder(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few, sharp = tmp_path / "few", tmp_path / "sharp"
    code, _, err = call(monkeypatch, capsys, "distil", run, "--out", few, "--cohort", cohort.path, *QUICK)
    assert code == 0, err
    words = ("sharpen", few, "--out", sharp, "--cohort", cohort.path)
    assert "sharpen_steps" in bad(monkeypatch, capsys, *words, "--set", "train_autoencoder.sharpen_steps=0")
    assert not sharp.exists()
    larger = ("--set", "train_autoencoder.sharpen_steps=1", "--set", "train_autoencoder.adversary=0.1",
              "--set", "autoencoder.decoder_widths=[16, 48]")  # fmt: skip
    code, out, err = call(monkeypatch, capsys, *words, *larger)
    assert code == 0, err
    assert out.splitlines()[-1] == str(sharp / "generator")
    found = TissuePipeline.from_pretrained(sharp / "generator")
    assert found.facts is not None
    assert found.facts.sampler.solver == "jumps"
    assert tuple(found.autoencoder.config.decoder_widths) == (16, 48)
    before = (sharp / "generator" / "stainglass.json").stat().st_mtime_ns
    assert call(monkeypatch, capsys, *words, *larger)[0] == 0
    assert (sharp / "generator" / "stainglass.json").stat().st_mtime_ns == before
    assert "no run" in bad(monkeypatch, capsys, "sharpen", tmp_path, "--out", tmp_path / "o")
    assert "itself" in bad(monkeypatch, capsys, "sharpen", few, "--out", few, *larger)


def test_a_distilled_run_is_polished_and_its_eyes_never_judge(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few, better, eyes = tmp_path / "few", tmp_path / "better", tmp_path / "tiny"
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(
        eyes
    )
    there = ("--cohort", cohort.path)
    code, _, err = call(monkeypatch, capsys, "distil", run, "--out", few, *there, *QUICK)
    assert code == 0, err
    words = ("polish", few, "--out", better, *there)
    quick = [word for one in ("steps=1", "batch=2", "bank=32") for word in ("--set", f"polish.{one}")]
    looking = ("--set", f"polish.eyes=[{eyes}]")
    assert "polish.eyes" in bad(monkeypatch, capsys, *words, *quick)
    assert "no autoencoder here" in bad(
        monkeypatch, capsys, *words, *quick, "--set", f"polish.eyes=[{tmp_path}]"
    )
    line = bad(monkeypatch, capsys, "polish", run, "--out", better, *there, *quick, *looking)
    assert "stainglass distil" in line
    assert not better.exists()
    code, out, err = call(monkeypatch, capsys, *words, *quick, *looking)
    assert code == 0, err
    assert out.splitlines()[-1] == str(better / "generator")
    code, _, err = call(monkeypatch, capsys, "evaluate", better, *there)
    assert code == 0, err
    card = json.loads((better / "evaluation" / "card.json").read_text())
    assert "polished: 1 steps of 2 conditions in the eyes of tiny " in card["trained_on"]
    assert not any("tiny" in judge["name"] for judge in card["judges"])
    assert "polished: 1 steps" in (better / "generator" / "README.md").read_text()


def test_a_run_whose_clip_is_gone_is_refused(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aligned = tmp_path / "aligned"
    shutil.copytree(run, aligned)
    write_recipe(load_recipe(SMALL, sets=("clip.dim=16",)), aligned / "recipe.yaml")
    words = ("distil", aligned, "--out", tmp_path / "none", "--cohort", cohort.path, *QUICK)
    assert "no CLIP in this run" in bad(monkeypatch, capsys, *words)
    assert not (tmp_path / "none").exists()


def test_a_cohort_of_another_scale_leaves_nothing_behind(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(cohort.path, other)
    index = json.loads((other / "cohort.json").read_text())
    (other / "cohort.json").write_text(json.dumps({**index, "mpp": 2 * index["mpp"]}))
    sharper = ("--set", "train_autoencoder.sharpen_steps=1")
    for verb, settings in (("distil", QUICK), ("sharpen", sharper)):
        line = bad(monkeypatch, capsys, verb, run, "--out", tmp_path / verb, "--cohort", other, *settings)
        assert "µm/px" in line
        assert not (tmp_path / verb).exists()


def test_a_run_selects_the_best_of_several_and_so_does_what_comes_after_it(
    run: Path, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    best, few, there = tmp_path / "best", tmp_path / "few", ("--cohort", cohort.path)
    assert "nothing to select" in bad(monkeypatch, capsys, "select", run, "--out", best, *there)
    assert not best.exists()
    two = ("--set", "sampling.candidates=2")
    code, out, err = call(monkeypatch, capsys, "select", run, "--out", best, *there, *two)
    assert code == 0, err
    assert out.splitlines()[-1] == str(best / "generator")
    code, _, err = call(monkeypatch, capsys, "distil", best, "--out", few, *there, *QUICK)
    assert code == 0, err
    found = TissuePipeline.from_pretrained(few / "generator")
    assert found.facts is not None
    assert found.facts.sampler.candidates == 2
    assert found.selector is not None
    words = ("generate", cohort.path, "--n", "2", "--out", tmp_path / "painted")
    code, _, err = call(monkeypatch, capsys, *words, "--model", few, "--candidates", "3", "--dry-run")
    assert code == 0, err
    code, _, err = call(monkeypatch, capsys, *words, "--model", few, "--candidates", "3")
    assert code == 0, err
    line = bad(monkeypatch, capsys, *words, "--model", run, "--candidates", "3")
    assert "stainglass select" in line
    assert "--candidates" in bad(monkeypatch, capsys, *words, "--model", few, "--candidates", "0")
    assert "itself" in bad(monkeypatch, capsys, "select", best, "--out", best, *two)
