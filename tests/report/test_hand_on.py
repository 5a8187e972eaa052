import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from evaluation_toy import SETTINGS, FaithfulPainter, toy_tissue

from stainglass.errors import StainglassError
from stainglass.evaluation.card import Card
from stainglass.evaluation.evaluate import evaluate
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.report.hand_on import hand_on


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A trained run, not yet judged."""
    shutil.copytree(run_folder / "generator", tmp_path / "run" / "generator")
    return tmp_path / "run"


def test_what_is_handed_on_is_what_was_judged_with_every_figure(run: Path, tmp_path: Path) -> None:
    tissues = toy_tissue("held", 2, 5, 5), toy_tissue("train", 1), toy_tissue("other", 3, 5, 5)
    judged = SamplerSettings("euler", 3, 1.0, thinning=0.5, depth=900)
    settings = replace(SETTINGS, n=20, bootstrap=20, seeds=(0,), sampling=asdict(judged))
    card = evaluate(*tissues, FaithfulPainter(), settings, run / "evaluation")
    out = hand_on(run, tmp_path / "given")
    weights = "denoiser/diffusion_pytorch_model.safetensors"
    assert (out / weights).read_bytes() == (run / "generator" / weights).read_bytes()
    facts = TissuePipeline.from_pretrained(out).facts
    assert facts.name == "small"
    assert facts.sampler == judged
    assert TissuePipeline.from_pretrained(run / "generator").facts.sampler != judged
    assert Card.read(out / "card.json").model_dump(mode="json") == card.model_dump(mode="json")
    # A part's configuration names the folder it was loaded from: a path of this machine, which stays here.
    assert any("_name_or_path" in path.read_text() for path in (run / "generator").glob("*/config.json"))
    assert not any("_name_or_path" in path.read_text() for path in out.rglob("*.json"))
    told = (out / "README.md").read_text()
    assert "Not for diagnosis" in told
    assert (
        "painted by 3 steps of euler, 50% of each spot's counts left out, sections deeper than 900 counts"
        in told
    )
    found = card.find("recovery_gain", "other_patient_genes")
    assert f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]" in told
    missing = [row.metric for row in card.rows if row.value is not None and f"| {row.metric} |" not in told]
    assert missing == []


def test_a_card_of_settings_that_are_not_known_here_is_not_handed_on(run: Path, tmp_path: Path) -> None:
    tissues = toy_tissue("held", 2, 5, 5), toy_tissue("train", 1), toy_tissue("other", 3, 5, 5)
    settings = replace(SETTINGS, n=20, bootstrap=20, seeds=(0,), sampling=asdict(SamplerSettings()))
    evaluate(*tissues, FaithfulPainter(), settings, run / "evaluation")
    path = run / "evaluation" / "card.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "sampling": {**tree["sampling"], "temperature": 0.9}}))
    with pytest.raises(StainglassError, match="not known here: temperature"):
        hand_on(run, tmp_path / "given")
    assert not (tmp_path / "given").exists()


def test_a_generator_that_nobody_judged_is_not_handed_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="was not evaluated"):
        hand_on(run, tmp_path / "given")
    assert not (tmp_path / "given").exists()
    with pytest.raises(StainglassError, match="no generator"):
        hand_on(tmp_path, tmp_path / "given")
