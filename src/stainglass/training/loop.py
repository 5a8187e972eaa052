"""The one training loop; a run reads top to bottom in `train`.

Data order, noise and noise levels are functions of (seed, position in the run), so a run that was
stopped and resumed, or spread over other ranks, sees exactly the same examples.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from stainglass.config import Loop
from stainglass.errors import StainglassError, StopRequested
from stainglass.files import atomic_path
from stainglass.progress import progress_bar
from stainglass.training.average import MovingAverage
from stainglass.training.batches import Batch, Examples, batches_from
from stainglass.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from stainglass.training.cuda_graph import Replayed
from stainglass.training.optimiser import make_optimiser, set_learning_rate
from stainglass.training.precision import free_to_be, settled_precision
from stainglass.training.processes import processes

PREVIEW_SENTENCE = (
    "Training preview by stainglass: real windows above, synthetic ones below. Not for diagnosis."
)


class Objective(nn.Module):
    """A module whose forward is the loss.

    ``forward(batch)`` returns the loss and named figures for the log. ``picture(batch)`` may return a
    preview, uint8 (h, w, 3).
    """

    def picture(self) -> np.ndarray | None:
        """A preview drawn with these weights, or None."""
        return None


def train(
    objective: Objective,
    examples: Examples,
    loop: Loop,
    folder: Path,
    title: str,
    on_preview: Callable[[Path], None] | None = None,
    *,
    together: bool = False,
    cuda_graph: bool = False,
) -> Objective:
    """Train until ``loop.steps``, going on from the folder's latest checkpoint.

    Parameters
    ----------
    objective
        Trained in place: its parameters that require a gradient.
    examples
        Where batches come from.
    loop
        Settings.
    folder
        ``metrics.jsonl``, ``previews/``, ``checkpoints/``.
    title
        Of the progress bar.
    on_preview
        Called with the path of every preview written.
    together
        Whether all processes of the group train this, each on ``loop.batch`` examples a step of its own, which are those that
        one process would have drawn in a batch of all of them. Without, this process trains it by itself.
    cuda_graph
        Record a step and replay it; plain without a GPU, in fp16, of several batches, and where several processes train together.

    Returns
    -------
    The objective with the moving average of its parameters, in evaluation mode.

    Raises
    ------
    StopRequested
        On SIGTERM or Ctrl-C, after a checkpoint was written.
    """
    run = _Run(objective, loop, folder, title, together, cuda_graph)
    if run.start >= loop.steps:
        return run.finished()
    run.prepare()
    batches = batches_from(
        run.start, examples, loop, run.rank, run.ranks, pinned=run.accelerator.device.type == "cuda"
    )
    with _stop_signals() as stopping, progress_bar(title, loop.steps, run.start) as advance:
        for step in range(run.start, loop.steps):
            figures = run.step(step, batches)
            done, last, stop = step + 1, step + 1 == loop.steps, run.agreed(stopping())
            run.record(done, figures)
            advance(1, f"loss {figures['loss']:.4f}")
            if last or stop or done % loop.checkpoint_every == 0:
                run.checkpoint(done)
            if (last or done % loop.preview_every == 0) and run.writes:
                _preview(objective, run.average, folder / "previews" / f"step-{done:07d}.png", on_preview)
            if stop:
                raise StopRequested(
                    f"stopped at step {done} of {loop.steps}; run the same command again to go on"
                )
        if run.agreed(stopping()):  # while the last preview was painted
            raise StopRequested("stopped where a training had ended; run the same command again to go on")
    run.end_trackers()
    return run.finished()


class _Run:
    """The state of one training: network, average, optimiser, and the step it goes on from."""

    def __init__(
        self,
        objective: Objective,
        loop: Loop,
        folder: Path,
        title: str,
        together: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        self.loop, self.folder = loop, folder
        group = processes()
        self.together = together and group.num_processes > 1
        self.ranks: int = group.num_processes if self.together else 1
        self.rank: int = group.process_index if self.together else 0
        self.writes = self.rank == 0
        trackers = loop.trackers if self.writes else ()
        self.accelerator = Accelerator(
            mixed_precision=free_to_be(settled_precision(loop.precision)),
            gradient_accumulation_steps=loop.accumulate,
            log_with=list(trackers) or None,
            project_dir=str(folder),
            # A batch without a picture, say, leaves the map that reads pictures out.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if trackers:
            self.accelerator.init_trackers("stainglass", config={"title": title, "steps": loop.steps})
        objective.train().to(self.accelerator.device)
        self.model: Any = objective
        self.average = MovingAverage(objective, loop.ema_half_life)
        self.replayed = Replayed(self._work) if cuda_graph and self._can_be_recorded() else None
        self.optimiser: Any = make_optimiser(loop, objective.parameters(), recorded=self.replayed is not None)
        self.settings = {
            "seed": loop.seed, "batch": loop.batch * self.ranks, "accumulate": loop.accumulate, "steps": loop.steps
        }  # fmt: skip
        self.start = self._resumed(objective)
        self.log = _Log(folder / "metrics.jsonl", self.start) if self.writes else None

    def _can_be_recorded(self) -> bool:
        """A loss scale is looked at every step, processes share gradients, and those of several batches are added up."""
        return (
            self.accelerator.device.type == "cuda"
            and self.accelerator.scaler is None
            and not self.together
            and self.loop.accumulate == 1
        )

    def _resumed(self, objective: Objective) -> int:
        """Take up the latest checkpoint; the step to go on from."""
        found = latest_checkpoint(self.folder)
        if found is None:
            return 0
        resumed = load_checkpoint(found, objective, self.average, self.optimiser, self.settings)
        if self.accelerator.scaler is not None and "scaler" in resumed.state:
            self.accelerator.scaler.load_state_dict(resumed.state["scaler"])
        return int(resumed.step)

    def prepare(self) -> None:
        """Hand network and optimiser to Accelerate; gradients are shared only where all train together."""
        self.model = self.accelerator.prepare_model(self.model, evaluation_mode=not self.together)
        self.optimiser = self.accelerator.prepare_optimizer(self.optimiser)

    def step(self, step: int, batches: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step over its micro-batches; the figures for the log.

        Raises
        ------
        StainglassError
            When the loss is not finite.
        """
        began = time.perf_counter()
        set_seed(_mix(self.loop.seed, step))
        rate = learning_rate(self.loop, step)
        set_learning_rate(self.optimiser, rate)
        figures: dict[str, float] = {}
        for _ in range(self.loop.accumulate):
            for key, value in self._micro_step(next(batches)).items():
                figures[key] = figures.get(key, 0.0) + float(value) / self.loop.accumulate
        self.average.update(step)
        figures = self._over_all(figures)
        if not math.isfinite(figures["loss"]):
            raise StainglassError(
                self.folder,
                f"the loss is not finite at step {step + 1}",
                "Lower learning_rate, or set precision to no",
            )
        return figures | {"learning_rate": rate, "seconds": time.perf_counter() - began}

    def _micro_step(self, batch: Batch) -> dict[str, Tensor]:
        if self.replayed is not None:
            return self.replayed(batch)
        return self._work({key: value.to(self.accelerator.device) for key, value in batch.items()})

    def _work(self, batch: Batch) -> dict[str, Tensor]:
        with self.accelerator.accumulate(self.model):
            loss, parts = self.model(batch)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.loop.clip)
            self.optimiser.step()
            self.optimiser.zero_grad()
        return {"loss": loss.detach(), **parts}

    def _over_all(self, figures: dict[str, float]) -> dict[str, float]:
        """The mean over the processes, so that all of them see the same."""
        if not self.together:
            return figures
        values = torch.tensor(list(figures.values()), device=self.accelerator.device)
        shared: Any = self.accelerator.reduce(values, "mean")
        return dict(zip(figures, shared.tolist(), strict=True))

    def agreed(self, asked: bool) -> bool:
        """Whether any process is asked to stop: they end at the same step, or each would wait for the other."""
        if not self.together:
            return asked
        votes: Any = self.accelerator.reduce(
            torch.tensor(float(asked), device=self.accelerator.device), "sum"
        )
        return float(votes) > 0

    def record(self, done: int, figures: dict[str, float]) -> None:
        """A line of the log now and then, and of the trackers."""
        if self.log is None:
            return
        if done % self.loop.log_every == 0 or done in (1, self.loop.steps):
            self.log.write({"step": done, **figures})
            self.accelerator.log(figures, step=done)

    def checkpoint(self, done: int) -> None:
        """Write a checkpoint; exactly this state is resumed. Others wait: a launcher ends all when one has ended."""
        if self.writes:
            self._write_checkpoint(done)
        if self.together:
            self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, done: int) -> None:
        # fp16 alone has a loss scale that goes on from step to step.
        scaler = self.accelerator.scaler
        scale = {} if scaler is None else {"scaler": scaler.state_dict()}
        bare = self.accelerator.unwrap_model(self.model)
        state = {**self.settings, **scale}
        save_checkpoint(self.folder, done, bare, self.average, self.optimiser, state, self.loop.keep)

    def end_trackers(self) -> None:
        """Not by Accelerate's `end_training`, which would end the group of processes too."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def finished(self) -> Objective:
        """The objective as training leaves it, out of Accelerate's hands."""
        if self.replayed is not None:
            self.replayed.release()
        self.average.give()
        bare: Objective = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return bare


def learning_rate(loop: Loop, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < loop.warmup:
        return loop.learning_rate * (step + 1) / loop.warmup
    share = (step - loop.warmup) / max(loop.steps - loop.warmup, 1)
    return loop.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % (2**32)


def _preview(
    objective: Objective, average: MovingAverage, path: Path, on_preview: Callable[[Path], None] | None
) -> None:
    with average.shown():
        picture = objective.picture()
    if picture is None:
        return
    info = PngInfo()
    info.add_text("Description", PREVIEW_SENTENCE)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=info)
    if on_preview is not None:
        on_preview(path)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C ask the loop to end its step, write a checkpoint and stop; a second Ctrl-C is at once.

    A second SIGTERM is not: a batch system sends one to every process, and a launcher passes its own on.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Log:
    """``metrics.jsonl``; lines after the step a run resumes from are dropped, so no step stands twice."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if _step_of(line) <= start]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines))

    def write(self, figures: dict[str, Any]) -> None:
        with self.path.open("a") as handle:
            handle.write(
                json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in figures.items()}) + "\n"
            )


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short by a kill
