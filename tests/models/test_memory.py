from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from stainglass.cohort.cohort import Cohort
from stainglass.config import DenoiserLoop
from stainglass.models.memory import plan_memory
from stainglass.training.tuning import choose_trained
from tiny_sd import tiny_checkpoint, tiny_unet
from verbs import call

SD_1_5 = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "cross_attention_dim": 768, "attention_head_dim": 8,
}  # fmt: skip


def plan(config: Any, train: Any = "lora", **changes: Any) -> Any:
    given = {"window_px": 64, "batch": 2, "tokens": 7, "lora_rank": 4}
    return plan_memory(config, train=train, **{**given, **changes})


def test_stable_diffusions_own_size() -> None:
    found = plan(SD_1_5, window_px=512, batch=8, lora_rank=32)
    assert found.weights == 859_520_964 * 4  # the published number of parameters
    assert found.total < 24e9
    assert plan(SD_1_5, "all", window_px=512, batch=8, optimiser="adamw-8bit").optimiser == 859_520_964 * 2


@pytest.mark.parametrize("train", ["condnet", "cross-attention", "lora", "all"])
def test_what_is_trained_is_what_training_trains(train: Any) -> None:
    unet = tiny_unet()
    choose_trained(unet, DenoiserLoop(train=train, lora_rank=4))
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    found = plan(dict(tiny_unet().config), train)
    assert found.gradients == found.average == 4 * trained
    assert found.optimiser == 8 * trained
    assert found.trained == (4 * trained if train == "lora" else 0)


def test_activations_are_those_autograd_keeps() -> None:
    """The same network on real tensors: every storage autograd keeps, weights left out."""
    unet: UNet2DConditionModel = tiny_unet()
    weights = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    x, told = torch.randn(2, 4, 8, 8), torch.randn(2, 7, unet.config.cross_attention_dim)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unet(x, torch.tensor([500, 500]), told)
    real = sum(storage.nbytes() for storage in kept.values())
    found = plan(dict(unet.config), gradient_checkpointing=False).activations
    assert found == pytest.approx(
        real, rel=0.1
    )  # kernels differ in small tensors they keep, such as log-sums


def test_checkpointing_and_smaller_batches_take_less() -> None:
    config = dict(tiny_unet().config)
    kept = plan(config, gradient_checkpointing=False, window_px=256)
    again = plan(config, gradient_checkpointing=True, window_px=256)
    assert again.activations < 0.7 * kept.activations
    assert plan(config, batch=1).activations == pytest.approx(plan(config).activations / 2, rel=0.1)
    assert kept.weights == again.weights


def test_a_dry_run_tells_the_memory_of_the_stage_that_takes_most(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_checkpoint(tmp_path / "sd")
    code, _, err = call(
        monkeypatch, capsys, "train", cohort.path, "--recipe", Path(__file__).parents[1] / "small.yaml",
        "--out", tmp_path / "run", "--set", "denoiser.kind=stable-diffusion", "--set", f"denoiser.source={source}",
        "--set", "train_denoiser.stages=[{train: condnet, steps: 2}, {train: all, steps: 2}]", "--dry-run",
    )  # fmt: skip
    assert code == 0, err
    assert "on a GPU: at most about" in err
    assert "in stage all" in err
