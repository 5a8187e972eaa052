"""Muon for a network's matrices, AdamW for the rest of it, as one optimiser (Jordan et al. 2024; Liu et al. 2025)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST = 16
"""Rows and columns a matrix has at least to be orthogonalised; the last layer's and vectors are AdamW's."""


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` for weights that are matrices, convolutions as one row an output channel; AdamW for all others.

    An update of a matrix has singular values near one and the size that AdamW's would have, so that one learning rate serves both
    (the scaling of Liu et al. 2025, "Muon is scalable for LLM training").

    Parameters
    ----------
    parameters
        What is trained.
    lr, weight_decay
        Of all of it.
    betas
        AdamW's.
    momentum
        Muon's.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
    ) -> None:
        trained = list(parameters)
        self._matrices = [p for p in trained if p.ndim > 1 and min(len(p), p.numel() // len(p)) >= SMALLEST]
        held = {id(p) for p in self._matrices}
        rest = [p for p in trained if id(p) not in held]
        self._views = [nn.Parameter(_as_matrix(p)) for p in self._matrices]
        self._parts: list[torch.optim.Optimizer] = []
        if self._views:
            self._parts.append(
                torch.optim.Muon(
                    self._views, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
                )
            )  # fmt: skip
        if rest:
            self._parts.append(torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay))
        super().__init__(trained, {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """A learning rate that is set here is the parts' too."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        for parameter, view in zip(self._matrices, self._views, strict=True):
            view.data = _as_matrix(parameter)  # anew, as a module that is moved has its parameters elsewhere
            gradient = parameter.grad  # which may lie otherwise than the weight
            view.grad = None if gradient is None else gradient.permute(_order(parameter)).flatten(1)
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all of it."""
        for parameter in self._matrices:
            parameter.grad = None
        for part in self._parts:
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """As of one optimiser: the parameters of the first part are numbered before those of the second."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for part in self._parts:
            first, own = sum(len(group["params"]) for group in groups), part.state_dict()
            state |= {first + number: values for number, values in own["state"].items()}
            groups += [
                {**group, "params": [first + n for n in group["params"]]} for group in own["param_groups"]
            ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """What `state_dict` gave."""
        first = 0
        for part in self._parts:
            groups = part.state_dict()["param_groups"]
            count = sum(len(group["params"]) for group in groups)
            own = {n - first: v for n, v in state_dict["state"].items() if first <= n < first + count}
            part.load_state_dict({"state": own, "param_groups": groups})
            first += count
        self._share_groups()


def _as_matrix(weight: Tensor) -> Tensor:
    """A view of a weight: one row an output channel, what follows in the order it lies in memory.

    Raises
    ------
    RuntimeError
        When there is no such view: a copy would be trained in the weight's place.
    """
    return weight.detach().permute(_order(weight)).view(len(weight), -1)


def _order(weight: Tensor) -> list[int]:
    """Its dimensions, those after the first as they lie in memory."""
    return [0, *sorted(range(1, weight.ndim), key=weight.stride, reverse=True)]
