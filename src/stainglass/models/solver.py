"""Solvers of the flow's equation ``dx/dt = v(x, t)`` from noise (t = 1) to tissue (t = 0), all diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from jaxtyping import Float
from torch import Tensor

from stainglass.models.denoiser import TIME_SCALE

Velocity = Callable[[Float[Tensor, "b c h w"], float], Float[Tensor, "b c h w"]]
"""(x, t) → velocity; t is the noise level, 0…1."""

_MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}


def make_scheduler(solver: str) -> Any:
    """The diffusers scheduler behind a solver's name: ``euler``, ``heun``, ``unipc`` or ``dpmpp``."""
    if solver == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=1.0)
    if solver == "heun":
        return FlowMatchHeunDiscreteScheduler(shift=1.0)
    if solver == "unipc":
        return UniPCMultistepScheduler(**_MULTISTEP)
    return DPMSolverMultistepScheduler(**_MULTISTEP)


@torch.no_grad()
def integrate(
    velocity: Velocity, noise: Float[Tensor, "b c h w"], solver: str, steps: int
) -> Float[Tensor, "b c h w"]:
    """Follow the flow from noise to a clean latent.

    Parameters
    ----------
    velocity
        The network, conditioning and guidance included.
    noise
        Standard normal latents.
    solver
        See `make_scheduler`; ``heun`` evaluates the network twice a step but the last, the others once.
    steps
        Steps of the solver.
    """
    scheduler = make_scheduler(solver)
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps:
        level = float(t) / TIME_SCALE
        x = scheduler.step(velocity(x, level), t, x, return_dict=False)[0]
    return x


def evaluations(solver: str, steps: int) -> int:
    """Network evaluations of one integration, guidance not counted."""
    scheduler = make_scheduler(solver)
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)
