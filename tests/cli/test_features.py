"""``stainglass evaluate RUN --features``: who judges is asked for, and must be able to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from stainglass.cohort.cohort import Cohort
from stainglass.evaluation.card import Card
from stainglass.evaluation.features import Inception2015
from stainglass.evaluation.inception import RESIZE, Inception2015Network
from stainglass.recipe_files import load_recipe, write_recipe
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"
QUICK = ("--set", "evaluation.windows=8", "--set", "evaluation.bootstrap=50", "--set", "sampling.steps=1")


@pytest.fixture
def run(run_folder: Path) -> Path:
    """A finished run."""
    write_recipe(load_recipe(SMALL), run_folder / "recipe.yaml")
    return run_folder


def test_asked_for_without_weights_is_a_clear_error(
    run: Path, cohort: Cohort, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("evaluate", run, "--cohort", cohort.path, "--features", "inception")
    line = bad(monkeypatch, capsys, *words)
    assert "judge Inception-2015: no weights were given" in line
    assert "evaluation.inception_weights" in line
    address = "https://127.0.0.1/weights.pth"
    line = bad(monkeypatch, capsys, *words, "--set", f"evaluation.inception_weights={address}")
    assert "without its SHA-256" in line
    assert not (run / "evaluation").exists()


def test_unknown_features_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capsys, "evaluate", run, "--features", "resnet")
    assert code != 0
    assert "inception" in err


def test_features_are_repeatable_and_the_first_leads(
    run: Path,
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    torch.save(Inception2015Network().state_dict(), tmp_path / "weights.pth")
    # The network's own answers are compared elsewhere; here a look that costs nothing stands in for them.
    monkeypatch.setattr(Inception2015, "_look", lambda _, rgb: adaptive_avg_pool2d(rgb, 26).flatten(1))
    code, _, err = call(
        monkeypatch, capsys, "evaluate", run, "--cohort", cohort.path, *QUICK,
        "--features", "inception", "--features", "efficientnet",
        "--set", f"evaluation.inception_weights={tmp_path / 'weights.pth'}",
    )  # fmt: skip
    assert code == 0, err
    card = Card.read(run / "evaluation" / "card.json")
    assert [judge.name for judge in card.judges] == ["Inception-2015", "EfficientNet-Lite0"]
    assert card.judges[0].sees == RESIZE
    fid = card.find("fid", "generated")
    assert fid is not None
    assert fid.value is not None
    assert fid.value > 0
    assert fid.why is not None
    assert "biased upwards at N = 8" in fid.why
    assert card.find("fid", "generated", features="EfficientNet-Lite0") is None
    assert card.find("fd", "generated", features="EfficientNet-Lite0") is not None
