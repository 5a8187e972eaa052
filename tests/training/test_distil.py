from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError, StopRequested
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import SamplerSettings, TissuePipeline
from stainglass.models.solver import JUMPS
from stainglass.synthesis.noise import window_noise
from stainglass.training import distil
from stainglass.training.denoise import LatentSpace
from stainglass.training.distil import Distil, few_step_sampling
from stainglass.training.stages import distilled_generator


def plan(**changes: object) -> Recipe:
    loop = {
        "steps": 4,
        "batch": 2,
        "levels": 2,
        "warmup": 1,
        "log_every": 1,
        "learning_rate": 2e-3,
        **changes,
    }
    recipe = small_recipe(distil=loop, half=True)
    return recipe.model_copy(update={"sampling": few_step_sampling(recipe.sampling, recipe.distil)})


def distilled(cohort: Cohort, run_folder: Path, recipe: Recipe, out: Path) -> TissuePipeline:
    teacher = TissuePipeline.from_pretrained(run_folder / "generator")
    return distilled_generator(cohort, cohort.split(), recipe, teacher, out)


def test_a_few_step_generator_knows_how_it_is_sampled_and_keeps_what_it_hears_by(
    cohort: Cohort, run_folder: Path, pipeline: TissuePipeline, tmp_path: Path
) -> None:
    few = distilled(cohort, run_folder, plan(), tmp_path)
    assert few.facts is not None
    assert few.denoiser.dtype == few.condnet.dtype == torch.float32  # whatever the files hold
    assert few.facts.sampler.solver == JUMPS
    assert (few.facts.sampler.steps, few.facts.sampler.guidance) == (2, 1.0)
    assert few.facts.training["distilled to"] == "2 steps in 4 of training"
    for name, value in few.condnet.state_dict().items():
        before = pipeline.condnet.state_dict()[name]
        torch.testing.assert_close(value, before, atol=2e-3, rtol=2e-3)  # but for half precision
    moved = [
        float((a - b).abs().max()) for a, b in zip(few.denoiser.parameters(), pipeline.denoiser.parameters())
    ]
    assert max(moved) > 4e-3
    saved = {
        path: path.stat().st_size for path in (tmp_path / "generator" / "denoiser").glob("*.safetensors")
    }
    whole = sum(p.numel() for p in few.denoiser.parameters())
    assert sum(saved.values()) < 2.2 * whole  # two bytes a weight


def test_it_is_the_same_when_it_was_stopped_and_goes_on(
    cohort: Cohort, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distilled(cohort, run_folder, plan(), tmp_path / "whole")
    from stainglass.training import loop as loop_module

    record, calls = loop_module._Run.record, []

    def stops(self: object, done: int, figures: dict[str, float]) -> None:
        record(self, done, figures)  # type: ignore[arg-type]
        calls.append(done)
        if done == 2 and len(calls) == 2:
            loop_module._Run.checkpoint(self, done)  # type: ignore[arg-type]
            raise StopRequested("stopped")

    monkeypatch.setattr(loop_module._Run, "record", stops)
    with pytest.raises(StopRequested):
        distilled(cohort, run_folder, plan(), tmp_path / "parts")
    parts = distilled(cohort, run_folder, plan(), tmp_path / "parts")
    assert calls == [1, 2, 3, 4]
    for a, b in zip(parts.denoiser.parameters(), whole.denoiser.parameters()):
        torch.testing.assert_close(a, b)


def test_a_cohort_it_was_not_trained_on_is_refused(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    teacher = TissuePipeline.from_pretrained(run_folder / "generator")
    split = replace(cohort.split(), train=cohort.split().train[:1])
    with pytest.raises(StainglassError, match="are not the generator's"):
        distilled_generator(cohort, split, plan(), teacher, tmp_path)


def test_the_mean_velocity_is_that_of_the_guided_flow(
    cohort: Cohort, pipeline: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(
        pipeline.facts, sampling={"solver": "euler", "steps": 9, "guidance": 3.0, "interval": [0.0, 0.6]}
    )
    monkeypatch.setattr(pipeline, "facts", facts)
    channels = len(facts.latent_mean)
    space = LatentSpace(pipeline.autoencoder, (), np.zeros(channels), np.ones(channels, np.float32))
    objective = Distil(pipeline, space, plan(levels=2, substeps=16).distil)
    rate = {"told": 2.0, "null": 1.5}
    monkeypatch.setattr(distil, "predict_velocity", lambda net, x, t, told, flow: rate[told] * x)
    x, t = torch.randn(2, channels, 4, 4), torch.tensor([1.0, 0.5])
    found = objective._mean_velocity(x, t, "told", "null")
    # dx/dt = k x: where guidance acts (below 0.6) k = 1.5 + 3 (2 − 1.5) = 3, else 2; from 1 to .5 and from .5 to 0.
    shares = torch.tensor([1 - np.exp(-2 * 0.4 - 3 * 0.1), 1 - np.exp(-3 * 0.5)]) / 0.5
    torch.testing.assert_close(found, (shares[:, None, None, None] * x).float(), rtol=0.02, atol=0.02)


def test_two_steps_come_nearer_to_where_many_lead(
    cohort: Cohort, run_folder: Path, pipeline: TissuePipeline, tmp_path: Path
) -> None:
    few = distilled(cohort, run_folder, plan(steps=30, batch=4, learning_rate=3e-3, warmup=5), tmp_path)
    assert few.facts is not None
    windows = cohort.patches(cohort.split().part("test"), few.facts.window_px)[:8]
    told = cohort.conditions(windows, few.facts.axis, few.facts.reach_um, few.facts.max_spots)

    def latents(generator: TissuePipeline, settings: SamplerSettings) -> torch.Tensor:
        noise = torch.from_numpy(window_noise(5, windows, len(few.facts.latent_mean)))
        return generator.sample_latents(ConditionTensors.of(told), noise, settings)

    taught = pipeline.facts.sampler
    wanted = latents(pipeline, replace(taught, solver="euler", steps=64))
    few_error = (latents(few, few.facts.sampler) - wanted).pow(2).mean()
    own_error = (latents(pipeline, replace(taught, solver=JUMPS, steps=2)) - wanted).pow(2).mean()
    assert few_error < 0.8 * own_error
