"""The moving average of what is trained: what a generator takes, and what previews show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of a module's trained parameters; frozen ones are not held twice.

    Parameters
    ----------
    module
        Whose parameters are averaged; which of them are trained must be settled.
    half_life
        Updates after which a value's share has halved; shorter in the beginning, a third of the run so far.
    """

    def __init__(self, module: nn.Module, half_life: int) -> None:
        self.half_life = half_life
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._module = module
        self.values = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the parameters as they are now; ``count`` updates went before."""
        if count == 0:
            self._copy(self._trained, self.values)
            return
        life = min(float(self.half_life), max(float(count), 1.0) / 3)
        averaged, current = list(self.values.values()), [p.detach() for p in self._trained.values()]
        torch._foreach_lerp_(averaged, current, 1 - 0.5 ** (1 / life))

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Put saved values back."""
        self._copy({name: values[name] for name in self.values}, self.values)

    @torch.no_grad()
    def give(self) -> None:
        """Give the average to the module, for good, and set it to evaluation."""
        self._copy(self.values, self._trained)
        self._module.eval()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module has the averaged parameters, in evaluation mode, for the while of a preview."""
        current = {name: p.detach().clone() for name, p in self._trained.items()}
        training = self._module.training
        self.give()
        try:
            yield
        finally:
            with torch.no_grad():
                self._copy(current, self._trained)
            self._module.train(training)

    @staticmethod
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, value in target.items():
            value.copy_(source[name])


@torch.no_grad()
def go_back(network: nn.Module, before: Mapping[str, Tensor], share: float) -> None:
    """Go this share of the way back to the weights that a network had before it was trained."""
    for name, weight in network.state_dict().items():
        weight.lerp_(before[name].to(weight), share)
