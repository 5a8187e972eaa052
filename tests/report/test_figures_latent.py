"""The latent page: self-contained, thinned aloud, and it holds what it was given."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from signals_toy import look, write_embeddings

from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.sampler import SamplerSettings
from stainglass.report.figure_folder import write_figures
from stainglass.report.latent_page import Colouring, LatentData, write_latent_page
from stainglass.report.latent_run import write_latent
from stainglass.synthesis.generator import Generator

SETTINGS = SamplerSettings(steps=2)


def payload(page: Path) -> dict[str, object]:
    """The data a page holds."""
    found = re.search(r"^const D = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    tree = json.loads(found[1])
    assert isinstance(tree, dict)
    return tree


def floats(text: object) -> np.ndarray:
    return np.frombuffer(base64.b64decode(str(text)), "<f4")


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("latent")
    (run / "generator").symlink_to(run_folder / "generator")
    return run


@pytest.mark.parametrize("slider", ["expression", "dose", "trajectory"])
def test_the_page_stands_alone(slider: str, run: Path, cohort: Cohort) -> None:
    generator = Generator.from_pretrained(run / "generator")
    sections = cohort.split().test[:1]
    spots = len(cohort.patches(sections, 64))
    page = write_latent(
        run, cohort, generator, SETTINGS, sections, colour="patient", slider=slider, gene="COL1A1", look=look,  # type: ignore[arg-type]
        most=16, thumbnails=3, moving=4,
    )  # fmt: skip
    assert page == run / "analysis" / "latent.html"
    html, data = page.read_text(encoding="utf-8"), payload(page)
    own = html.replace(re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0], "")
    assert not re.search(r'(src|href)="(?!data:)|https?://', own)
    assert f"Thinned evenly: 8 of {spots} spots" in html
    assert "Pictures are kept for 3 of 8 spots" in html
    assert "fitted on the real patches alone" in html
    assert floats(data["real"]).reshape(-1, 3).shape == (8, 3)
    assert [way["name"] for way in data["colourings"]] == ["patient", "class", "COL1A1"]  # type: ignore[attr-defined]
    assert len(data["thumbs"]) == 3  # type: ignore[arg-type]
    moves = data["slider"]
    assert isinstance(moves, dict)
    stops = {"expression": None, "dose": 5, "trajectory": 3}[slider]
    if stops is None:
        assert len(moves["at"]) == len(moves["stops"]) > 1
    else:
        assert len(moves["stops"]) == stops
        assert floats(moves["places"]).reshape(stops, 4, 3).shape
        assert [len(stop) for stop in moves["thumbs"]] == [4] * stops
    if slider == "dose":
        # Dose 1 is the picture that stands among the generated ones.
        places, rows = floats(moves["places"]).reshape(5, 4, 3), moves["rows"]
        generated = floats(data["generated"]).reshape(-1, 3)
        np.testing.assert_allclose(places[moves["start"]], generated[rows], atol=0.05)


def test_fifty_thousand_points_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 25_000
    real = rng.normal(size=(n, 3)).astype(np.float32)
    codes = rng.integers(0, 4, n)
    data = LatentData(
        "many", ("a", "b", "c"), real, real + 1, tuple(f"S1 · AAACCTGAGAAACC-{i}" for i in range(n)),
        (Colouring("class", "", codes, ("p", "q", "r", "s")), Colouring("KRT5", "", values=real[:, 0], unit="u")), {},
        {"kind": "expression", "title": "KRT5", "stops": ["0"], "at": [0.0],
         "values": base64.b64encode(real[:, 0].tobytes()).decode(), "start": 0}, (),
    )  # fmt: skip
    page = write_latent_page(data, tmp_path / "latent.html")
    assert page.stat().st_size < 9e6
    held = payload(page)
    np.testing.assert_array_equal(floats(held["real"]).reshape(-1, 3), real)
    assert "25,000 spots, 50,000 points" in page.read_text(encoding="utf-8")


def test_what_is_not_there_writes_nothing(
    run_folder: Path, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator.from_pretrained(run_folder / "generator")
    test = list(cohort.split().test[:1])
    write_embeddings(tmp_path, cohort, test[0], [f"ENSMUSG{i:011d}" for i in range(9)])
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    for options, words in (
        ({"gene": "NOGENE1"}, "no gene of this cohort"),
        ({"colour": "KRT55"}, "no gene of this cohort"),
        ({"projection": "umap"}, "umap-learn is not installed"),
        ({"features": "clip"}, "another gene axis"),
        ({"gene": "clip"}, "is no gene and no gene set"),
        ({"most": 1}, "too few"),
    ):
        with pytest.raises(StainglassError, match=words):
            write_latent(tmp_path, cohort, generator, SETTINGS, test, look=look, **options)  # type: ignore[arg-type]
    with pytest.raises(StainglassError, match="has no section 'P9'"):
        write_latent(tmp_path, cohort, generator, SETTINGS, ["P9"], look=look)
    assert not (tmp_path / "analysis").exists()


def test_a_run_with_a_clip(
    run_folder: Path, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator.from_pretrained(run_folder / "generator")
    (tmp_path / "generator").symlink_to(run_folder / "generator")
    for section in cohort.sections:
        write_embeddings(tmp_path, cohort, section, list(cohort.axis.ids[:20]))
    test = list(cohort.split().test[:1])
    page = write_figures(tmp_path, cohort, generator, SETTINGS, test, ["clip"], 8, look=look)
    assert (page.parent / f"map_{test[0]}_clip.png").is_file()
    tower = type("Tower", (), {"embed_images": staticmethod(look)})
    monkeypatch.setattr("stainglass.models.clip.TissueCLIP.load", lambda folder: tower)
    latent = write_latent(
        tmp_path, cohort, generator, SETTINGS, test, colour="clip", features="clip", most=16, thumbnails=2
    )
    assert "this run&#39;s CLIP image embeddings" in latent.read_text(encoding="utf-8")
    assert payload(latent)["colourings"][0]["name"] == "clip"  # type: ignore[index]
