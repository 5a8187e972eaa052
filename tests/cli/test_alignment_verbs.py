"""align, embed and retrieve as a user meets them, and a whole run of system 1 at the least size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stainglass.analysis.embeddings import read_embeddings
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.clip import TissueCLIP
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"
CLIP = {
    "clip": {"widths": [16, 24], "image_px": 32, "dim": 16},
    "train_clip": {"steps": 4, "batch": 8, "chunk": 4, "warmup": 1},
    "genes": {"genes": 60, "width": 32, "tokens": 2, "input": "set", "top_k": 20},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = {**yaml.safe_load(SMALL.read_text()), **CLIP}
    tree["train_denoiser"] = {**tree["train_denoiser"], "image_share": 0.3}
    tree["analysis"] = {"steps": ["figures", "components", "subtypes", "latent"], "most": 12}
    path = tmp_path_factory.mktemp("recipes") / "small_clip.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def aligned(cohort: Cohort, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a CLIP and a cohort, made by the verb itself."""
    with pytest.MonkeyPatch.context() as patch:
        run = tmp_path_factory.mktemp("aligned") / "run"
        patch.setattr(
            "sys.argv", ["stainglass", "align", str(cohort.path), "--recipe", str(recipe), "--out", str(run)]
        )
        from stainglass.cli.main import main

        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    (run / "cohort").symlink_to(cohort.path)
    return run


@pytest.mark.parametrize("verb", ["align", "embed", "retrieve"])
def test_help_shows_a_real_example(verb, monkeypatch, capsys) -> None:
    code, out, _ = call(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert f"stainglass {verb} " in out.split("Parameters")[0].split("For instance")[1]


def test_align_leaves_a_clip_and_its_figures(aligned: Path) -> None:
    assert TissueCLIP.load(aligned / "clip" / "model").facts is not None
    rows = json.loads((aligned / "clip" / "alignment.json").read_text())["rows"]
    assert {row["features"] for row in rows} == {"CLIP", "colour only", "chance"}


def test_embed_writes_what_scanpy_reads(aligned: Path, cohort: Cohort, monkeypatch, capsys) -> None:
    section = next(iter(cohort.sections))
    code, out, _ = call(monkeypatch, capsys, "embed", aligned, "--section", section)
    assert code == 0
    assert out.splitlines()[-1] == str(aligned / "embeddings")
    table = ad.read_h5ad(aligned / "embeddings" / f"{section}.h5ad")
    assert list(table.obs_names) == list(cohort.sections[section].used_spots.obs_names)
    for name in ("X_clip_image", "X_clip_gene"):
        assert np.allclose(np.linalg.norm(table.obsm[name], axis=1), 1, atol=1e-4)
    clip = TissueCLIP.load(aligned / "clip" / "model")
    assert read_embeddings(aligned / "embeddings" / f"{section}.h5ad", clip).n_obs == table.n_obs
    table.uns["clip"] = {"genes": ["ENSG1", "ENSG2"]}
    table.write_h5ad(aligned / "other.h5ad")
    with pytest.raises(StainglassError, match="another gene axis"):
        read_embeddings(aligned / "other.h5ad", clip)


@pytest.mark.parametrize("by", ["genes", "image"])
def test_retrieve_tells_the_nearest_and_shows_them(
    by: str, aligned: Path, cohort: Cohort, monkeypatch, capsys
) -> None:
    section = cohort.split().part("test")[0]
    spot = cohort.sections[section].used_spots.obs_names[0]
    code, out, _ = call(monkeypatch, capsys, "retrieve", aligned, f"{section}:{spot}", "--by", by, "--k", 3)
    assert code == 0
    table = pd.read_csv(out.splitlines()[-1])
    assert len(table) == 3
    assert (np.diff(table["cosine"]) <= 0).all()
    assert set(table["section"]) <= set(cohort.split().train)
    with Image.open(out.splitlines()[-1].replace(".csv", ".png")) as shown:
        assert shown.size == (4 * 64 + 32 + 2 * 8, 64)


def test_a_picture_can_be_asked_for_its_profiles(aligned: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    Image.fromarray(np.full((64, 64, 3), 180, np.uint8)).save(tmp_path / "patch.png")
    code, _, _ = call(monkeypatch, capsys, "retrieve", aligned, tmp_path / "patch.png", "--by", "image")
    assert code == 0
    assert "has no genes" in bad(monkeypatch, capsys, "retrieve", aligned, tmp_path / "patch.png")
    Image.fromarray(np.full((80, 64, 3), 180, np.uint8)).save(tmp_path / "wide.png")
    assert "windows of 64 px" in bad(
        monkeypatch, capsys, "retrieve", aligned, tmp_path / "wide.png", "--by", "image"
    )
    (tmp_path / "torn.png").write_bytes(b"no picture")
    assert "no picture" in bad(
        monkeypatch, capsys, "retrieve", aligned, tmp_path / "torn.png", "--by", "image"
    )


def test_bad_input_is_one_line(
    aligned: Path, cohort: Cohort, run_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    assert "no CLIP here" in bad(monkeypatch, capsys, "embed", run_folder, "--cohort", cohort.path)
    assert "has no section 'P9'" in bad(monkeypatch, capsys, "embed", aligned, "--section", "P9")
    assert "neither a file nor" in bad(monkeypatch, capsys, "retrieve", aligned, "P9:AAAC")
    section = next(iter(cohort.sections))
    assert "has no used spot" in bad(monkeypatch, capsys, "retrieve", aligned, f"{section}:nowhere")
    assert "is not possible" in bad(monkeypatch, capsys, "retrieve", aligned, f"{section}:x", "--k", 0)
    assert "has no clip" in bad(
        monkeypatch, capsys, "align", cohort.path, "--recipe", SMALL, "--out", tmp_path / "none"
    )


def test_another_panel_is_refused(aligned: Path, cohort: Cohort, monkeypatch, capsys) -> None:
    model = aligned / "clip" / "model"
    other = aligned.parent / "other"
    shutil.copytree(model, other / "clip" / "model", dirs_exist_ok=True)
    facts = json.loads((other / "clip" / "model" / "clip.json").read_text())
    facts["gene_ids"] = [f"ENSG999999{i:05d}" for i in range(len(facts["gene_ids"]))]
    (other / "clip" / "model" / "clip.json").write_text(json.dumps(facts))
    assert "measured 0% of the 60 genes" in bad(monkeypatch, capsys, "embed", other, "--cohort", cohort.path)


def test_a_run_of_system_one_ends_with_report_card_and_figures(
    recipe: Path, simulated: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    run = tmp_path / "run"
    code, out, err = call(monkeypatch, capsys, "run", recipe, "--data", simulated, "--out", run)
    assert code == 0, err
    assert out.splitlines()[-1] == str(run / "report.html")
    card = json.loads((run / "evaluation" / "card.json").read_text())
    assert {"from_image", "same_class"} <= {row["subject"] for row in card["rows"]}
    assert {"clip_gene_gap", "clip_real_gap"} <= {row["metric"] for row in card["rows"]}
    for path in ("figures/index.html", "components/components.json", "subtypes/subtypes.json", "latent.html"):
        assert (run / "analysis" / path).is_file(), path
    page = (run / "report.html").read_text()
    assert "Signals on real and generated tissue" in page
    assert "Connected components" in page
    assert "training loss of the clip" in page
    stamps = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != "report.html"}
    assert call(monkeypatch, capsys, "run", recipe, "--data", simulated, "--out", run)[0] == 0
    changed = [p.name for p, at in stamps.items() if p.stat().st_mtime_ns != at]
    assert set(changed) <= {"recipe.yaml", "provenance.json", "timing.json", "default.json", "cohort.json"}
    # What is made from it brings the CLIP along, whose alignment its card tells too.
    few, there = tmp_path / "few", ("--cohort", run / "cohort")
    quick = [
        word
        for key in ("steps=2", "batch=2", "substeps=1", "levels=2")
        for word in ("--set", f"distil.{key}")
    ]
    for words in (("distil", run, "--out", few, *there, *quick), ("evaluate", few, *there), ("report", few)):
        code, _, err = call(monkeypatch, capsys, *words)
        assert code == 0, err
    card = json.loads((few / "evaluation" / "card.json").read_text())
    assert {"clip_gene_gap", "clip_real_gap"} <= {row["metric"] for row in card["rows"]}
    assert "training loss of the clip" not in (few / "report.html").read_text()  # it was trained elsewhere


def test_a_dry_run_counts_clip_too(recipe: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    code, _, err = call(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "dry", "--dry-run",
                        "--set", "simulate.patients=3")  # fmt: skip
    assert code == 0
    assert "train: about" in err
    few = float(err.split("train: about ")[1].split(" min")[0])
    _, _, err = call(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "dry", "--dry-run",
                     "--set", "simulate.patients=3", "--set", "train_clip.steps=100000")  # fmt: skip
    assert float(err.split("train: about ")[1].split(" min")[0]) > few + 1
    assert not (tmp_path / "dry").exists()
