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

from stainglass.models.flow import TIME_SCALE, Flow

Velocity = Callable[[Float[Tensor, "b c h w"], float], Float[Tensor, "b c h w"]]
"""(x, t) → velocity; t is the noise level, 0…1."""

JUMPS = "jumps"
"""Of generators distilled to few steps: Euler's steps between even levels, which those were trained for."""

MOST_LEVEL = 1 - 1e-6
"""The multistep solvers work with log-SNR, which pure noise does not have."""

_MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}


def make_scheduler(solver: str) -> Any:
    """The diffusers scheduler behind a solver's name: ``euler``, ``heun``, ``unipc`` or ``dpmpp``.

    ``jumps`` is none of diffusers' own; Euler's scheduler stands for its flow.
    """
    if solver in ("euler", JUMPS):
        return FlowMatchEulerDiscreteScheduler(shift=1.0)
    if solver == "heun":
        return FlowMatchHeunDiscreteScheduler(shift=1.0)
    if solver == "unipc":
        return UniPCMultistepScheduler(**_MULTISTEP)
    return DPMSolverMultistepScheduler(**_MULTISTEP)


@torch.no_grad()
def integrate(
    velocity: Velocity, noise: Float[Tensor, "b c h w"], solver: str, steps: int, flow: Flow
) -> Float[Tensor, "b c h w"]:
    """Follow the flow from noise to a clean latent.

    Parameters
    ----------
    velocity
        The network, conditioning and guidance included.
    noise
        Standard normal latents.
    solver
        See `make_scheduler`; ``heun`` evaluates the network twice a step but the last, the others once. Or `JUMPS`.
    steps
        Steps of the solver.
    flow
        Where it starts, and its noise levels.
    """
    if solver == JUMPS:
        return _jump(velocity, flow.start(noise), steps)
    scheduler = make_scheduler(solver)
    scheduler.set_timesteps(steps)
    levels = flow.levels(steps)
    if levels is not None:
        _set_levels(scheduler, solver, levels)
    x = flow.start(noise)
    for t in scheduler.timesteps:
        level = float(t) / TIME_SCALE
        x = scheduler.step(velocity(x, level), t, x, return_dict=False)[0]
    return x


def jump_levels(steps: int) -> list[float]:
    """Noise levels a few-step generator is trained and painted at: even, from pure noise down, without the final 0."""
    return [1 - k / steps for k in range(steps)]


def _jump(velocity: Velocity, noise: Float[Tensor, "b c h w"], steps: int) -> Float[Tensor, "b c h w"]:
    x = noise
    for level in jump_levels(steps):
        x = x - velocity(x, level) / steps
    return x


def _set_levels(scheduler: Any, solver: str, levels: list[float]) -> None:
    """Give a scheduler noise levels of our own; only two of the four take them as an argument."""
    if solver in ("unipc", "dpmpp"):
        levels = [min(level, MOST_LEVEL) for level in levels]
    inner = torch.tensor(levels, dtype=torch.float32)
    if solver == "heun":  # looks at every level but the first twice
        inner = torch.cat([inner[:1], inner[1:].repeat_interleave(2)])
    scheduler.timesteps = inner * TIME_SCALE
    scheduler.sigmas = torch.cat([inner, torch.zeros(1)])


def evaluations(solver: str, steps: int) -> int:
    """Network evaluations of one integration, guidance not counted."""
    if solver == JUMPS:
        return steps
    scheduler = make_scheduler(solver)
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)
