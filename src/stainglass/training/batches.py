"""Examples drawn and put together to batches, ahead of the network: in a thread, or by other processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stainglass.config import Loop
from stainglass.errors import StainglassError

Batch = dict[str, Tensor]


class Examples(Protocol):
    """Training examples; the same position always gives the same example."""

    def example(self, position: int) -> dict[str, np.ndarray]:
        """One example, drawn by a generator keyed by (seed, position)."""
        ...


def rng_of(seed: int, position: int) -> np.random.Generator:
    """The generator of one example: counter-based, so any position can be drawn without the ones before."""
    return np.random.Generator(
        np.random.Philox(key=np.array([seed & (2**64 - 1), position], dtype=np.uint64))
    )


def batches_from(
    step: int, examples: Examples, loop: Loop, rank: int = 0, ranks: int = 1, pinned: bool = False
) -> Iterator[Batch]:
    """A rank's batches from a step on, drawn ahead while the network works: in a thread, or by other processes.

    Parameters
    ----------
    rank, ranks
        Each rank has its share of every step's examples.
    pinned
        Whether what others draw is handed on in memory from which a GPU copies fast.

    Raises
    ------
    StainglassError
        As `Examples.example` does.
    """

    def positions(micro: int) -> range:
        first = (micro * ranks + rank) * loop.batch
        return range(first, first + loop.batch)

    micros = range(step * loop.accumulate, loop.steps * loop.accumulate)
    if loop.workers > 0:
        order = [list(positions(micro)) for micro in micros]
        drawn_by_others = DataLoader(
            _Drawn(examples),
            batch_sampler=order,
            num_workers=loop.workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # its own: dropout draws from torch's
            multiprocessing_context="fork",  # what is held in memory is shared, not sent
            worker_init_fn=_leave_stopping_to_the_loop,
            collate_fn=_stacked,
        )
        for batch in drawn_by_others:
            if isinstance(batch, StainglassError):
                raise batch
            yield batch
        return

    def draw(micro: int) -> Batch:
        return _batch([examples.example(position) for position in positions(micro)])

    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(draw, micro) for micro in micros[:1]]
        for micro in micros:
            batch = following.pop().result()
            if micro + 1 in micros:
                following.append(pool.submit(draw, micro + 1))
            yield batch


class _Drawn(Dataset[Any]):
    """Examples as PyTorch's loader takes them; a finding is handed over as it is, to be raised where it is understood."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, position: int) -> dict[str, np.ndarray] | StainglassError:
        try:
            return self.examples.example(position)
        except StainglassError as error:
            return error


def _batch(drawn: Sequence[dict[str, np.ndarray]]) -> Batch:
    return {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}


def _stacked(drawn: list[Any]) -> Any:
    found = [one for one in drawn if isinstance(one, StainglassError)]
    return found[0] if found else _batch(drawn)


def _leave_stopping_to_the_loop(worker: int) -> None:
    """A signal to the whole group must not end who draws before the loop has written its checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
