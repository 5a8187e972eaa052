import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from evaluation_toy import SETTINGS, BlindPainter, FaithfulPainter, toy_tissue
from PIL import Image

from stainglass.evaluation.evaluate import evaluate
from stainglass.report.page import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with everything in it."""
    run = tmp_path_factory.mktemp("runs") / "toy-run"
    settings = replace(SETTINGS, n=20, bootstrap=20, notes=("a note with <tags> & signs",))
    held_out, train, other = toy_tissue("held", 2, 6, 6), toy_tissue("train", 1), toy_tissue("other", 3, 6, 6)
    evaluate(held_out, train, other, FaithfulPainter(), settings, run / "evaluation")
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "toy", "title": "Toy skin", "seed": 1}))
    facts = {
        "versions": {"stainglass": "0.1.0", "torch": "2.13"},
        "seeds": [0, 1],
        "command": "stainglass run toy",
    }
    (run / "provenance.json").write_text(json.dumps(facts))
    proofs, previews = run / "cohort" / "proofs", run / "denoiser" / "previews"
    for folder in (proofs, previews, run / "autoencoder"):
        folder.mkdir(parents=True)
    section = {"id": "held-0", "patient": "P1", "used": 36, "notices": ["pitch <fitted>"]}
    (run / "cohort" / "cohort.json").write_text(json.dumps({"format": 1, "sections": [section]}))
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(proofs / "held-0.png")
    for step in range(100, 700, 100):
        Image.fromarray(noise[:200, :300]).save(previews / f"step-{step:07d}.png")
    for training in ("autoencoder", "denoiser"):
        lines = [json.dumps({"step": s, "loss": 1 / (s + 1), "lr": 1e-3}) for s in range(50)]
        (run / training / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 50, "lo')
    return run


@pytest.fixture(scope="module")
def html(run):
    return write_report(run).read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_outside(html):
    loads = re.findall(r"""(?:src|href|xlink:href)\s*=\s*["']([^"']*)""", html)
    assert loads
    assert all(target.startswith(("data:", "#")) for target in loads)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html


def test_the_answer_comes_first(html):
    assert html.index("Yes. The genes drive the picture.") < html.index("The same places, real and painted")
    assert "Matched minus shuffled" in html
    assert "Another patient" in html
    assert "Synthetic images. Not for diagnosis." in html


def test_all_is_there(html):
    assert "Toy skin" in html
    for title in (
        "Uncurated",
        "Where it fails",
        "Nearest training windows",
        "Gene recovery (r)",
        "Copy rate",
        "KID",
    ):
        assert title in html
    assert html.count("generated window ") >= 20
    assert " µm</b>" in html  # scale bar
    assert html.count("<svg") == 4  # two answers, two curves
    assert "versions.torch" in html
    assert "proof of held-0" in html
    assert "not available: no LPIPS weights were given" in html
    assert "Not in this report" not in html


def test_foreign_text_is_escaped(html):
    assert "a note with &lt;tags&gt; &amp; signs" in html
    assert "pitch &lt;fitted&gt;" in html


def test_ids_within_the_page_are_unique(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_page_is_small(html):
    assert len(html) < 15e6


def test_the_same_run_gives_the_same_page(run, html):
    assert write_report(run).read_text(encoding="utf-8") == html


def test_an_empty_run_gives_a_page_that_says_what_is_missing(tmp_path):
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Not measured yet." in html
    for missing in ("evaluation/card.json", "recipe.yaml", "provenance.json", "denoiser/metrics.jsonl"):
        assert missing in html
    assert "Not for diagnosis" in html


def test_broken_pieces_are_told(tmp_path):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "card.json").write_text('{"format": 7}')
    (tmp_path / "evaluation" / "pictures.npz").write_bytes(b"no archive")
    (tmp_path / "evaluation" / "genes.parquet").write_bytes(b"no table")
    (tmp_path / "recipe.yaml").write_text("a: [")
    (tmp_path / "provenance.json").write_text("[")
    (tmp_path / "cohort" / "proofs").mkdir(parents=True)
    (tmp_path / "cohort" / "proofs" / "x.png").write_bytes(b"no picture")
    (tmp_path / "cohort" / "cohort.json").write_text('"text"')
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "a card of format 7" in html
    assert "pictures.npz" in html


def test_a_blind_painter_is_told_in_one_glance(tmp_path):
    held_out, train = toy_tissue("held", 2, 5, 5), toy_tissue("train", 1, 6, 6)
    settings = replace(SETTINGS, n=20, bootstrap=20)
    evaluate(held_out, train, None, BlindPainter(), settings, tmp_path / "evaluation")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Not shown. The pictures do not follow the genes beyond chance." in html
