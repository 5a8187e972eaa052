"""`stainglass compartments`: pairs that share no pixel, failures that are shown, a blinded reading that keeps its secret."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from small_recipe import small_recipe
from stainglass.analysis.find_compartments import CompartmentStudy, study_compartments
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.sampler import SamplerSettings
from stainglass.recipe_files import write_recipe
from stainglass.report.analysis_part import analysis_groups
from stainglass.report.blinded import COLUMNS, draw_blind, refuse_rated, write_blind
from stainglass.report.compartment_page import file_stem, write_compartments
from stainglass.report.compartment_pairs import choose_pairs
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.stamp import KEY
from verbs import bad, call

FAST = SamplerSettings(steps=1, guidance=1.0)


def colours(pixels: np.ndarray) -> np.ndarray:
    """Features that need no network: colours' means on a coarse grid."""
    n, side = len(pixels), pixels.shape[1] // 4
    return pixels.reshape(n, 4, side, 4, side, 3).astype(np.float32).mean((2, 4)).reshape(n, -1)


class CheapNetwork:
    """Stands for EfficientNet-Lite0."""

    def features(self, pixels: object, advance: object = None) -> object:
        return colours(np.asarray(pixels))


@pytest.fixture(scope="module")
def run(run_folder: Path, cohort: Cohort, simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compartments") / "run"
    shutil.copytree(run_folder / "generator", folder / "generator")
    (folder / "cohort").symlink_to(cohort.path)
    (folder / "simulated").symlink_to(simulated.parent)
    write_recipe(small_recipe(sampling={"steps": 1, "guidance": 1.0}), folder / "recipe.yaml")
    return folder


@pytest.fixture(scope="module")
def study(run: Path) -> CompartmentStudy:
    generator = Generator.from_pretrained(run / "generator")
    return study_compartments(run, Cohort.open(run / "cohort"), generator, FAST, embed=colours)


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    generator = Generator.from_pretrained(run / "generator")
    return write_compartments(
        run, Cohort.open(run / "cohort"), generator, FAST, pairs=2, blind=True, embed=colours
    )


def tiles(study: CompartmentStudy, i: int) -> np.ndarray:
    place, row = study.place(i)
    return place.painted.centres_um_yx[row]


def info(path: Path) -> dict[str, object]:
    with Image.open(path) as picture:
        return dict(picture.info)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_pairs_are_of_their_compartment_and_share_no_pixel(study: CompartmentStudy) -> None:
    found = choose_pairs(study, study.expression, study.expression, per=3, seed=0)
    window = study.patch("real", 0).shape[0] * study.judged.sections[0].painted.mpp
    pairs = [pair for members in found.values() for pair in members]
    assert any(pair.other is not None for pair in pairs)
    for pair in pairs:
        assert study.expression[pair.spot] == pair.compartment
        if pair.other is not None:
            assert study.expression[pair.other] == pair.compartment
            apart = np.abs(tiles(study, pair.spot) - tiles(study, pair.other)).max()
            assert apart >= window or study.place(pair.spot)[0] is not study.place(pair.other)[0]


def test_pairs_do_not_depend_on_what_was_painted(study: CompartmentStudy) -> None:
    first = choose_pairs(study, study.expression, study.expression, per=3, seed=0)
    assert first == choose_pairs(study, study.expression, study.expression, per=3, seed=0)
    assert first != choose_pairs(study, study.expression, study.expression, per=3, seed=5)


def test_what_was_written(run: Path, page: Path, study: CompartmentStudy) -> None:
    folder = page.parent
    tree = json.loads((folder / "compartments.json").read_text())
    table = pd.read_csv(folder / "compartments.csv")
    failures = pd.read_csv(folder / "failures.csv")
    assert tree["spots"] == len(table) == len(study)
    assert {row["subject"] for row in tree["figures"]} >= {"expression"}
    flagged = table["generated found"].notna().sum()
    assert len(failures) == flagged > 0  # four steps of training paint nothing that is like tissue
    for name in failures["picture"].dropna():
        assert (folder / name).is_file()
    for path in (folder / "pairs").glob("*.png"):
        stamp = json.loads(str(info(path)[KEY]))
        assert stamp["section"] in tree["sections"]
    groups = {group.title: group for group in analysis_groups(run)}
    assert groups["Compartments"].page == "analysis/compartments/index.html"


def test_the_page_loads_nothing_from_outside_and_names_every_compartment(
    page: Path, study: CompartmentStudy
) -> None:
    html = page.read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
    for name in study.names:
        assert name in html
    assert "Unlike real tissue" in html


class TestBlinded:
    def test_neither_file_names_nor_pictures_tell_which_is_real(self, page: Path) -> None:
        folder = page.parent / "blind"
        text = (folder / "index.html").read_text() + (folder / "ratings.csv").read_text()
        for word in ("generated", "seed"):
            assert word not in text
        infos = [info(path) for path in sorted(folder.glob("pair-*.png"))]
        assert infos
        assert all(info == infos[0] and KEY not in info for info in infos)
        assert not list(folder.glob("key*"))

    def test_the_key_names_every_pair_of_the_template(self, page: Path) -> None:
        ratings = table(page.parent / "blind" / "ratings.csv")
        key = table(page.parent / "key.csv")
        assert [row["pair"] for row in ratings] == [row["pair"] for row in key]
        assert tuple(ratings[0]) == COLUMNS
        assert all({row["A"], row["B"]} <= {"real", "generated"} for row in key)
        assert all("real" in (row["A"], row["B"]) for row in key)

    def test_no_place_is_shown_twice(self, study: CompartmentStudy) -> None:
        pairs = choose_pairs(study, study.expression, study.expression, per=4, seed=1)
        drawn = draw_blind(study, pairs, seed=1)
        spots = [spot for pair in drawn for _, spot in (pair.a, pair.b)]
        assert len(spots) == len(set(spots))

    def test_ratings_that_somebody_gave_are_kept(self, study: CompartmentStudy, tmp_path: Path) -> None:
        pairs = choose_pairs(study, study.expression, study.expression, per=2, seed=0)
        write_blind(study, pairs, tmp_path / "blind", tmp_path / "key.csv", seed=0)
        refuse_rated(tmp_path / "blind")
        path = tmp_path / "blind" / "ratings.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[1].replace(",,,", ",4,A,"), *lines[2:]]))
        before = path.read_bytes()
        with pytest.raises(StainglassError, match="1 pairs are rated already"):
            write_blind(study, pairs, tmp_path / "blind", tmp_path / "key.csv", seed=1)
        assert path.read_bytes() == before

    def test_a_key_that_was_handed_on_is_kept(self, study: CompartmentStudy, tmp_path: Path) -> None:
        """Ratings may be given in another copy of the page: with another key they would be read wrongly."""
        pairs = choose_pairs(study, study.expression, study.expression, per=2, seed=0)
        folder, key = tmp_path / "blind", tmp_path / "key.csv"
        write_blind(study, pairs, folder, key, seed=0)
        before = key.read_bytes()
        write_blind(study, pairs, folder, key, seed=0)
        with pytest.raises(StainglassError, match="key of other pairs"):
            write_blind(study, pairs, folder, key, seed=1)
        assert key.read_bytes() == before


def test_the_verb(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("stainglass.models.features.EfficientNetLite0", CheapNetwork)
    code, out, err = call(monkeypatch, capsys, "compartments", run, "--pairs", "1")
    assert code == 0, err
    assert Path(out.splitlines()[-1]) == run / "analysis" / "compartments" / "index.html"
    assert "too few nuclei" in err
    assert f"next: stainglass report {run}" in err


@pytest.mark.parametrize(("words", "said"), [(("--pairs", "0"), "--pairs"), (("--section", "P9"), "P9")])
def test_bad_input_is_one_clear_line(
    words: tuple[str, ...], said: str, run: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert said in bad(monkeypatch, capsys, "compartments", run, *words)


def test_names_of_files() -> None:
    assert file_stem("tumour / epithelium") == "tumour_epithelium"
