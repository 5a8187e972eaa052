"""The command line as a user meets it: help with an example, one clear line and exit code 2 on bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from stainglass.cli.judge import _length
from stainglass.cli.stages import refuse_another_run
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.facts import read_facts
from stainglass.models.sampler import SamplerSettings
from stainglass.recipe_files import load_recipe, write_recipe
from stainglass.synthesis.generator import Generator
from verbs import bad, call

SMALL = Path(__file__).parents[1] / "small.yaml"
VERBS = (
    "run",
    "simulate",
    "prepare",
    "train",
    "distil",
    "polish",
    "generate",
    "augment",
    "evaluate",
    "report",
    "doctor",
)


@pytest.fixture
def sections(simulated: Path, tmp_path: Path) -> Path:
    """A copy of the simulated sections that may be spoiled."""
    folder = tmp_path / "data"
    shutil.copytree(simulated.parent, folder)
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_a_real_example(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert f"stainglass {verb} " in out.split("Parameters")[0].split("For instance")[1]


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (("nosuch",), 'Unknown command "nosuch"'),
        (("generate",), "requires an argument"),
        (("generate", "--nosuch", "3"), "Unknown option: --nosuch"),
        (
            ("generate", "x.h5ad", "--model", "y", "--out", "z", "--candidates", "abc"),
            'unable to convert "abc"',
        ),
    ],
)
def test_a_command_that_cannot_be_read_is_one_line(
    words: tuple[str, ...], finding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = bad(monkeypatch, capsys, *words)
    assert finding in line
    assert line.endswith(" --help.")


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys; sys.argv = ['stainglass', '--help']\n"
        "from stainglass.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'anndata', 'zarr', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_prepare_tells_the_next_step_and_prints_its_result(
    sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    code, stdout, err = call(
        monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", out, "--mpp", "1.0"
    )
    assert code == 0, err
    assert stdout.splitlines()[-1] == str(out)
    assert f"next: stainglass train {out}" in err
    assert len(Cohort.open(out).sections) == 3


def test_dry_runs_tell_and_write_nothing(
    sections: Path,
    cohort: Cohort,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_recipe(load_recipe(SMALL), run_folder / "recipe.yaml")
    for words in (
        ("prepare", sections / "manifest.csv", "--out", tmp_path / "o"),
        ("train", cohort.path, "--recipe", SMALL, "--out", tmp_path / "o"),
        ("run", SMALL, "--data", sections / "manifest.csv", "--out", tmp_path / "o"),
        ("simulate", "--out", tmp_path / "o"),
        ("generate", cohort.path, "--model", run_folder, "--out", tmp_path / "o"),
        ("evaluate", run_folder, "--cohort", cohort.path, "--set", "sampling.batch=2"),
    ):
        code, _, err = call(monkeypatch, capsys, *words, "--dry-run")
        assert code == 0, err
        assert " min, " in err
        assert "GB of disk" in err
        assert not (tmp_path / "o").exists()


def test_a_dry_run_paints_where_the_pipeline_is(run_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from stainglass.cli.estimate import tell_painting

    pipeline = Generator.from_pretrained(run_folder / "generator").pipeline.to("meta")
    with pytest.raises(RuntimeError, match=r"meta tensors|Meta"):  # it painted there, and has nothing to read
        tell_painting(pipeline, 4, SamplerSettings(steps=2), 2, tmp_path)


class TestBadInput:
    """Each a clear line with the file, the finding and the remedy; nothing prepared is lost."""

    def test_missing_files(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert "no such file" in bad(
            monkeypatch, capsys, "prepare", tmp_path / "none", "--out", tmp_path / "c"
        )
        (sections / "P1" / "slide.tif").unlink()
        line = bad(monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c")
        assert "slide.tif" in line

    @pytest.mark.parametrize("content", [b"", b"not an image at all", None])
    def test_truncated_or_no_image(
        self,
        content: bytes | None,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        slide = sections / "P3" / "slide.tif"
        slide.write_bytes(slide.read_bytes()[:4000] if content is None else content)
        out = tmp_path / "c"
        call(monkeypatch, capsys, "prepare", sections / "P1" / "outs", "--out", out, "--mpp", "1.0")
        assert "slide.tif" in bad(
            monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", out, "--mpp", "1.0"
        )
        assert Cohort.open(out).sections

    def test_wrong_scale(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import tifffile

        slide = sections / "P1" / "slide.tif"
        picture = tifffile.imread(slide, level=0)
        tifffile.imwrite(slide, picture, resolution=(1e4 / 0.25, 1e4 / 0.25), resolutionunit="CENTIMETER")
        line = bad(monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c")
        assert "0.25" in line
        assert "mpp" in line

    def test_barcodes_that_do_not_match(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = sections / "P1" / "outs" / "spatial" / "tissue_positions.csv"
        table = pd.read_csv(path)
        table["barcode"] = [f"X{i}" for i in range(len(table))]
        table.to_csv(path, index=False)
        assert "barcode" in bad(
            monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c"
        )

    def test_no_spot_on_tissue(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = sections / "P1" / "outs" / "spatial" / "tissue_positions.csv"
        table = pd.read_csv(path)
        table["in_tissue"] = 0
        table.to_csv(path, index=False)
        assert "no spot lies on tissue" in bad(
            monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c"
        )

    @pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (np.nan, "NaN"), (0.37, "normalised")])
    def test_counts_that_are_no_counts(
        self,
        value: float,
        word: str,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = sections / "P1" / "outs" / "filtered_feature_bc_matrix.h5"
        with h5py.File(path, "r+") as file:
            data = file["matrix/data"][:].astype(np.float32)
            data[:50] = value
            del file["matrix/data"]
            file["matrix/data"] = data
        assert (
            word.lower()
            in bad(monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c").lower()
        )

    def test_one_patient_only(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        manifest = pd.read_csv(sections / "manifest.csv")
        manifest["patient"] = "same"
        manifest.to_csv(sections / "manifest.csv", index=False)
        out = tmp_path / "c"
        code, _, err = call(
            monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", out, "--mpp", "1.0"
        )
        assert code == 0
        assert "one patient only" in err  # the cohort is good; only the split has to wait
        # With windows of 256 µm these sections of 500 µm have no room for a buffer.
        said = bad(monkeypatch, capsys, "train", out, "--out", tmp_path / "r")
        assert "one patient only" in said
        assert "too small for blocks" in said
        assert not (out / "blocks.json").exists()

    def test_a_full_disk(
        self,
        tmp_path: Path,
        sections: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import collections

        usage = collections.namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
        line = bad(
            monkeypatch, capsys, "prepare", sections / "manifest.csv", "--out", tmp_path / "c", "--mpp", "1.0"
        )
        assert "free" in line

    def test_the_models_genes_absent_from_the_data(
        self,
        run_folder: Path,
        cohort: Cohort,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        adata = next(iter(cohort.sections.values())).used_spots.copy()
        adata.var_names = [f"ENSMUSG{i:011d}" for i in range(adata.n_vars)]
        adata.var["symbol"] = adata.var_names
        adata.write_h5ad(tmp_path / "mouse.h5ad")
        line = bad(
            monkeypatch,
            capsys,
            "generate",
            tmp_path / "mouse.h5ad",
            "--model",
            run_folder,
            "--out",
            tmp_path / "p",
        )
        assert "0% of the 60 genes" in line

    def test_no_run_no_model_no_cohort(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "no run" in bad(monkeypatch, capsys, "evaluate", tmp_path)
        assert "no prepared cohort" in bad(monkeypatch, capsys, "train", tmp_path, "--out", tmp_path / "r")
        assert "no such run" in bad(monkeypatch, capsys, "report", tmp_path / "none")
        assert "needs data" in bad(monkeypatch, capsys, "run", "her2st", "--out", tmp_path / "r")

    def test_another_recipe_in_the_same_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "recipe.yaml").write_text("name: other\n")
        assert "other settings" in bad(monkeypatch, capsys, "run", "demo", "--out", tmp_path)

    def test_a_setting_that_came_since_is_no_other_setting(self, tmp_path: Path) -> None:
        write_recipe(load_recipe(SMALL), tmp_path / "recipe.yaml")
        tree = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
        del tree["sampling"]["thinning"]
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
        refuse_another_run(load_recipe(SMALL), "there", tmp_path)
        with pytest.raises(StainglassError, match="other settings"):
            refuse_another_run(load_recipe(SMALL, sets=("sampling.thinning=0.5",)), "there", tmp_path)

    def test_debug_shows_the_traceback(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _, err = call(monkeypatch, capsys, "evaluate", tmp_path, "--debug")
        assert code == 2
        assert "Traceback" in err


def test_counts_cannot_all_be_left_out(
    run_folder: Path,
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("generate", cohort.path, "--model", run_folder, "--out", tmp_path / "p", "--thinning", "1")
    assert "--thinning: 1 is not possible" in bad(monkeypatch, capsys, *words)
    for depth in ("0", "nan"):
        assert f"--depth: {depth} is not possible" in bad(monkeypatch, capsys, *words[:-2], "--depth", depth)


def test_a_card_tells_the_windows_of_all_processes(run_folder: Path) -> None:
    facts, loop = read_facts(run_folder / "generator"), load_recipe(SMALL).train_denoiser
    assert _length(loop, facts.training) == "4 steps of 2 windows"
    assert _length(loop, {**facts.training, "batch": 6}) == "4 steps of 6 windows"


def test_generate_needs_no_slide(
    run_folder: Path,
    sections: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outs = tmp_path / "P1" / "outs"
    shutil.copytree(sections / "P1" / "outs", outs)
    for image in (*outs.rglob("*.png"), *outs.rglob("*.jpg"), *outs.rglob("*.tif")):
        image.unlink()
    assert "no image of the section" in bad(monkeypatch, capsys, "prepare", outs, "--out", tmp_path / "c")
    words = (
        "generate",
        outs,
        "--model",
        run_folder,
        "--n",
        "2",
        "--steps",
        "2",
        "--out",
        tmp_path / "painted",
    )
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert set(pd.read_csv(tmp_path / "painted" / "patches.csv")["section"]) == {"P1"}


def test_generate_writes_stamped_pictures(
    run_folder: Path,
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from stainglass.synthesis.stamp import read_stamp

    words = (
        "generate",
        cohort.path,
        "--model",
        run_folder,
        "--part",
        "test",
        "--n",
        "3",
        "--steps",
        "2",
        "--thinning",
        "0.5",
        "--depth",
        "300",
        "--out",
        tmp_path,
    )
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    table = pd.read_csv(tmp_path / "patches.csv")
    assert len(table) == 3
    stamp = read_stamp(tmp_path / table["file"][0])
    assert stamp.sampler is not None
    assert (stamp.sampler["steps"], stamp.sampler["thinning"], stamp.sampler["depth"]) == (2, 0.5, 300)
    assert stamp.synthetic
    assert stamp.spots
    assert stamp.model == "small"
    code, _, err = call(monkeypatch, capsys, *words[:-4], "--depth", "inf", "--out", tmp_path / "all")
    assert code == 0, err
    told = read_stamp(tmp_path / "all" / table["file"][0]).sampler
    assert told is not None
    assert told["depth"] is None  # JSON knows no infinity


def test_a_whole_run_is_restartable_and_self_contained(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", SMALL, "--data", simulated, "--out", tmp_path / "run")
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    page = Path(out.splitlines()[-1])
    assert page == tmp_path / "run" / "report.html"
    html = page.read_text()
    assert 'src="http' not in html
    assert 'href="http' not in html
    card = json.loads((tmp_path / "run" / "evaluation" / "card.json").read_text())
    assert card["sampling"]["steps"] == 2
    assert "4 steps of 2 windows" in card["trained_on"]
    subjects = {row["subject"] for row in card["rows"]}
    assert {"generated", "floor", "train", "other_patient", "reconstruction", "unconditional", "shuffled", "bulk",
            "mean_image", "retrieval"} <= subjects  # fmt: skip
    before = (tmp_path / "run" / "generator" / "stainglass.json").read_bytes()
    weights = (tmp_path / "run" / "denoiser" / "metrics.jsonl").stat().st_mtime_ns
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert (tmp_path / "run" / "generator" / "stainglass.json").read_bytes() == before
    assert (tmp_path / "run" / "denoiser" / "metrics.jsonl").stat().st_mtime_ns == weights
