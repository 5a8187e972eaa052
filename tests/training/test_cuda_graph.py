import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stainglass.config import DenoiserLoop, DistilLoop, Loop
from stainglass.training.batches import rng_of
from stainglass.training.cuda_graph import PLAIN_CALLS, Replayed
from stainglass.training.loop import Objective, train
from stainglass.training.optimiser import make_optimiser, set_learning_rate

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Line:
    """y = 3x − 1."""

    def example(self, position: int) -> dict[str, np.ndarray]:
        x = rng_of(5, position).standard_normal(4, dtype=np.float32)
        return {"x": x, "y": 3 * x - 1}


class Fit(Objective):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = (self.net(batch["x"]) - batch["y"]).pow(2).mean()
        return loss, {"error": loss.detach().sqrt()}


class ReadsBack(Fit):
    """Its step asks the GPU for a number, which a recording cannot."""

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, told = super().forward(batch)
        return loss * (1.0 if float(loss.detach()) > 0 else 2.0), told


def settings(**changes: object) -> Loop:
    told = {"steps": 20, "batch": 4, "warmup": 3, "checkpoint_every": 7, "precision": "no", **changes}
    return Loop(**told)  # type: ignore[arg-type]


def trained(
    folder: Path, cuda_graph: bool, objective: Objective | None = None, **changes: object
) -> torch.Tensor:
    done = train(objective or Fit(), Line(), settings(**changes), folder, "fit", cuda_graph=cuda_graph)
    return torch.cat([p.detach().flatten().cpu() for p in done.parameters()])


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_the_setting_changes_nothing(tmp_path: Path) -> None:
    assert torch.equal(trained(tmp_path / "plain", False), trained(tmp_path / "asked", True))


def test_a_rate_that_a_recording_reads_is_set_in_place() -> None:
    layer = nn.Linear(2, 2)
    optimiser = make_optimiser(settings(), layer.parameters(), recorded=True)
    where = optimiser.param_groups[0]["lr"]
    set_learning_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] is where
    assert float(where) == 0.25


def test_a_plain_rate_is_a_number() -> None:
    optimiser = make_optimiser(settings(), nn.Linear(2, 2).parameters())
    set_learning_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] == 0.25


@on_a_gpu
@pytest.mark.parametrize("optimiser", ["adamw", "adamw-fused"])
def test_a_replayed_training_is_the_plain_one(tmp_path: Path, optimiser: str) -> None:
    plain = trained(tmp_path / "plain", False, optimiser=optimiser)
    replayed = trained(tmp_path / "replayed", True, optimiser=optimiser)
    assert not torch.equal(plain, torch.cat([p.detach().flatten() for p in Fit().parameters()]))
    torch.testing.assert_close(replayed, plain, rtol=1e-4, atol=1e-6)


@on_a_gpu
def test_a_replayed_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", True, keep=9)
    last = sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1]
    last.rename(tmp_path / "put-aside")
    torch.testing.assert_close(trained(tmp_path / "whole", True, keep=9), whole, rtol=1e-4, atol=1e-6)


@on_a_gpu
def test_examples_may_be_drawn_by_others(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", False)
    torch.testing.assert_close(trained(tmp_path / "replayed", True, workers=2), plain, rtol=1e-4, atol=1e-6)


@on_a_gpu
def test_another_thread_may_pin_memory_while_a_step_is_recorded() -> None:
    """As the one does that hands on examples drawn by other processes."""
    sizes = iter(range(20, 30))

    def work(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        other = threading.Thread(target=lambda: torch.empty(1 << next(sizes), pin_memory=True))
        other.start()
        other.join()
        return {"sum": batch["x"].sum()}

    replayed = Replayed(work)
    for k in range(PLAIN_CALLS + 2):
        assert float(replayed({"x": torch.full((3,), float(k))})["sum"]) == 3 * k


@on_a_gpu
def test_every_batch_is_worked_on_and_told() -> None:
    total = torch.zeros((), device="cuda")

    def work(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        total.add_(batch["x"].sum())
        return {"sum": batch["x"].sum()}

    replayed = Replayed(work)
    told = [float(replayed({"x": torch.full((3,), float(k))})["sum"]) for k in range(PLAIN_CALLS + 3)]
    assert told == [3.0 * k for k in range(PLAIN_CALLS + 3)]
    assert float(total) == sum(told)


@on_a_gpu
def test_what_is_released_works_anew() -> None:
    replayed = Replayed(lambda batch: {"sum": batch["x"].sum()})
    for size in (3, 5):
        for _ in range(PLAIN_CALLS + 2):
            assert float(replayed({"x": torch.ones(size)})["sum"]) == size
        replayed.release()


@on_a_gpu
def test_a_step_that_reads_a_number_back_is_refused() -> None:
    """In a process of its own: CUDA's random numbers may be out of step after a recording that broke off."""
    code = (
        "from pathlib import Path; from tempfile import mkdtemp; from test_cuda_graph import ReadsBack, trained; "
        "trained(Path(mkdtemp()), True, objective=ReadsBack())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert "cannot be recorded" in ended.stderr


@on_a_gpu
def test_fp16_is_trained_plainly(tmp_path: Path) -> None:
    asked = trained(tmp_path / "asked", True, precision="fp16")
    torch.testing.assert_close(
        asked, trained(tmp_path / "plain", False, precision="fp16"), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("loop", "changes"),
    [
        (DenoiserLoop, {"accumulate": 2}),
        (DenoiserLoop, {"gradient_checkpointing": True}),
        (DenoiserLoop, {"optimiser": "adamw-8bit"}),
        (DistilLoop, {"accumulate": 2}),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_the_recipe(
    loop: type[Loop], changes: dict[str, object]
) -> None:
    loop(**changes)
    with pytest.raises(ValueError, match=f"cuda_graph cannot record a step with .*{next(iter(changes))}"):
        loop(cuda_graph=True, **changes)
