import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from interrupted import stopped_and_gone_on
from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.facts import POLISHED
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import JUMPS
from stainglass.synthesis.noise import window_noise
from stainglass.training import polish
from stainglass.training.from_finished import polished_generator
from stainglass.training.polish import Polish, layout, load_eyes, refuse_unpolishable

FEW = {"solver": JUMPS, "steps": 2, "guidance": 1.0, "interval": [0.0, 1.0]}


@pytest.fixture(scope="module")
def eyes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("eyes") / "tiny"
    blocks = {"num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (1, 1, 1, 1)}
    AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, **blocks
    ).save_pretrained(folder)
    return folder


def plan(folder: Path, **changes: object) -> Recipe:
    loop = {"steps": 4, "batch": 2, "warmup": 1, "log_every": 1, "learning_rate": 2e-3, "bank": 32, "stay": 0.0,
            "eyes": [str(folder)], "precision": "no"}  # fmt: skip
    return small_recipe(polish={**loop, **changes}, sampling=FEW, half=True)


def few_steps(run_folder: Path) -> TissuePipeline:
    generator = TissuePipeline.from_pretrained(run_folder / "generator")
    assert generator.facts is not None
    generator.facts = replace(generator.facts, sampling=FEW)
    return generator


def polished(cohort: Cohort, run_folder: Path, recipe: Recipe, out: Path) -> TissuePipeline:
    generator, eyes = few_steps(run_folder), load_eyes(recipe.polish)
    return polished_generator(cohort, cohort.split(), recipe, "few", generator, eyes, out)


def test_the_denoiser_alone_is_moved_and_the_eyes_are_told(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path
) -> None:
    before, after = few_steps(run_folder), polished(cohort, run_folder, plan(eyes_folder), tmp_path)
    assert after.facts is not None
    for part in ("condnet", "autoencoder"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        for name, value in old.items():
            torch.testing.assert_close(new[name], value, atol=2e-3, rtol=2e-3)  # but for half precision
    pairs = zip(after.denoiser.parameters(), before.denoiser.parameters(), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) > 2e-3
    assert after.facts.training[POLISHED].startswith("4 steps of 2 conditions in the eyes of tiny ")
    assert [name.split()[0] for name in after.facts.took_part] == ["tiny"]
    assert after.facts.sampler == SamplerSettings.of(plan(eyes_folder).sampling)
    assert list((tmp_path / "polish" / "previews").glob("*.png"))


def test_a_share_of_the_weights_stays_as_it_was(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path
) -> None:
    before = few_steps(run_folder).denoiser.state_dict()
    after, mixed = (
        polished(cohort, run_folder, plan(eyes_folder, stay=stay), tmp_path / str(stay))
        for stay in (0.0, 0.75)
    )
    for name, value in mixed.denoiser.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * after.denoiser.state_dict()[name]
        torch.testing.assert_close(value, expected, atol=2e-3, rtol=2e-3)  # half precision
    assert mixed.facts is not None
    assert "of what was before 0.75 stays" in mixed.facts.training[POLISHED]


def test_it_is_the_same_when_it_was_stopped_and_goes_on(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = polished(cohort, run_folder, plan(eyes_folder), tmp_path / "whole")
    parts = stopped_and_gone_on(
        monkeypatch, lambda: polished(cohort, run_folder, plan(eyes_folder), tmp_path / "parts"), steps=4
    )
    for a, b in zip(parts.denoiser.parameters(), whole.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def objective_of(
    cohort: Cohort, run_folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> tuple[Polish, dict[str, torch.Tensor]]:
    """As training makes it, with a batch."""
    kept: list[tuple[Polish, dict[str, torch.Tensor]]] = []

    def stop(objective: Polish, examples: polish.TwoNoises, *rest: object, **more: object) -> None:
        some = [examples.example(i) for i in range(2)]
        batch = {key: torch.stack([torch.from_numpy(one[key]) for one in some]) for key in some[0]}
        kept.append((objective, batch))

    monkeypatch.setattr(polish, "train", stop)
    generator, eyes = few_steps(run_folder), load_eyes(recipe.polish)
    polish.polish_generator(cohort, cohort.split(), recipe, generator, eyes, Path("nowhere"))
    return kept[0]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_weight_hears_of_the_picture_though_half_the_way_has_no_gradient(
    cohort: Cohort,
    run_folder: Path,
    eyes_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: torch.dtype,
) -> None:
    objective, batch = objective_of(cohort, run_folder, plan(eyes_folder), monkeypatch)
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.ones(()))  # the last half of the steps
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        loss, told = objective(batch)
    loss.backward()
    silent = [name for name, p in objective.denoiser.named_parameters() if p.grad is None]
    assert not silent
    assert torch.isfinite(loss)
    assert float(told["score"]) > 0


def test_the_two_pictures_of_a_condition_are_not_pushed_apart_as_tissue_is(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, batch = objective_of(cohort, run_folder, plan(eyes_folder), monkeypatch)
    asked: list[list[int]] = []

    def distance(painted: torch.Tensor, owners: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        asked.append(owners.tolist())
        return painted.sum() * 0

    monkeypatch.setattr(polish, "energy_distance", distance)
    objective(batch)
    assert [0, 1, 0, 1] in asked  # two conditions, the first pictures of both and then the second


def test_pictures_before_are_remembered_and_the_oldest_forgotten(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, batch = objective_of(cohort, run_folder, plan(eyes_folder), monkeypatch)
    assert len(objective.looks) == 2  # a part, and the whole at half its size
    look = objective.looks[0]
    monkeypatch.setattr(torch, "randint", lambda high, size, **kwargs: torch.zeros(size, dtype=torch.long))
    start = look.before_whole.clone()
    objective(batch)
    assert torch.equal(look.before_whole[:-4], start[4:])
    assert not torch.equal(look.before_whole[-4:], start[-4:])
    assert "looks.0.before_whole" in objective.state_dict()
    assert "looks.0.real_whole" not in objective.state_dict()  # found again when a run goes on


def test_what_is_coarse_stays_as_it_was_painted(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path
) -> None:
    before, moved = few_steps(run_folder), []
    assert before.facts is not None
    windows = cohort.patches(cohort.split().train, 64)[:6]
    facts = before.facts
    told = ConditionTensors.of(cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots))
    noise = torch.from_numpy(window_noise(0, windows, len(facts.latent_mean)))
    for weight in (0.0, 1e4):
        recipe = plan(eyes_folder, layout=weight, steps=12)
        after = polished(cohort, run_folder, recipe, tmp_path / str(weight))
        old, new = (p.sample_latents(told, noise, facts.sampler) for p in (before, after))
        coarse = layout(new - old).square().mean()
        moved.append(float(coarse / (new - old).square().mean()))
    free, held = moved
    assert held < 0.5 * free  # of all that has changed, less is coarse


def test_the_bank_is_of_tissue_and_the_same_each_time(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = [
        objective_of(cohort, run_folder, plan(eyes_folder), monkeypatch)[0].looks[1].real_whole
        for _ in range(2)
    ]
    assert banks[0].shape[0] == 32
    assert torch.equal(*banks)


def test_what_cannot_be_polished_is_refused(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path
) -> None:
    many, sampling = TissuePipeline.from_pretrained(run_folder / "generator"), plan(eyes_folder).sampling
    with pytest.raises(StainglassError, match=r"Distil it to few steps first"):
        refuse_unpolishable(many, sampling, "run")
    with pytest.raises(StainglassError, match=r"2 steps of jumps, and the recipe says 3"):
        refuse_unpolishable(few_steps(run_folder), sampling.model_copy(update={"steps": 3}), "run")
    with pytest.raises(StainglassError, match="names no network"):
        load_eyes(plan(eyes_folder, eyes=[]).polish)
    polished(cohort, run_folder, plan(eyes_folder, steps=1), tmp_path / "run")
    other = tmp_path / "tiny"
    shutil.copytree(eyes_folder, other)
    found = AutoencoderTiny.from_pretrained(other)
    found.encoder.layers[0].weight.data.add_(1)
    found.save_pretrained(other)
    shutil.rmtree(tmp_path / "run" / "generator")
    with pytest.raises(StainglassError, match="began with few"):
        polished(cohort, run_folder, plan(other, steps=1), tmp_path / "run")
