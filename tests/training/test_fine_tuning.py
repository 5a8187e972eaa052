import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from small_recipe import small_recipe
from stainglass.cli.judge import _length
from stainglass.cohort.cohort import Cohort
from stainglass.config import DenoiserLoop, Loop, Recipe
from stainglass.errors import StainglassError
from stainglass.models.denoiser import hear, make_sd_unet, make_unet, predict_velocity
from stainglass.models.flow import RECTIFIED
from stainglass.models.genecondnet import GeneCondNet
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.stable_diffusion import find_checkpoint
from stainglass.recipe_files import recipe_from_tree
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace, conditions_of
from stainglass.training.denoiser import told_sections
from stainglass.training.optimiser import make_optimiser
from stainglass.training.stages import train_generator
from stainglass.training.tuning import choose_trained, finish_stage
from tiny_sd import TWO, WIDTH, scheduler_of, tiny_checkpoint, tiny_vae

STAGES: tuple[dict[str, Any], ...] = (
    {"train": "condnet", "steps": 2},
    {"train": "cross-attention", "steps": 2},
    {"train": "lora", "steps": 2, "learning_rate": 2e-3},
)


def recipe(source: Path, stages: tuple[dict[str, Any], ...] = STAGES, **loop: Any) -> Recipe:
    return small_recipe(
        denoiser={"kind": "stable-diffusion", "source": str(source)},
        train_denoiser={
            "stages": list(stages), "batch": 2, "warmup": 1, "log_every": 1, "turns": False, "lora_rank": 3,
            "checkpoint_every": 1, "learning_rate": 1e-3, "gradient_checkpointing": True, **loop,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("sd"), scheduler_of("v_prediction", True), **TWO)


@pytest.fixture(scope="module")
def tuned(source: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three stages from a checkpoint."""
    folder = tmp_path_factory.mktemp("tuned")
    train_generator(cohort, cohort.split(), recipe(source, min_snr=5.0), folder)
    return folder


def unet_of(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        run / "generator" / "denoiser" / "diffusion_pytorch_model.safetensors"
    )
    return found


def test_every_stage_changes_what_it_names_and_nothing_else(tuned: Path, source: Path) -> None:
    before = load_file(source / "unet" / "diffusion_pytorch_model.safetensors")
    after = unet_of(tuned)
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(".attn" in name for name in changed)
    assert any("attn1.to_q" in name for name in changed)
    first = load_file(tuned / "denoiser/stages/1-condnet/checkpoints/step-0000002/model.safetensors")
    second = load_file(tuned / "denoiser/stages/2-cross-attention/checkpoints/step-0000002/model.safetensors")
    assert {name.split(".")[0] for name in first} == {"condnet"}
    trained = {name for name in second if not name.startswith("condnet")}
    assert trained
    assert all("attn2.to_k" in name or "attn2.to_v" in name for name in trained)


def test_the_generator_keeps_the_checkpoints_settings_and_tells_its_origin(tuned: Path, source: Path) -> None:
    found = TissuePipeline.from_pretrained(tuned / "generator")
    assert found.facts is not None
    assert found.condnet.config.width == WIDTH
    assert found.scheduler.config.prediction_type == "v_prediction"
    assert found.flow.top == 1.0
    np.testing.assert_allclose(found.facts.latent_std, 1 / 0.18215, rtol=1e-6)
    assert found.facts.training["fine-tuned from"] == str(source)
    assert found.facts.training["stages"] == "condnet 2, cross-attention 2, lora 2"
    assert (tuned / "denoiser" / "previews" / "step-0000002.png").is_file()


def test_the_lora_folder_gives_plain_diffusers_the_merged_network(tuned: Path, source: Path) -> None:
    plain = find_checkpoint(str(source)).load_unet()
    second = load_file(tuned / "denoiser/stages/2-cross-attention/checkpoints/step-0000002/ema.safetensors")
    attention = {n.removeprefix("denoiser."): v for n, v in second.items() if n.startswith("denoiser.")}
    plain.load_state_dict(attention, strict=False)
    own = StableDiffusionPipeline(
        vae=tiny_vae(), text_encoder=None, tokenizer=None, unet=plain, scheduler=scheduler_of(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    own.load_lora_weights(tuned / "denoiser" / "lora")
    merged = find_checkpoint(str(source)).load_unet()
    merged.load_state_dict(unet_of(tuned))
    x, told = torch.randn(1, 4, 8, 8), torch.randn(1, 5, WIDTH)
    with torch.no_grad():
        found, without = plain(x, 500, told).sample, merged(x, 500, told).sample
        plain.disable_lora()
        bare = plain(x, 500, told).sample
    torch.testing.assert_close(found, without, atol=1e-5, rtol=1e-4)
    assert (bare - without).abs().max() > 1e-6


def test_a_stopped_fine_tuning_goes_on_as_if_it_had_not(
    tuned: Path, source: Path, cohort: Cohort, tmp_path: Path
) -> None:
    shutil.copytree(tuned, tmp_path / "again")
    again = tmp_path / "again"
    shutil.rmtree(again / "generator")
    shutil.rmtree(again / "denoiser" / "checkpoints" / "step-0000002")
    train_generator(cohort, cohort.split(), recipe(source, min_snr=5.0), again)
    for name, value in unet_of(again).items():
        torch.testing.assert_close(value, unet_of(tuned)[name], rtol=0, atol=0)


def test_a_fresh_network_of_the_family_trains_in_a_given_latent_space(
    source: Path, cohort: Cohort, tmp_path: Path
) -> None:
    plan = small_recipe(
        autoencoder={"folder": str(source / "vae")},
        denoiser={"kind": "stable-diffusion", "widths": [32, 32], "heads_of": 16, "pooled": "none"},
        train_denoiser={"steps": 2, "batch": 2, "warmup": 1, "turns": False, "noise_offset": 0.1},
    )
    found = train_generator(cohort, cohort.split(), plan, tmp_path)
    assert found.hears_tokens_alone
    assert found.facts is not None
    assert not found.facts.pooled
    assert found.denoiser.config.cross_attention_dim == plan.genes.width
    assert found.scheduler.config.rescale_betas_zero_snr


def test_other_latents_and_a_source_without_its_kind_are_refused(
    source: Path, run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    plan = recipe(source)
    other = plan.model_copy(
        update={
            "autoencoder": plan.autoencoder.model_copy(
                update={"folder": str(run_folder / "autoencoder" / "model")}
            )
        }
    )
    with pytest.raises(StainglassError, match="takes latents of 4 channels, the autoencoder gives 16"):
        train_generator(cohort, cohort.split(), other, tmp_path)
    with pytest.raises(StainglassError, match="source needs kind: stable-diffusion"):
        recipe_from_tree({"name": "x", "denoiser": {"source": "a/b"}}, Path("x"))


def test_stages_follow_each_other_and_replace_steps() -> None:
    loop = DenoiserLoop(steps=7, learning_rate=0.5, stages=STAGES)  # type: ignore[arg-type]
    assert [(s.train, s.steps, s.learning_rate) for s in loop.in_stages()] == [
        ("condnet", 2, 0.5), ("cross-attention", 2, 0.5), ("lora", 2, 2e-3)
    ]  # fmt: skip
    assert loop.all_steps == 6
    assert DenoiserLoop(steps=7).in_stages()[0].steps == DenoiserLoop(steps=7).all_steps == 7


@pytest.mark.parametrize("train", ["condnet", "cross-attention", "lora", "all"])
def test_gradient_checkpointing_changes_no_gradient(train: str) -> None:
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        unet = make_sd_unet((32, 32), 1, 16, 4, 8, 32)
        loop = DenoiserLoop(train=train, lora_rank=2, gradient_checkpointing=checkpointing)  # type: ignore[arg-type]
        choose_trained(unet, loop)
        unet.train()
        x, told = torch.ones(1, 4, 8, 8), torch.ones(1, 3, 32, requires_grad=True)
        unet(x, 300, told).sample.pow(2).sum().backward()
        assert told.grad is not None
        found = {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}
        return {"told": told.grad, **found}

    with_it, without = gradients(True), gradients(False)
    assert with_it.keys() == without.keys()
    assert (len(with_it) == 1) is (train == "condnet")
    for name, value in with_it.items():
        torch.testing.assert_close(value, without[name])


def test_cross_attention_is_all_that_reads_tokens_also_where_a_block_hears_nothing_else() -> None:
    unet = make_unet((32, 32), 1, 16, 4, 8, 32, "tokens")
    choose_trained(unet, DenoiserLoop(train="cross-attention"))
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    where = {name.rsplit(".transformer_blocks.0.", 1)[0] for name in trained}
    assert {name.split(".")[1] for name in where if name.startswith("up_blocks")} == {"0", "1"}
    finest = ("down_blocks.0", "up_blocks.1")
    for block in where:
        parts = {name.rsplit(".transformer_blocks.0.", 1)[1] for name in trained if name.startswith(block)}
        read = {f"attn2.{one}.weight" for one in ("to_k", "to_v")}
        assert parts == (
            read | {n.replace("attn2", "attn1") for n in read} if block.startswith(finest) else read
        )


def test_merging_a_lora_leaves_a_plain_network_with_the_same_answer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = make_sd_unet((32, 32), 1, 16, 4, 8, 32).eval()
    names = set(unet.state_dict())
    loop = DenoiserLoop(train="lora", lora_rank=2)
    choose_trained(unet, loop)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    x, told = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 32)
    with torch.no_grad():
        before = unet(x, 300, told).sample
        finish_stage(unet, loop, tmp_path)
        torch.testing.assert_close(unet(x, 300, told).sample, before, atol=1e-5, rtol=1e-4)
    assert set(unet.state_dict()) == names
    assert (tmp_path / "lora" / "pytorch_lora_weights.safetensors").is_file()


@pytest.fixture
def crops_of(cohort: Cohort, run_folder: Path) -> Callable[[DenoiserLoop], LatentCrops]:
    facts = (generator := TissuePipeline.from_pretrained(run_folder / "generator")).facts
    assert facts is not None
    training = cohort.split().train
    folder = cohort.sections[training[0]].path / "latent"
    raster = next(p.name for p in folder.iterdir() if "tissue" in p.name)
    mean, std = (np.asarray(v, np.float32) for v in (facts.latent_mean, facts.latent_std))
    space = LatentSpace(generator.autoencoder, (raster,), mean, std)
    return lambda loop: LatentCrops(
        cohort, training, facts.axis, space, small_recipe().genes, loop,
        size_px=64, reach_um=115.0, max_spots=4, flow=RECTIFIED,
    )  # fmt: skip


def test_noise_offset_shifts_whole_channels(crops_of: Callable[[DenoiserLoop], LatentCrops]) -> None:
    def spread(offset: float) -> float:
        crops = crops_of(DenoiserLoop(noise_offset=offset))
        noise = np.stack([crops.example(i)["noise"] for i in range(40)])
        return float(noise.mean((2, 3)).std())

    assert spread(0.0) == pytest.approx(1 / 8, rel=0.1)
    assert spread(0.5) == pytest.approx((1 / 64 + 0.25) ** 0.5, rel=0.1)


def loss_of(**settings: float) -> tuple[float, float]:
    """Of two latent windows at noise level 0.1, by an untrained network: the loss and the mean turn of its answer."""
    torch.manual_seed(0)
    condnet = GeneCondNet(12, width=32, tokens=2)
    space = LatentSpace(None, ("x",), np.zeros(4, np.float32), np.ones(4, np.float32))
    g = torch.Generator().manual_seed(0)
    batch = {
        "z": torch.randn(2, 4, 8, 8, generator=g), "noise": torch.randn(2, 4, 8, 8, generator=g),
        "t": torch.tensor([0.1, 0.1]), "counts": torch.ones(2, 1, 12), "offsets_um_yx": torch.zeros(2, 1, 2),
        "diameters_um": torch.full((2, 1), 55.0), "present": torch.ones(2, 1, dtype=torch.bool),
        "measured": torch.ones(2, 12, dtype=torch.bool),
    }  # fmt: skip
    unet = make_sd_unet((32, 32), 1, 16, 4, 8, 32)
    objective = Denoise(condnet, unet, space, RECTIFIED, **settings)
    with torch.no_grad():
        x = 0.9 * batch["z"] + 0.1 * batch["noise"]
        told = hear(unet, condnet(conditions_of(batch)), condnet, True)
        v, wanted = predict_velocity(unet, x, batch["t"], told, RECTIFIED), batch["noise"] - batch["z"]
        norms = v.flatten(1).norm(dim=1) * wanted.flatten(1).norm(dim=1)
        turned = 1 - (v * wanted).flatten(1).sum(1) / norms
        return objective(batch)[0].item(), turned.mean().item()


def test_min_snr_weighs_the_loss() -> None:
    plain, weighed = loss_of()[0], loss_of(min_snr=5.0)[0]
    assert weighed == pytest.approx(plain * 5 * 0.1**2, rel=1e-4)  # SNR is 81 there


def test_the_direction_of_the_velocity_counts_beside_its_error() -> None:
    plain, turned = loss_of()
    assert 0.01 < turned < 2
    assert loss_of(direction=0.5)[0] == pytest.approx(plain + 0.5 * turned, rel=1e-4)


def test_all_noise_levels_as_often_when_asked(crops_of: Callable[[DenoiserLoop], LatentCrops]) -> None:
    def outer(times: Literal["flow", "even"]) -> float:
        """Share of levels in the outer fifths."""
        crops = crops_of(DenoiserLoop(times=times))
        levels = np.array([crops.example(i)["t"] for i in range(300)])
        assert levels.min() >= 0
        assert levels.max() <= 1
        return float(((levels < 0.2) | (levels > 0.8)).mean())

    assert outer("even") == pytest.approx(0.4, abs=0.08)
    assert outer("flow") == pytest.approx(0.17, abs=0.06)  # a standard normal's share beyond ±1.39


def test_unpaired_sections_are_never_told(
    crops_of: Callable[[DenoiserLoop], LatentCrops], cohort: Cohort
) -> None:
    train = cohort.split().train
    assert len(train) == 2
    plain = crops_of(DenoiserLoop(null_share=0.0))
    crops = crops_of(DenoiserLoop(null_share=0.0, unpaired=train[1:], unpaired_share=0.4))
    told, windows = [], []
    for places in (crops.places, crops.untold):
        assert places is not None
        draw = places.draw
        places.draw = lambda rng, anywhere, draw=draw, places=places: (
            windows.append(places) or draw(rng, anywhere)
        )  # type: ignore[func-returns-value, misc, method-assign]
    for i in range(200):
        told.append(bool(crops.example(i)["present"].any()))
    assert [places is crops.places for places in windows] == told  # all of one section, none of the other
    assert np.mean(told) == pytest.approx(0.6, abs=0.1)
    assert [s.id for s in crops.places.sections] == [train[0]]
    assert all(plain.example(i)["present"].any() for i in range(20))
    left_out = crops_of(DenoiserLoop(null_share=0.0, unpaired=train[1:], unpaired_share=0.0))
    assert all(left_out.example(i)["present"].any() for i in range(20))


def test_a_strange_unpaired_section_is_refused(cohort: Cohort) -> None:
    split = cohort.split()
    with pytest.raises(StainglassError, match="nowhere is not in the training part"):
        told_sections(split, DenoiserLoop(unpaired=("nowhere",)))
    with pytest.raises(StainglassError, match="names every training section"):
        told_sections(split, DenoiserLoop(unpaired=split.train))
    assert told_sections(split, DenoiserLoop(unpaired=split.train[:1])) == split.train[1:]


def test_optimisers_take_what_is_trained() -> None:
    frozen, free = torch.nn.Parameter(torch.ones(2), requires_grad=False), torch.nn.Parameter(torch.ones(2))
    for name in ("adamw", "adamw-fused"):
        optimiser = make_optimiser(Loop(optimiser=name), [frozen, free])  # type: ignore[arg-type]
        assert optimiser.param_groups[0]["params"] == [free]
        free.grad = torch.ones(2)
        optimiser.step()
    assert (free < 1).all()


def test_eight_bits_without_the_package_are_said() -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(StainglassError, match="bitsandbytes is not installed"):
        make_optimiser(Loop(optimiser="adamw-8bit"), [torch.nn.Parameter(torch.ones(1))])


def test_checkpoints_hold_nothing_frozen(tuned: Path, source: Path) -> None:
    whole = sum(
        v.numel() for v in load_file(source / "unet" / "diffusion_pytorch_model.safetensors").values()
    )
    for stage in ("denoiser/stages/1-condnet", "denoiser"):
        folder = tuned / stage / "checkpoints" / "step-0000002"
        held = load_file(folder / "model.safetensors")
        assert sum(v.numel() for n, v in held.items() if n.startswith("denoiser")) < whole / 10
        assert load_file(folder / "ema.safetensors").keys() <= held.keys()
        assert json.loads((folder / "state.json").read_text())["step"] == 2


def test_a_checkpoint_that_moved_on_is_not_gone_on_with(
    tuned: Path, source: Path, cohort: Cohort, tmp_path: Path
) -> None:
    shutil.copytree(tuned, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "generator")
    (tmp_path / "again" / "checkpoint.json").write_text('{"source": "someone/sd@0123abcd"}')
    with pytest.raises(StainglassError, match=r"began with someone/sd@0123abcd"):
        train_generator(cohort, cohort.split(), recipe(source), tmp_path / "again")


def test_the_card_tells_every_stage(source: Path) -> None:
    loop = recipe(source).train_denoiser
    told = f"6 steps (condnet 2, cross-attention 2, lora 2) of {loop.batch * loop.accumulate} windows"
    assert _length(loop, {}) == told
