from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from small_recipe import small_recipe
from stainglass.cli.judge import judge_run
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split, write_split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.stages import train_generator

LOOP = {"steps": 2, "batch": 2, "warmup": 1, "log_every": 1, "learning_rate": 1e-4}
SMALL = {"windows": 9, "noise_seeds": [0], "derange_um": 100.0, "bootstrap": 50, "recovery_genes": 10}


def recipe(start: Path | str, **changes: object) -> Recipe:
    return small_recipe(start=str(start), train_denoiser=LOOP, **changes)


@pytest.fixture(scope="module")
def gone_on(run_folder: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gone-on")
    train_generator(cohort, cohort.split(), recipe(run_folder / "generator"), folder)
    return folder


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        run / "generator" / part / "diffusion_pytorch_model.safetensors"
    )
    return found


def test_training_begins_with_the_weights_of_the_other_generator(gone_on: Path, run_folder: Path) -> None:
    for part in ("denoiser", "condnet"):
        before, after = weights(run_folder, part), weights(gone_on, part)
        assert before.keys() == after.keys()
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert moved
        assert max(float((before[n] - after[n]).abs().max()) for n in before) < 1e-3  # two steps of 1e-4
    before, after = weights(run_folder, "autoencoder"), weights(gone_on, "autoencoder")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_keeps_axis_and_latent_space_and_tells_what_came_before(gone_on: Path, run_folder: Path) -> None:
    before = TissuePipeline.from_pretrained(run_folder / "generator").facts
    after = TissuePipeline.from_pretrained(gone_on / "generator").facts
    assert before is not None
    assert after is not None
    assert after.gene_ids == before.gene_ids
    assert (after.latent_mean, after.latent_std) == (before.latent_mean, before.latent_std)
    assert after.training["gone on from"] == before.name
    assert after.training["before, denoiser steps"] == 4
    assert after.training["denoiser steps"] == 2


def test_a_finished_run_is_taken_as_it_is(gone_on: Path, run_folder: Path, cohort: Cohort) -> None:
    made = (gone_on / "generator" / "stainglass.json").stat().st_mtime_ns
    train_generator(cohort, cohort.split(), recipe(run_folder / "generator"), gone_on)
    assert (gone_on / "generator" / "stainglass.json").stat().st_mtime_ns == made


def test_sections_seen_before_may_not_be_held_out_now(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    split = cohort.split()
    turned = Split("turned", split.test, (), split.train)
    write_split(turned, cohort.path / "splits")
    plan = recipe(run_folder / "generator", split={"name": "turned"}, evaluation=SMALL)
    train_generator(cohort, turned, plan, tmp_path)
    with pytest.raises(StainglassError, match="which the generator was trained on"):
        judge_run(tmp_path, cohort, plan)
    (cohort.path / "splits" / "turned.json").unlink()


def test_a_card_tells_what_was_gone_on_from(gone_on: Path, run_folder: Path, cohort: Cohort) -> None:
    card = judge_run(gone_on, cohort, recipe(run_folder / "generator", evaluation=SMALL))
    assert "gone on from small (4 steps" in card.trained_on


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"windows": {"size_px": 64, "reach_um": 90.0, "max_spots": 4}}, "windows.reach_um"),
        ({"windows": {"size_px": 64, "reach_um": 115.0, "max_spots": 3}}, "windows.max_spots"),
        ({"genes": {"told": "bulk"}}, "genes.told"),
    ],
)
def test_another_recipe_is_refused(
    run_folder: Path, cohort: Cohort, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(StainglassError, match=told):
        train_generator(cohort, cohort.split(), recipe(run_folder / "generator", **changes), tmp_path)


def test_another_scale_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    windows = {"size_px": 64, "reach_um": 250.0, "max_spots": 5}
    with pytest.raises(StainglassError, match=r"paints 0\.689"):
        train_generator(cohort, cohort.split(), recipe("builtin:breast", windows=windows), tmp_path)


def test_start_excludes_other_beginnings(run_folder: Path) -> None:
    with pytest.raises(StainglassError, match=r"leave denoiser\.source and clip out"):
        recipe(run_folder / "generator", clip={})
