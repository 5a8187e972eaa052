import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stainglass.config import Loop
from stainglass.errors import StainglassError, StopRequested
from stainglass.training.batches import rng_of
from stainglass.training.checkpoint import latest_checkpoint
from stainglass.training.loop import Objective, learning_rate, train


class Line:
    """y = 3x − 1 with noise; one example a position."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.seen: list[int] = []

    def example(self, position: int) -> dict[str, np.ndarray]:
        self.seen.append(position)
        if position == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        rng = rng_of(5, position)
        x = rng.standard_normal(4, dtype=np.float32)
        return {"x": x, "y": (3 * x - 1 + 0.1 * rng.standard_normal(4)).astype(np.float32)}


class Fit(Objective):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 4)
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = (self.net(batch["x"]) - batch["y"]).pow(2).mean()
        return loss, {"error": loss.detach().sqrt()}

    def picture(self) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


def settings(**changes: object) -> Loop:
    return Loop(
        **{
            "steps": 20,
            "batch": 4,
            "warmup": 3,
            "checkpoint_every": 7,
            "log_every": 1,
            "preview_every": 10,
            **changes,
        }
    )  # type: ignore[arg-type]


def losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    return {line["step"]: line["loss"] for line in lines}


def weights(objective: Objective) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in objective.parameters()])


def test_a_stopped_and_resumed_run_is_the_unbroken_run(tmp_path: Path) -> None:
    whole = train(Fit(), Line(), settings(), tmp_path / "whole", "fit")
    # The signal comes while batch 9 is drawn, a step ahead of the network.
    with pytest.raises(StopRequested, match="of 20"):
        train(Fit(), Line(stop_at=9 * 4), settings(), tmp_path / "broken", "fit")
    stopped = latest_checkpoint(tmp_path / "broken")
    assert stopped is not None
    assert stopped.name < "step-0000020"
    resumed = train(Fit(), Line(), settings(), tmp_path / "broken", "fit")
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    whole = train(Fit(), Line(), settings(), tmp_path / "whole", "fit")

    class Killed(Line):
        def example(self, position: int) -> dict[str, np.ndarray]:
            if position == 12 * 4:
                raise MemoryError("killed")
            return super().example(position)

    with pytest.raises(MemoryError):
        train(Fit(), Killed(), settings(), tmp_path / "broken", "fit")
    resumed = train(Fit(), Line(), settings(), tmp_path / "broken", "fit")
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_trainings_of_one_process_may_differ_in_precision(tmp_path: Path) -> None:
    for name, precision in {"first": "no", "second": "bf16", "third": "no"}.items():
        train(Fit(), Line(), settings(precision=precision), tmp_path / name, "fit")
    assert losses(tmp_path / "first") == losses(tmp_path / "third")
    assert losses(tmp_path / "first") != losses(tmp_path / "second")


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train(Fit(), Line(), settings(), tmp_path, "fit")
    examples = Line()
    second = train(Fit(), examples, settings(), tmp_path, "fit")
    assert examples.seen == []
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


def test_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    class Plain(Fit):
        def __init__(self) -> None:
            super().__init__()
            self.net[2] = torch.nn.Identity()

    large = train(Plain(), Line(), settings(batch=8, steps=6), tmp_path / "a", "fit")
    small = train(Plain(), Line(), settings(batch=4, accumulate=2, steps=6), tmp_path / "b", "fit")
    torch.testing.assert_close(weights(large), weights(small), atol=1e-5, rtol=1e-4)


def test_examples_drawn_by_other_processes_are_the_same_examples(tmp_path: Path) -> None:
    alone = train(Fit(), Line(), settings(accumulate=2), tmp_path / "alone", "fit")
    with pytest.raises(StopRequested):
        train(Fit(), Line(stop_at=9 * 4), settings(accumulate=2), tmp_path / "helped", "fit")
    helped = train(Fit(), Line(), settings(accumulate=2, workers=2), tmp_path / "helped", "fit")
    torch.testing.assert_close(weights(alone), weights(helped), rtol=0, atol=0)
    assert losses(tmp_path / "alone") == losses(tmp_path / "helped")


STOPPED_AS_A_GROUP = """
import os, signal, sys
import numpy as np, torch
from pathlib import Path
from stainglass.config import Loop
from stainglass.errors import StopRequested
from stainglass.training.loop import Objective, train

class Fit(Objective):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 4)
    def forward(self, batch):
        return self.net(batch["x"]).pow(2).mean(), {}

class Examples:
    def example(self, position):
        if position == 4 * 12:
            os.killpg(0, signal.SIGTERM)
        return {"x": np.full(4, position, np.float32)}

try:
    train(Fit(), Examples(), Loop(steps=4000, batch=4, workers=2, checkpoint_every=4000), Path(sys.argv[1]), "fit")
except StopRequested:
    sys.exit(7)
"""


def test_a_signal_to_the_whole_group_leaves_a_checkpoint(tmp_path: Path) -> None:
    """As GNU timeout and SLURM send it: to the loop and to those who draw for it."""
    words = [sys.executable, "-c", STOPPED_AS_A_GROUP, str(tmp_path)]
    done = subprocess.run(words, start_new_session=True, timeout=60, check=False, capture_output=True)
    assert done.returncode == 7, done.stderr.decode()[-2000:]
    assert latest_checkpoint(tmp_path) is not None


def test_what_another_process_finds_is_told_as_it_is(tmp_path: Path) -> None:
    class Missing(Line):
        def example(self, position: int) -> dict[str, np.ndarray]:
            if position == 9:
                raise StainglassError("section C2", "has no spots", "Leave it out")
            return super().example(position)

    with pytest.raises(StainglassError, match=r"section C2: has no spots\. Leave it out\."):
        train(Fit(), Missing(), settings(workers=1), tmp_path, "fit")


def test_it_learns_and_leaves_what_a_run_leaves(tmp_path: Path) -> None:
    train(Fit(), Line(), settings(steps=150, learning_rate=0.02, keep=2), tmp_path, "fit")
    found = losses(tmp_path)
    assert np.mean([found[s] for s in range(140, 150)]) < 0.5 * found[1]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert (tmp_path / "previews" / "step-0000150.png").is_file()
    assert {p.suffix for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()} == {
        ".safetensors",
        ".json",
    }


def test_another_runs_checkpoint_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    train(Fit(), Line(), settings(), tmp_path, "fit")
    with pytest.raises(StainglassError, match="seed"):
        train(Fit(), Line(), settings(seed=1), tmp_path, "fit")
    path = latest_checkpoint(tmp_path)
    assert path is not None
    (path / "optimiser.safetensors").write_bytes(b"short")
    with pytest.raises(StainglassError, match="damaged"):
        train(Fit(), Line(), settings(), tmp_path, "fit")


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    class Broken(Fit):
        def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return super().forward(batch)[0] * float("inf"), {}

    with pytest.raises(StainglassError, match="not finite"):
        train(Broken(), Line(), settings(), tmp_path, "fit")


def test_the_learning_rate_rises_then_falls() -> None:
    loop = settings(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(loop, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
