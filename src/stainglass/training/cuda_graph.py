"""A training step recorded once as a CUDA graph and replayed: small networks are bound by the launches of their kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stainglass.errors import StainglassError
from stainglass.training.batches import Batch

Work = Callable[[Batch], dict[str, Tensor]]

PLAIN_CALLS = 3
"""Calls before one is recorded, in which kernels are chosen and the optimiser makes its state; they count like any other."""


class Replayed:
    """Work on a batch on the GPU, done plainly a few times, then recorded and from then on replayed.

    The work must always do the same: no number is read back on the way, and every batch has the shapes of the first.
    What it returns is overwritten by the next call.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stream = torch.cuda.Stream()  # gradients remember the stream they were made on
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch = {}
        self._told: dict[str, Tensor] = {}
        self._calls = 0

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Work on a batch, wherever it lies.

        Raises
        ------
        StainglassError
            When the work cannot be recorded.
        """
        self._fill(batch)
        if self._graph is None and self._calls < PLAIN_CALLS:
            self._calls += 1
            with self._aside():
                return self._work(self._batch)
        graph = self._graph or self._record()
        graph.replay()
        return self._told

    def release(self) -> None:
        """Give back what the recording holds of the GPU's memory; the next call works plainly again."""
        if self._graph is not None:
            self._graph.reset()
        self._graph, self._batch, self._told, self._calls = None, {}, {}, 0

    def _fill(self, batch: Batch) -> None:
        if not self._batch:
            self._batch = {key: torch.empty_like(value, device="cuda") for key, value in batch.items()}
        assert {k: v.shape for k, v in batch.items()} == {k: v.shape for k, v in self._batch.items()}
        for key, value in batch.items():
            self._batch[key].copy_(value, non_blocking=True)

    def _record(self) -> torch.cuda.CUDAGraph:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Of this thread alone: another pins the memory of the batches to come meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._told = self._work(self._batch)
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a recording that broke off leaves its own behind
            cause = error.__context__ or error  # what broke it, rather than that it is broken
            raise StainglassError(
                "cuda_graph",
                f"this step cannot be recorded ({str(cause).splitlines()[0]})",
                "Set it to false in the recipe",
            ) from error
        self._graph = graph
        return graph

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the stream of the recording, after what was asked for before and before what follows."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)
