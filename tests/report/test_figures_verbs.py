"""``stainglass figures`` and ``stainglass latent`` as a user meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata as ad
import pytest
import zarr
from scipy.sparse import csr_matrix
from signals_toy import look, write_embeddings

from stainglass.cohort.cohort import Cohort
from stainglass.recipe_files import load_recipe, write_recipe
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"


class CheapNetwork:
    """Stands for EfficientNet-Lite0, whose looks would take most of these tests' time."""

    def features(self, pixels: object, advance: object = None) -> object:
        return look(pixels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(run_folder: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs") / "run"
    folder.mkdir()
    shutil.copytree(run_folder / "generator", folder / "generator")
    (folder / "cohort").symlink_to(cohort.path)
    write_recipe(load_recipe(SMALL), folder / "recipe.yaml")
    return folder


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stainglass.models.features.EfficientNetLite0", CheapNetwork)


@pytest.mark.parametrize("verb", ["figures", "latent"])
def test_help_shows_a_real_example(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert f"stainglass {verb} runs/" in out.split("Parameters")[0]


def test_figures_tell_their_page_and_the_next_verb(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(monkeypatch, capsys, "figures", run, "--signal", "KRT5", "--most", "8")
    assert code == 0, err
    page = Path(out.splitlines()[-1])
    assert page == run / "analysis" / "figures" / "index.html"
    assert page.is_file()
    assert f"next: stainglass latent {run}" in err


def test_latent_tells_its_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("latent", run, "--colour", "KRT5", "--slider", "trajectory", "--most", "16", "--thumbnails", "4")
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert Path(out.splitlines()[-1]) == run / "analysis" / "latent.html"
    assert f"next: stainglass report {run}" in err


@pytest.mark.parametrize("verb", ["figures", "latent"])
def test_bad_input_is_one_clear_line(
    verb: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "--signal" if verb == "figures" else "--gene"
    line = bad(monkeypatch, capsys, verb, run, option, "KRT55")
    assert "KRT55" in line
    assert "Did you mean KRT5" in line
    assert "HALLMARK_HYPOXIA" in bad(monkeypatch, capsys, verb, run, option, "HALLMARK_HYPOXYA")
    assert "has no section 'P9'. Choose one of P1" in bad(monkeypatch, capsys, verb, run, "--section", "P9")
    assert "no recipe.yaml" in bad(monkeypatch, capsys, verb, tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "recipe.yaml", bare)
    (bare / "cohort").symlink_to(run / "cohort")
    line = bad(monkeypatch, capsys, verb, bare)
    assert "no generator" in line
    assert "stainglass train" in line
    assert not (bare / "analysis").exists()


def test_embeddings_of_another_gene_axis(
    run: Path, cohort: Cohort, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for section in cohort.sections:
        write_embeddings(run, cohort, section, [f"ENSMUSG{i:011d}" for i in range(9)])
    try:
        assert "another gene axis" in bad(monkeypatch, capsys, "figures", run, "--signal", "clip")
        assert "another gene axis" in bad(monkeypatch, capsys, "latent", run, "--features", "clip")
    finally:
        shutil.rmtree(run / "embeddings")
    assert "no CLIP embeddings" in bad(monkeypatch, capsys, "figures", run, "--signal", "clip")


def test_spots_of_zero_counts(
    run: Path,
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(cohort.path, tmp_path / "cohort")
    name = cohort.split().test[0]
    spots = cohort.sections[name].spots.copy()
    counts = spots.X.toarray()
    counts[int(spots.obs["used"].to_numpy().argmax())] = 0
    spots.X = csr_matrix(counts)
    with ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        ad.io.write_elem(
            zarr.open_group(tmp_path / "cohort" / "sections" / f"{name}.zarr", mode="r+"), "spots", spots
        )
    painted = run / "analysis" / "painted"
    before = {p: p.stat().st_mtime_ns for p in painted.glob("*")}
    for verb, option in (("figures", "--signal"), ("latent", "--gene")):
        line = bad(monkeypatch, capsys, verb, run, option, "KRT5", "--cohort", tmp_path / "cohort")
        assert "1 of " in line
        assert "have no counts" in line
        assert "stainglass prepare" in line
    assert {p: p.stat().st_mtime_ns for p in painted.glob("*")} == before
