"""The optimiser a recipe names."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stainglass.config import Loop
from stainglass.errors import StainglassError
from stainglass.training.muon import Muon

BETAS = (0.9, 0.99)


def make_optimiser(loop: Loop, parameters: Iterable[nn.Parameter], *, recorded: bool = False) -> Any:
    """AdamW over the parameters that are trained: plain, fused, or with moments in 8 bits (Dettmers et al. 2022).

    Parameters
    ----------
    recorded
        Whether its steps are recorded in a CUDA graph: then the learning rate lies on the GPU, as a replayed step reads it there.

    Raises
    ------
    StainglassError
        When 8 bits are asked for where they cannot be had.
    """
    trained = [p for p in parameters if p.requires_grad]
    values: dict[str, Any] = {
        "lr": loop.learning_rate, "betas": BETAS, "weight_decay": loop.weight_decay,
    }  # fmt: skip
    if recorded:
        values |= {"lr": torch.tensor(loop.learning_rate, device=trained[0].device), "capturable": True}
    if loop.optimiser == "muon":
        return Muon(trained, **values)
    if loop.optimiser != "adamw-8bit":
        return torch.optim.AdamW(trained, fused=True if loop.optimiser == "adamw-fused" else None, **values)
    where, remedy = "optimiser adamw-8bit", "pip install 'stainglass[eight-bit]', or choose adamw-fused"
    try:
        eight_bit: Any = importlib.import_module("bitsandbytes")
    except ImportError:
        raise StainglassError(where, "bitsandbytes is not installed", remedy) from None
    if not torch.cuda.is_available():
        raise StainglassError(where, "needs a GPU", "Choose adamw or adamw-fused")
    return eight_bit.optim.AdamW8bit(trained, **values)


def set_learning_rate(optimiser: Any, rate: float) -> None:
    """Set the learning rate of all parameters, in place where it lies on the GPU."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
