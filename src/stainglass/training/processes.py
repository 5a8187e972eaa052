"""Several processes that train one denoiser, started by ``torchrun``: who does what, and who waits.

All of them train the denoiser, each on its share of a step's windows, and encode sections, each its share of those.
What comes before is done by the first alone, and the others take up what it has finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from stainglass.errors import StainglassError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")
Job = TypeVar("Job")

PATIENCE = timedelta(days=7)
"""How long others wait while the first trains an autoencoder or encodes a cohort."""
TOGETHER = ("train", "distil", "polish")
"""Verbs that several processes may be started for."""


def processes() -> PartialState:
    """The group this process belongs to; of one, where it was started alone.

    Raises
    ------
    StainglassError
        When there are more of them than GPUs.
    """
    import torch  # here, as the command line asks who is first before it takes these up
    from accelerate import PartialState

    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if _several() and 0 < gpus < here:
        raise StainglassError(
            "torchrun", f"{here} processes were started, and there are {gpus} GPUs", f"Start {gpus}, one each"
        )
    # Without a GPU Accelerate forms a group only where it is told to keep to the CPU.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE) if _several() else PartialState()


def by_the_first(work: Callable[[], Result]) -> Result:
    """What the first process does while the others wait; they do it after it, and find it finished."""
    with processes().main_process_first():
        return work()


def shared_out(jobs: Callable[[], Sequence[Job]]) -> Sequence[Job]:
    """The share of this process in jobs that all of them see alike: none begins before all have looked."""
    group = processes()
    group.wait_for_everyone()
    found = jobs()
    group.wait_for_everyone()
    return found[group.process_index :: group.num_processes]


def refuse_several(verb: str) -> None:
    """Before anything is done: what several processes were started for is something they do together.

    Raises
    ------
    StainglassError
        When it is not.
    """
    if _several() and verb not in TOGETHER:
        raise StainglassError(
            f"stainglass {verb}", "was started as several processes, each of which would do it all",
            f"Start it once; together they can do: {', '.join(TOGETHER)}",
        )  # fmt: skip


def is_first() -> bool:
    """Whether this is the first process of its group, or started alone; told by the environment, before anything is set up."""
    return not _several() or int(os.environ.get("RANK", 0)) == 0


def _several() -> bool:
    """Whether a launcher started more than one: both variables stand only in what it started."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
