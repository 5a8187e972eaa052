import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from small_recipe import small_recipe
from stainglass.cli.judge import judge_run
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.facts import EXPRESSION_OF, LENT_BY, TOOK_PART, Facts
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.from_finished import distilled_generator
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
    with pytest.raises(StainglassError, match=r"holds out .*, which .* was trained on"):
        train_generator(cohort, turned, recipe(run_folder / "generator"), tmp_path)
    assert not (tmp_path / "denoiser").exists()  # said before anything is trained


def foreign(run_folder: Path, folder: Path, **training: object) -> Path:
    """The same generator, but trained on tissue of somebody else."""
    shutil.copytree(run_folder / "generator", folder)
    path = folder / "stainglass.json"
    told = json.loads(path.read_text())
    told |= {
        "trained_on": ["X1"],
        "patients": ["X"],
        "data": "Of X.",
        "training": told["training"] | training,
    }
    path.write_text(json.dumps(told))
    return folder


def test_what_was_learnt_elsewhere_is_never_forgotten(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    took_part = {TOOK_PART: ["EfficientNet-Lite0"], EXPRESSION_OF: ["X2"]}
    start, split = foreign(run_folder, tmp_path / "start", **took_part), cohort.split()
    run = tmp_path / "run"
    train_generator(cohort, split, recipe(start), run, "Of ours.")
    found = TissuePipeline.from_pretrained(run / "generator")
    facts = found.facts
    assert facts is not None
    assert facts.trained_on == (*split.train, "X1")
    assert set(facts.patients) == {"X", *(cohort.patients[name] for name in split.train)}
    assert facts.data == "Of ours. Of X."
    assert facts.took_part == ("EfficientNet-Lite0",)
    assert facts.training[EXPRESSION_OF] == ["X2"]
    with pytest.raises(StainglassError, match="no judge is left"):
        judge_run(run, cohort, recipe(start, evaluation=SMALL))
    # It is of these sections, so it can be distilled on them, and its run taken up again without the start.
    loop = {"steps": 1, "batch": 2, "warmup": 0, "log_every": 1}
    distilled_generator(cohort, split, recipe(start, distil=loop), found, tmp_path / "few")
    shutil.rmtree(start)
    train_generator(cohort, split, recipe(start), run)


def test_another_start_under_the_same_name_is_not_gone_on_with(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    start, run = foreign(run_folder, tmp_path / "start"), tmp_path / "run"
    train_generator(cohort, cohort.split(), recipe(start), run)
    shutil.rmtree(run / "generator")
    path = start / "condnet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(StainglassError, match="began with"):
        train_generator(cohort, cohort.split(), recipe(start), run)


def test_a_start_in_half_precision_is_trained_in_single(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    plain = small_recipe(half=True, autoencoder={"folder": str(run_folder / "autoencoder" / "model")})
    train_generator(cohort, cohort.split(), plain, tmp_path / "half")
    train_generator(cohort, cohort.split(), recipe(tmp_path / "half" / "generator"), tmp_path / "on")
    stored, on = weights(tmp_path / "half", "denoiser"), weights(tmp_path / "on", "denoiser")
    assert next(iter(stored.values())).dtype == torch.float16
    assert next(iter(on.values())).dtype == torch.float32


def test_a_start_is_given_the_attention_a_recipe_asks_for(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    grown = recipe(run_folder / "generator", denoiser={"attention": "tokens"})
    train_generator(cohort, cohort.split(), grown, tmp_path)
    before, after = weights(run_folder, "denoiser"), weights(tmp_path, "denoiser")
    assert before.keys() < after.keys()
    assert max(float((before[n] - after[n]).abs().max()) for n in before) < 1e-3  # two steps of 1e-4
    new = [after[name] for name in after.keys() - before.keys() if "proj_out.weight" in name]
    assert new
    assert all(0 < float(weight.abs().max()) < 1e-3 for weight in new)  # silent at first, no longer
    # Taken up again, it is the same start that is found, for all the attention it was given.
    shutil.copytree(tmp_path / "generator", tmp_path / "has-it")
    shutil.rmtree(tmp_path / "generator")
    train_generator(cohort, cohort.split(), grown, tmp_path)
    # One that has it already is given nothing, so any part of it may be trained.
    has_it = small_recipe(
        start=str(tmp_path / "has-it"),
        train_denoiser={**LOOP, "train": "condnet"},
        denoiser={"attention": "tokens"},
    )
    train_generator(cohort, cohort.split(), has_it, tmp_path / "tuned")
    tuned = weights(tmp_path / "tuned", "denoiser")
    assert all(torch.equal(after[name], tuned[name]) for name in after)


def test_a_start_is_given_the_layers_a_recipe_asks_for(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    had = int(TissuePipeline.from_pretrained(run_folder / "generator").denoiser.config.layers_per_block)
    deeper = recipe(run_folder / "generator", denoiser={"layers": had + 1})
    train_generator(cohort, cohort.split(), deeper, tmp_path)
    grown = TissuePipeline.from_pretrained(tmp_path / "generator").denoiser
    assert grown.config.layers_per_block == had + 1
    assert all(0 < float(block.resnets[had].conv2.weight.abs().max()) < 1e-3 for block in grown.down_blocks)


def test_new_layers_are_refused_where_they_would_stay_silent(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    tuned = small_recipe(
        start=str(run_folder / "generator"),
        train_denoiser={**LOOP, "train": "condnet"},
        denoiser={"attention": "tokens"},
    )
    with pytest.raises(StainglassError, match="leaves silent"):
        train_generator(cohort, cohort.split(), tuned, tmp_path)


def test_a_starts_decoder_may_be_sharpened_and_its_latents_stay(
    run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    loop = {"sharpen_steps": 2, "batch": 2, "crop_px": 64, "warmup": 1, "log_every": 1}
    train_generator(
        cohort, cohort.split(), recipe(run_folder / "generator", train_autoencoder=loop), tmp_path
    )
    before, after = weights(run_folder, "autoencoder"), weights(tmp_path, "autoencoder")
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}
    facts = TissuePipeline.from_pretrained(tmp_path / "generator").facts
    assert facts is not None
    assert (facts.training["autoencoder steps"], facts.training["sharpening steps"]) == ("given", 2)
    assert facts.latent_mean == TissuePipeline.from_pretrained(run_folder / "generator").facts.latent_mean


def test_a_card_tells_what_was_gone_on_from(gone_on: Path, run_folder: Path, cohort: Cohort) -> None:
    card = judge_run(gone_on, cohort, recipe(run_folder / "generator", evaluation=SMALL))
    assert "gone on from small (4 steps before)" in card.trained_on


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


@pytest.mark.parametrize(
    "other",
    [
        {"clip": {}},
        {"autoencoder": {"folder": "somewhere"}},
        {"genes": {"pretrain_steps": 5}},
        {"denoiser": {"kind": "stable-diffusion", "source": "a/b"}},
    ],
)
def test_start_excludes_other_beginnings(run_folder: Path, other: dict[str, object]) -> None:
    with pytest.raises(StainglassError, match="start brings its own networks: leave"):
        recipe(run_folder / "generator", **other)


def test_an_autoencoder_that_has_seen_what_is_held_out_is_refused(
    cohort: Cohort, run_folder: Path, tmp_path: Path
) -> None:
    split = cohort.split()
    recipe = small_recipe(autoencoder={"folder": str(run_folder / "generator" / "autoencoder")})
    turned = replace(split, train=(*split.validation, *split.test), validation=(), test=split.train)
    with pytest.raises(StainglassError, match="was trained on"):
        train_generator(cohort, turned, recipe, tmp_path / "turned")
    assert not (tmp_path / "turned" / "denoiser").exists()
    facts = train_generator(cohort, split, recipe, tmp_path / "same").facts
    assert facts is not None
    assert facts.trained_on == split.train


def test_what_an_autoencoder_was_trained_on_is_remembered() -> None:
    own = Facts("x", 0.5, 64, 100.0, 5, ("E",), ("A",), (0.0,), (1.0,), trained_on=("S1",), patients=("P1",))
    lender = replace(own, name="y", trained_on=("S7",), patients=("P7",))
    found = own.decoded_by(lender)
    assert found.trained_on == ("S1", "S7")
    assert found.patients == ("P1", "P7")
    assert found.training[LENT_BY] == "y"
    assert own.decoded_by(own) == own
