"""``stainglass ablate``: variants on one cohort and one autoencoder, resumable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.of_run import open_cohort
from stainglass.models.facts import read_facts
from stainglass.synthesis.spots import conditions_of
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"


def recipe(folder: Path, variants: dict[str, object]) -> Path:
    tree = yaml.safe_load(SMALL.read_text()) | {"ablation": {"variants": variants, "training_seeds": [0]}}
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_variants_share_cohort_and_autoencoder_and_are_not_done_twice(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = recipe(tmp_path, {"plain": {}, "bulk": {"genes": {"told": "bulk"}}})
    out = tmp_path / "out"
    code, stdout, err = call(monkeypatch, capsys, "ablate", plan, "--data", simulated, "--out", out)
    assert code == 0, err
    assert "| bulk |" in stdout
    models = sorted(p.parent for p in out.rglob("autoencoder/model/config.json"))
    assert models == [out / "autoencoder" / "model"]
    cards = sorted(out.rglob("card.json"))
    assert [p.relative_to(out / "variants").parts[0] for p in cards] == ["bulk", "plain"]
    _told_bulk(Cohort.open(out / "cohort"), out / "variants" / "bulk" / "seed-0")
    written = [p.stat().st_mtime_ns for p in cards]
    assert call(monkeypatch, capsys, "ablate", plan, "--data", simulated, "--out", out)[0] == 0
    assert [p.stat().st_mtime_ns for p in cards] == written
    # It knows its cohort, as any run; variants may be added, but nothing else may be another.
    assert open_cohort(out / "variants" / "plain" / "seed-0").path == out / "cohort"
    words = ("ablate", plan, "--data", simulated, "--out", out, "--set", "train_autoencoder.steps=3")
    assert "holds an ablation with other settings" in bad(monkeypatch, capsys, *words)
    other = tmp_path / "other.csv"
    other.write_text(simulated.read_text() if simulated.is_file() else "id,patient,path\n")
    before = (out / "provenance.json").read_text()
    assert "holds a run on other data" in bad(
        monkeypatch, capsys, "ablate", plan, "--data", other, "--out", out
    )
    assert (out / "provenance.json").read_text() == before


def _told_bulk(cohort: Cohort, run: Path) -> None:
    """Every spot of a section is told the same counts, by the generator as in training."""
    facts = read_facts(run / "generator")
    for section in cohort.sections:
        told = conditions_of(cohort, cohort.patches([section], facts.window_px), facts)
        counts = told.counts[told.present]
        assert len(counts) > 10
        assert np.ptp(counts, axis=0).max() < 1e-5
        assert counts.sum() > 0


def test_a_recipe_without_variants_and_one_with_a_wrong_setting(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", simulated, "--out", tmp_path / "out")
    assert "has no variants" in bad(monkeypatch, capsys, "ablate", recipe(tmp_path, {}), *words)
    wrong = recipe(tmp_path, {"odd": {"genes": {"colour": 3}}})
    assert "variant odd" in bad(monkeypatch, capsys, "ablate", wrong, *words)
    apart = recipe(tmp_path, {"plain": {}, "more": {"evaluation": {"noise_seeds": [0, 1]}}})
    said = bad(monkeypatch, capsys, "ablate", apart, *words)
    assert "variant more: has another evaluation.noise_seeds" in said
    apart = recipe(tmp_path, {"plain": {}, "other": {"train_autoencoder": {"steps": 9}}})
    assert "variant other: has another train_autoencoder" in bad(monkeypatch, capsys, "ablate", apart, *words)
    assert not (tmp_path / "out").exists()
