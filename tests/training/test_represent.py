"""The middle of a denoiser held to what a frozen network sees."""

from pathlib import Path

import pytest
import torch

from small_recipe import small_recipe
from stainglass.cli.judge import judge_run
from stainglass.cohort.cohort import Cohort
from stainglass.config import Denoiser
from stainglass.models.denoiser import make_denoiser, predict_velocity
from stainglass.models.flow import RECTIFIED
from stainglass.models.genecondnet import Embedded
from stainglass.training.represent import Represent
from stainglass.training.stages import train_generator


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_the_denoiser_can_learn_what_the_frozen_network_sees(kind: str) -> None:
    torch.manual_seed(0)
    widths = (32, 32) if kind == "unet" else (64,)
    denoiser = make_denoiser(Denoiser(kind=kind, widths=widths, layers=2), 4, 8, 32)  # type: ignore[arg-type]
    represent = Represent(denoiser)
    assert not any("frozen" in name for name in represent.state_dict())
    pixels = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    x, heard = torch.randn(2, 4, 8, 8), torch.ones(2, 3, dtype=torch.bool)
    told = Embedded(torch.randn(2, 3, 32), heard, torch.randn(2, 32))
    optimiser = torch.optim.Adam([*denoiser.parameters(), *represent.parameters()], 2e-3)
    losses = []
    for _ in range(12):
        predict_velocity(denoiser, x, torch.full((2,), 0.5), told, RECTIFIED)
        loss = represent(pixels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    inner = [p for name, p in denoiser.named_parameters() if "down" in name or "transformer_blocks.0" in name]
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in inner)
    assert losses[-1] < 0.8 * losses[0]


def test_a_released_denoiser_is_as_it_was() -> None:
    denoiser = make_denoiser(Denoiser(widths=(32, 32)), 4, 8, 32)
    represent = Represent(denoiser)
    represent.release()
    assert not denoiser.mid_block._forward_hooks


def test_the_network_it_was_held_to_does_not_judge(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    recipe = small_recipe(
        autoencoder={"folder": str(run_folder / "autoencoder" / "model")},
        train_denoiser={"steps": 1, "batch": 2, "warmup": 0, "log_every": 1, "representation": 0.5},
        evaluation={"windows": 9, "noise_seeds": [0], "derange_um": 100.0, "bootstrap": 50, "recovery_genes": 10},
    )  # fmt: skip
    train_generator(cohort, cohort.split(), recipe, tmp_path)
    line = (tmp_path / "denoiser" / "metrics.jsonl").read_text().splitlines()[0]
    assert '"unlike"' in line
    with pytest.raises(Exception, match="no judge is left of EfficientNet-Lite0"):
        judge_run(tmp_path, cohort, recipe)
