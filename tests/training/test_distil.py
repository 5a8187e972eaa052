import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from interrupted import stopped_and_gone_on
from small_recipe import small_recipe
from stainglass.cli.distil import distil as distil_command
from stainglass.cli.judge import _null_untaught, judge_run
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.facts import POLISHED
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import JUMPS
from stainglass.recipe_files import write_recipe
from stainglass.synthesis.noise import window_noise
from stainglass.training import distil
from stainglass.training.denoise import LatentCrops, LatentSpace
from stainglass.training.distil import Distil, few_step_sampling, load_guide, refuse_between_levels
from stainglass.training.from_finished import distilled_generator

SMALL = {"windows": 9, "noise_seeds": [0], "derange_um": 100.0, "bootstrap": 50, "recovery_genes": 10}


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
    teacher, split = TissuePipeline.from_pretrained(run_folder / "generator"), cohort.split()
    assert teacher.facts is not None
    guide = load_guide(cohort, split, recipe.distil, teacher.facts)
    return distilled_generator(cohort, split, recipe, teacher, out, guide)


def space_of(pipeline: TissuePipeline) -> LatentSpace:
    assert pipeline.facts is not None
    channels = len(pipeline.facts.latent_mean)
    return LatentSpace(pipeline.autoencoder, (), np.zeros(channels), np.ones(channels, np.float32))


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
    parts = stopped_and_gone_on(
        monkeypatch, lambda: distilled(cohort, run_folder, plan(), tmp_path / "parts"), steps=4
    )
    for a, b in zip(parts.denoiser.parameters(), whole.denoiser.parameters()):
        torch.testing.assert_close(a, b)


def test_few_steps_are_learnt_in_the_stains_the_teacher_was_given(
    cohort: Cohort, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cohort.path, tmp_path / "cohort")
    stained = Cohort.open(tmp_path / "cohort")
    drawn: list[LatentCrops] = []

    class Kept(LatentCrops):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(distil, "LatentCrops", Kept)
    recipe = plan(steps=1)
    loop = recipe.train_denoiser.model_copy(update={"stain_variants": 2, "stain_method": "reinhard"})
    distilled(stained, run_folder, recipe.model_copy(update={"train_denoiser": loop}), tmp_path / "few")
    (crops,) = drawn
    assert len(crops.space.restained) == 2
    as_it_is = copy.copy(crops)
    as_it_is.space = replace(crops.space, restained=())
    other = [abs(crops.example(i)["z"] - as_it_is.example(i)["z"]).max() > 0.01 for i in range(30)]
    assert 0.4 < np.mean(other) < 0.9  # two stains of three are not its own


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_windows_is_told_nothing_and_the_card_may_say_so(
    share: float, cohort: Cohort, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    plain = distil.Distil.forward

    def watched(self: distil.Distil, batch: Any) -> Any:
        told.extend(batch["present"].any(1).float().tolist())
        return plain(self, batch)

    monkeypatch.setattr(distil.Distil, "forward", watched)
    few = distilled(cohort, run_folder, plan(null_share=share, steps=6), tmp_path)
    assert few.facts is not None
    nothing = 1 - np.mean(told)
    assert nothing == 0 if share == 0 else 0 < nothing < 1
    assert _null_untaught(few.facts) == (share == 0)
    polished = replace(few.facts, training=few.facts.training | {POLISHED: "6 steps"})
    assert _null_untaught(polished)
    assert not _null_untaught(replace(few.facts, training={}))


def test_what_is_distilled_twice_tells_of_both(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    few = distilled(cohort, run_folder, plan(), tmp_path / "few")
    again = plan(guidance=1.0)
    assert few.facts is not None
    with pytest.raises(StainglassError, match="never taught the noise levels between"):
        refuse_between_levels(few.facts, again.distil, "few")
    refuse_between_levels(few.facts, plan(follow="euler", levels=2, substeps=1).distil, "few")
    fewer = distilled_generator(cohort, cohort.split(), again, few, tmp_path / "fewer")
    assert fewer.facts is not None
    both = "2 steps in 4 of training; then 2 steps in 4 of training"
    assert fewer.facts.training["distilled to"] == both
    assert fewer.facts.training["guidance learnt along"].endswith(" 0.9; then none")


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
    objective = Distil(pipeline, space_of(pipeline), plan(levels=2, substeps=16).distil)
    rate = {"told": 2.0, "null": 1.5}
    monkeypatch.setattr(distil, "predict_velocity", lambda net, x, t, told, flow: rate[told] * x)
    x, t = torch.randn(2, len(facts.latent_mean), 4, 4), torch.tensor([1.0, 0.5])
    found = objective._mean_velocity(x, t, "told", (pipeline.denoiser, "null"))
    # dx/dt = k x: where guidance acts (below 0.6) k = 1.5 + 3 (2 − 1.5) = 3, else 2; from 1 to .5 and from .5 to 0.
    shares = torch.tensor([1 - np.exp(-2 * 0.4 - 3 * 0.1), 1 - np.exp(-3 * 0.5)]) / 0.5
    torch.testing.assert_close(found, (shares[:, None, None, None] * x).float(), rtol=0.02, atol=0.02)


def test_eulers_steps_are_learnt_with_what_they_leave_out(
    pipeline: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(
        pipeline.facts, sampling={"solver": "euler", "steps": 4, "guidance": 1.0, "interval": [0.0, 1.0]}
    )
    monkeypatch.setattr(pipeline, "facts", facts)
    monkeypatch.setattr(distil, "predict_velocity", lambda net, x, t, told, flow: 2.0 * x)
    loop = plan(levels=2, substeps=2, follow="euler").distil
    objective = Distil(pipeline, space_of(pipeline), loop)
    x = torch.randn(1, len(facts.latent_mean), 4, 4)
    found = objective._mean_velocity(x, torch.tensor([1.0]), "told", (pipeline.denoiser, "null"))
    # Two steps of a quarter each leave (1 − 2/4)² of x, over a stretch of a half.
    torch.testing.assert_close(found, (1 - 0.5**2) / 0.5 * x)


def test_a_guide_is_told_the_same_spots_by_its_own_ear(
    cohort: Cohort, run_folder: Path, pipeline: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = TissuePipeline.from_pretrained(run_folder / "generator")
    for value in guide.condnet.parameters():
        value.data.mul_(1.5)
    objective = Distil(
        pipeline, space_of(pipeline), plan(substeps=16, guidance=2.0, interval=(0, 1)).distil, guide=guide
    )
    windows = cohort.patches(cohort.split().train, 64)[:2]
    facts = pipeline.facts
    told = ConditionTensors.of(cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots))
    z = torch.randn(2, len(facts.latent_mean), 8, 8)
    batch = {"z": z, **{name: value for name, value in vars(told).items() if value is not None}}
    network, heard = objective._away(batch)
    assert network is guide.denoiser
    torch.testing.assert_close(heard.tokens, guide.condnet(told).tokens)
    assert not torch.allclose(heard.tokens, pipeline.condnet(told).tokens)
    untold = plan(guidance=2.0, guide_told="nothing").distil
    heard_nothing = Distil(pipeline, space_of(pipeline), untold, guide=guide)._away(batch)[1]
    torch.testing.assert_close(heard_nothing.tokens, guide.condnet(told.null()).tokens)
    teacher = objective._teacher[0]
    monkeypatch.setattr(
        distil, "predict_velocity", lambda net, x, t, told, flow: (3.0 if net is teacher else 1.0) * x
    )
    loop_velocity = objective._mean_velocity(z, torch.tensor([0.5, 0.5]), heard, (network, heard))
    # dx/dt = (1 + 2 (3 − 1)) x = 5 x, from .5 to 0.
    torch.testing.assert_close(loop_velocity, (1 - float(np.exp(-2.5))) / 0.5 * z, rtol=0.02, atol=0.02)


def guide_of(run_folder: Path, folder: Path, **facts: object) -> Path:
    shutil.copytree(run_folder / "generator", folder)
    path = folder / "stainglass.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return folder


def test_what_a_guide_has_seen_is_told_and_another_one_is_not_gone_on_with(
    cohort: Cohort, run_folder: Path, tmp_path: Path
) -> None:
    seen = [*cohort.split().train, "X1"]
    guide = guide_of(run_folder, tmp_path / "guide", trained_on=seen, patients=["X"])
    recipe, out = plan(guide=str(guide), guidance=2.0), tmp_path / "few"
    few = distilled(cohort, run_folder, recipe, out)
    assert few.facts is not None
    assert "X1" in few.facts.trained_on
    assert "X" in few.facts.patients
    told = TissuePipeline.from_pretrained(guide).facts
    assert told is not None
    away = few.facts.training["guided away from"]
    assert away.startswith(f"{told.name} (")  # by name: a path is nobody else's business
    assert away.endswith("), told spots")
    assert few.facts.training["guidance learnt along"].startswith("2 at noise levels")
    # More sections than its own are in its facts, and it is still of these: it can be taught from once more.
    distilled_generator(cohort, cohort.split(), plan(), few, tmp_path / "fewer")
    card = judge_run(out, cohort, small_recipe(evaluation=SMALL))
    assert f"distilled away from {away}" in card.trained_on
    assert "X1" in card.trained_on
    shutil.rmtree(out / "generator")
    path = guide / "condnet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(StainglassError, match="began with"):
        distilled(cohort, run_folder, recipe, out)


@pytest.mark.parametrize(
    ("facts", "told"),
    [({"reach_um": 90.0}, "another reach_um"), ({"latent_mean": [0.0] * 16}, "another latent_mean")],
)
def test_a_guide_of_another_world_is_refused(
    cohort: Cohort, run_folder: Path, tmp_path: Path, facts: dict[str, object], told: str
) -> None:
    guide = guide_of(run_folder, tmp_path / "guide", **facts)
    with pytest.raises(StainglassError, match=told):
        distilled(cohort, run_folder, plan(guide=str(guide)), tmp_path / "few")


def test_a_guide_needs_guidance(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    recipe = plan(guide=str(run_folder / "generator"), guidance=1.0)
    with pytest.raises(StainglassError, match="not guided at all"):
        distilled(cohort, run_folder, recipe, tmp_path)


def test_a_refused_guide_leaves_nothing_behind(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    guide = guide_of(run_folder, tmp_path / "guide", reach_um=90.0)
    run = guide_of(run_folder, tmp_path / "run" / "generator").parent
    write_recipe(small_recipe(), run / "recipe.yaml")
    told = (f"distil.guide={guide}", "distil.guidance=2")
    with pytest.raises(StainglassError, match="another reach_um"):
        distil_command(run, out=tmp_path / "few", cohort=cohort.path, sets=told)
    assert not (tmp_path / "few").exists()


def test_a_guide_that_has_seen_what_is_held_out_is_refused(
    cohort: Cohort, run_folder: Path, tmp_path: Path
) -> None:
    held_out = cohort.split().part("test")
    guide = guide_of(run_folder, tmp_path / "guide", trained_on=list(held_out))
    with pytest.raises(StainglassError, match="its split holds out"):
        distilled(cohort, run_folder, plan(guide=str(guide)), tmp_path / "few")


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
