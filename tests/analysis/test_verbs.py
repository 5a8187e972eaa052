"""`stainglass components` and `stainglass subtypes` as a user meets them, on a run that was trained for four steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from small_recipe import small_recipe
from stainglass.analysis.dividers import ComponentSettings
from stainglass.analysis.find_components import write_components
from stainglass.analysis.find_subtypes import write_subtypes
from stainglass.analysis.polygons import contains, full_resolution_mpp, read_geojson
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.models.sampler import SamplerSettings
from stainglass.recipe_files import write_recipe
from stainglass.sections import read_sections, simulate_cohort
from stainglass.synthesis.generator import Generator
from verbs import bad, call

FAST = SamplerSettings(steps=1, guidance=1.0)


def colours(pixels: np.ndarray) -> np.ndarray:
    """Features that need no network: colours' means and deviations on a coarse grid."""
    n, side = len(pixels), pixels.shape[1] // 4
    cells = pixels.reshape(n, 4, side, 4, side, 3).astype(np.float32)
    return np.concatenate([cells.mean((2, 4)).reshape(n, -1), cells.std((2, 4)).reshape(n, -1)], axis=1)


@pytest.fixture(scope="module")
def run(run_folder: Path, cohort: Cohort, simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own: generator, cohort and truth."""
    folder = tmp_path_factory.mktemp("analysed") / "run"
    shutil.copytree(run_folder / "generator", folder / "generator")
    shutil.copytree(cohort.path, folder / "cohort")
    shutil.copytree(simulated.parent, folder / "simulated")
    write_recipe(small_recipe(sampling={"steps": 1, "guidance": 1.0}), folder / "recipe.yaml")
    return folder


@pytest.fixture(scope="module")
def generator(run: Path) -> Generator:
    return Generator.from_pretrained(run / "generator")


@pytest.fixture(scope="module")
def held_out(run: Path) -> str:
    (name,) = Cohort.open(run / "cohort").split().test
    return name


@pytest.fixture(scope="module")
def components_tree(run: Path, generator: Generator) -> dict[str, object]:
    path = write_components(run, Cohort.open(run / "cohort"), generator, FAST, embed=colours)
    assert path == run / "analysis" / "components" / "components.json"
    return json.loads(path.read_text())


class TestComponents:
    def test_every_file_that_is_named_is_there(self, run: Path, components_tree: dict, held_out: str):
        assert list(components_tree["sections"]) == [held_out]
        files = components_tree["sections"][held_out]["files"]
        assert {
            f"{held_out}_{name}"
            for name in ("regions.png", "nuclei.png", "components.csv", "nuclei_real_whole.geojson")
        } <= set(files)
        assert all((run / "analysis" / "components" / file).stat().st_size > 0 for file in files)
        assert not list((run / "analysis" / "components").glob(".*"))
        assert held_out not in components_tree["fitted_on"]

    def test_regions_lie_round_their_spots_in_full_resolution_px(
        self, run: Path, components_tree: dict, held_out: str
    ):
        section = Cohort.open(run / "cohort").sections[held_out]
        regions, _ = read_geojson(run / "analysis" / "components" / f"{held_out}_regions_expression.geojson")
        spots = pd.read_csv(run / "analysis" / "components" / f"{held_out}_spots.csv", index_col="barcode")
        place = dict(zip(section.used_spots.obs_names, section.used_spots.obsm["spatial"]))
        yx = np.stack([place[barcode][::-1] for barcode in spots.index])
        for name in spots["expression group"].unique():
            inside = np.zeros(len(yx), bool)
            for group, polygons in regions:
                if group == name:
                    inside |= contains(polygons, yx)
            own = (spots["expression group"] == name).to_numpy()
            assert (inside == own).all() or name == "unassigned"

    def test_whole_section_nuclei_lie_on_dark_pixels_of_the_source_slide(
        self, run: Path, components_tree: dict, held_out: str
    ):
        import tifffile

        slide = tifffile.imread(run / "simulated" / held_out / "slide.tif", level=0).mean(-1)
        table = pd.read_csv(run / "analysis" / "components" / f"{held_out}_nuclei_real_whole.csv")
        at = (
            table[["y_um", "x_um"]].to_numpy()
            / full_resolution_mpp(Cohort.open(run / "cohort").sections[held_out])
        ).astype(int)
        at = np.clip(at, 0, np.array(slide.shape) - 1)
        assert np.median(slide[at[:, 0], at[:, 1]]) < np.median(slide) - 40
        features = json.loads(
            (run / "analysis" / "components" / f"{held_out}_nuclei_real_whole.geojson").read_text()
        )
        assert len(features["features"]) == len(table)

    def test_shares_confidence_and_expression(self, run: Path, components_tree: dict, held_out: str):
        table = pd.read_csv(run / "analysis" / "components" / f"{held_out}_components.csv")
        assert set(table["source"]) == {"expression", "real", "generated"}
        shares = table.filter(like="share ")
        assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-4)
        assert table["confidence"].to_numpy() == pytest.approx(shares.max(axis=1).to_numpy(), abs=1e-5)
        mean = pd.read_csv(run / "analysis" / "components" / f"{held_out}_expression.csv")
        assert len(mean) == len(table)
        assert mean.shape[1] == 60 + 2

    def test_agreement_has_interval_and_chance(self, components_tree: dict, held_out: str):
        rows = components_tree["sections"][held_out]["agreement"]
        pairs = {tuple(row["between"]) for row in rows}
        assert pairs == {("real", "generated"), ("expression", "real"), ("expression", "generated")}
        assert {"ari_groups", "ari_components", "dice_groups", "dice_components", "dice"} <= {
            r["metric"] for r in rows
        }
        assert all({"value", "low", "high", "chance"} <= set(row) for row in rows)

    @pytest.mark.parametrize("signal", ["clusters", "COL1A1"])
    def test_other_signals_have_their_own_folder(
        self, run: Path, generator: Generator, components_tree: dict, signal: str
    ):
        how = ComponentSettings(signal=signal, clusters=3, whole=False)
        path = write_components(run, Cohort.open(run / "cohort"), generator, FAST, how=how, embed=colours)
        assert path.parent == run / "analysis" / "components" / signal
        assert len(json.loads(path.read_text())["groups"]) == (3 if signal == "clusters" else 2)

    def test_a_signal_that_is_none_and_too_many_clusters(self, run: Path, generator: Generator):
        cohort = Cohort.open(run / "cohort")
        for how, finding in (
            (ComponentSettings("no such gene"), "no gene"),
            (ComponentSettings("clip"), "CLIP learnt with the generator"),
            (ComponentSettings("clusters", clusters=1000), "1000 clusters"),
        ):
            with pytest.raises(StainglassError, match=finding):
                write_components(run, cohort, generator, FAST, how=how, embed=colours)


@pytest.fixture(scope="module")
def larger(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same generator beside larger sections: over the twenty spots of the others an interval says little."""
    folder = tmp_path_factory.mktemp("larger") / "run"
    shutil.copytree(run_folder / "generator", folder / "generator")
    manifest = simulate_cohort(folder / "simulated", "skin", 3, size_um=760.0, mpp=1.0, seed=3)
    prepared = prepare_cohort(read_sections(manifest), folder / "cohort", Prepare(mpp=1.0))
    prepare_split(prepared, small_recipe().split, seed=0)
    write_recipe(small_recipe(sampling={"steps": 1, "guidance": 1.0}), folder / "recipe.yaml")
    return folder


@pytest.fixture(scope="module")
def subtypes_tree(larger: Path, generator: Generator) -> dict[str, object]:
    path = write_subtypes(larger, Cohort.open(larger / "cohort"), generator, FAST, embed=colours)
    return json.loads(path.read_text())


class TestSubtypes:
    def test_every_figure_stands_beside_its_controls(self, subtypes_tree: dict):
        target = subtypes_tree["targets"]["markers"]
        assert target["folds"]["kind"] == "patients"
        rows = pd.DataFrame(target["rows"])
        judged = rows[(rows["on"] == "judged sections") & (rows["against"] == "markers")]
        for metric in ("macro_f1", "auroc", "ece"):
            found = judged[judged["metric"] == metric]
            assert set(found["subject"]) == {"real", "generated", "shuffled", "majority"}
        assert set(rows["against"]) == {"labels learnt", "markers", "truth"}
        assert (rows["what"].str.len() > 10).all()
        undefined = rows[rows["value"].isna()]
        assert undefined["why"].str.contains("no spot here|every spot here").all()
        size = len(target["classes"])
        for matrix in target["confusion"].values():
            assert np.array(matrix).shape == (size, size)

    def test_markers_agree_with_the_truth_more_than_by_chance(self, subtypes_tree: dict):
        (ari,) = [
            r
            for r in subtypes_tree["agreement"]
            if r["metric"] == "ari" and r["between"] == ["markers", "truth"]
        ]
        assert ari["low"] > ari["chance"] + 0.1
        assert all(row["auroc"] > 0.8 for row in subtypes_tree["scores"] if row["auroc"] is not None)

    def test_spots_and_picture(self, larger: Path, subtypes_tree: dict):
        spots = pd.read_csv(larger / "analysis" / "subtypes" / "spots.csv")
        assert len(spots) == subtypes_tree["spots"]
        assert {"class", "confidence", "truth", "markers from real", "markers from generated"} <= set(
            spots.columns
        )
        assert (larger / "analysis" / "subtypes" / "subtypes.png").stat().st_size > 0

    def test_a_pathologists_labels_are_learnt_and_compared(
        self, run: Path, generator: Generator, tmp_path: Path
    ):
        cohort = Cohort.open(run / "cohort")
        for name, section in cohort.sections.items():
            y = section.used_spots.obsm["spatial_um_yx"][:, 0]
            word = np.where(y > np.median(y), "connective tissue", "epidermis")
            table = pd.DataFrame({"barcode": section.used_spots.obs_names, "label": word})
            table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
        tree = json.loads(
            write_subtypes(run, cohort, generator, FAST, labels=tmp_path, embed=colours).read_text()
        )
        assert tree["targets"]["pathologist"]["classes"] == ["connective tissue", "epidermis"]
        against = {row["against"] for row in tree["targets"]["pathologist"]["rows"]}
        assert "pathologist" in against
        assert ["markers", "pathologist"] in [row["between"] for row in tree["agreement"]]

    def test_labels_of_the_judged_section_only_are_compared(
        self, run: Path, generator: Generator, held_out: str, tmp_path: Path
    ):
        section = Cohort.open(run / "cohort").sections[held_out]
        table = pd.DataFrame({"barcode": section.used_spots.obs_names[:9], "label": "dermis"})
        table.to_csv(tmp_path / f"{held_out}.tsv", sep="\t", index=False)
        tree = json.loads(
            write_subtypes(
                run, Cohort.open(run / "cohort"), generator, FAST, labels=tmp_path, embed=colours
            ).read_text()
        )
        assert list(tree["targets"]) == ["markers"]
        assert any("compared, not learnt" in note for note in tree["notes"])


def test_one_patient_falls_back_to_spatial_blocks_and_says_so(
    run: Path, generator: Generator, tmp_path: Path
):
    """The split shares the patient aloud, so the run exists; the folds cannot be of patients."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("analysis"))
    index = json.loads((folder / "cohort" / "cohort.json").read_text())
    for record in index["sections"]:
        record["patient"] = "same"
    (folder / "cohort" / "cohort.json").write_text(json.dumps(index))
    path = folder / "cohort" / "splits" / "default.json"
    split = json.loads(path.read_text())
    path.write_text(json.dumps({**split, "shared_patients": ["same"]}))
    tree = json.loads(
        write_subtypes(folder, Cohort.open(folder / "cohort"), generator, FAST, embed=colours).read_text()
    )
    folds = tree["targets"]["markers"]["folds"]
    assert folds["kind"] == "spatial blocks"
    assert "one patient only (same)" in folds["note"]


class TestVerbs:
    @pytest.mark.parametrize("verb", ["components", "subtypes"])
    def test_help_shows_a_real_example(
        self, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        code, out, _ = call(monkeypatch, capsys, verb, "--help")
        assert code == 0
        assert f"stainglass {verb} " in out.split("Parameters")[0].split("For instance")[1]

    def test_both_print_their_result_and_tell_the_next_step(
        self, run: Path, held_out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        monkeypatch.setattr("stainglass.analysis.study.EfficientNetLite0", ColourNetwork)
        code, out, err = call(monkeypatch, capsys, "subtypes", run, "--section", held_out, "--most", "12")
        assert code == 0, err
        assert out.splitlines()[-1] == str(run / "analysis" / "subtypes" / "subtypes.json")
        assert "macro_f1 generated" in err
        code, out, err = call(monkeypatch, capsys, "components", run, "--most", "12", "--no-whole")
        assert code == 0, err
        assert out.splitlines()[-1] == str(run / "analysis" / "components" / "components.json")
        assert "next: drag the .geojson" in err

    def test_bad_input_is_one_line(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        for verb in ("components", "subtypes"):
            assert "this is no run" in bad(monkeypatch, capsys, verb, tmp_path)
            assert "has no section 'P9'" in bad(monkeypatch, capsys, verb, run, "--section", "P9")
            assert "--most: 0 is not possible" in bad(monkeypatch, capsys, verb, run, "--most", "0")
        assert "no such file" in bad(monkeypatch, capsys, "subtypes", run, "--labels", tmp_path / "none")
        labels = tmp_path / "labels.csv"
        labels.write_text("section,barcode,label\nP1,XXX,dermis\n")
        assert "none of its 1 labels" in bad(monkeypatch, capsys, "subtypes", run, "--labels", labels)
        assert "no such class" in bad(monkeypatch, capsys, "subtypes", run, "--classes", "neuron")
        unfinished = tmp_path / "run"
        unfinished.mkdir()
        shutil.copy(run / "recipe.yaml", unfinished)
        assert "no generator in this run" in bad(monkeypatch, capsys, "components", unfinished)
        assert (run / "generator" / "model_index.json").is_file()


class ColourNetwork:
    """Stands for EfficientNet where the test is not about it."""

    name = "colours"

    def features(self, pixels: np.ndarray) -> np.ndarray:
        return colours(pixels)
