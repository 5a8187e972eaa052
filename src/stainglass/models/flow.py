"""Flows: which noise levels a denoiser's timesteps stand for, and what its answer means.

Everything outside this file speaks of one path from tissue to noise, ``x_t = (1 − t) z + t ε`` with the noise level t
in 0 (clean) … 1 (noise), and of its velocity ``u = ε − z`` (rectified flow: Liu et al. 2022; Lipman et al. 2022).
Networks differ in what they are given and what they answer.

*Ours* is preconditioned as in EDM (Karras et al. 2022), carried over to this path: were z standard normal, the best
guess would be ``u = (2t − 1) / s² · x_t`` with ``s² = (1 − t)² + t²``; the network sees ``x_t / s`` and adds to that
guess a correction of its own, scaled by ``1 / s``. It starts at zero, so training begins at the best linear guess.

*Stable Diffusion* keeps the variance instead: ``z_k = √ᾱ_k z + √(1 − ᾱ_k) ε`` at timestep k (Ho et al. 2020). Both are
one path on other scales: with ``t = √(1 − ᾱ) / (√ᾱ + √(1 − ᾱ))`` the noisy latent is ``x_t / s`` exactly, and our
correction is what v-prediction answers (Salimans & Ho 2022). So a checkpoint's answer, whether ε, v or z, gives a
velocity, an Euler step along it is a DDIM step, and solvers, guidance and noise fields need not know which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from stainglass.config import Denoiser as DenoiserSettings
from stainglass.errors import StainglassError

TIME_SCALE = 1000.0
"""diffusers' time embeddings expect steps of 0…1000."""

Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True)
class Flow:
    """Our own: timesteps are noise levels, levels are drawn logit-normally, the loss is that of the velocity."""

    prediction: Prediction = "v_prediction"

    @property
    def top(self) -> float:
        """The largest noise level that is known: where painting starts."""
        return 1.0

    def timestep(self, t: Float[Tensor, b]) -> Float[Tensor, b]:
        """What the network is told of a noise level."""
        return t * TIME_SCALE

    def draw(self, rng: np.random.Generator) -> float:
        """A noise level to train at: logit-normal (Esser et al. 2024), most where the picture is decided."""
        return float(1 / (1 + np.exp(-rng.standard_normal())))

    def levels(self, steps: int) -> list[float] | None:
        """Noise levels of a solver's steps, falling, without the final 0; None leaves them to the solver."""
        return None

    def start(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Where painting starts, from standard normal noise: nothing of a picture is in it, at any `top`."""
        return noise * _norm(torch.tensor(self.top)).item()

    def network_input(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, b]) -> Float[Tensor, "b c h w"]:
        """The noisy latent at variance one."""
        return x / _norm(_at(t))

    def velocity(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, b], answer: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The network's answer as a velocity ``ε − z``."""
        at = _at(t)
        if self.prediction == "epsilon":
            return (answer - x) / (1 - at)
        if self.prediction == "sample":
            return (x - answer) / at
        norm = _norm(at)
        return (2 * at - 1) / norm**2 * x + answer / norm

    def loss_weight(self, t: Float[Tensor, b], min_snr: float | None = None) -> Float[Tensor, b]:
        """Weight of a squared error of the velocity.

        Parameters
        ----------
        t
            Noise levels.
        min_snr
            γ of min-SNR-γ (Hang et al. 2023): the error of the clean latent is weighed by min(SNR, γ). It is ``t²``
            times that of the velocity, whatever the network predicts. Without a signal (SNR 0) this would be no
            weight at all and the first step of painting never learnt: the plain weight stands there.
        """
        plain = self._plain_weight(t)
        if min_snr is None:
            return plain
        snr = ((1 - t) / t).pow(2)
        return torch.where(snr > 0, snr.clamp(max=min_snr) * t.pow(2), plain)

    def _plain_weight(self, t: Float[Tensor, b]) -> Float[Tensor, b]:
        return torch.ones_like(t)


@dataclass(frozen=True)
class VariancePreserving(Flow):
    """A discrete variance-preserving schedule, as Stable Diffusion has: the loss is that of the network's answer.

    Attributes
    ----------
    sigmas
        (T,) rising: the noise level of every timestep.
    """

    sigmas: tuple[float, ...] = ()

    @property
    def top(self) -> float:
        """The last timestep's level: 1 with zero terminal SNR, 0.936 for Stable Diffusion 1.x."""
        return self.sigmas[-1]

    def timestep(self, t: Float[Tensor, b]) -> Float[Tensor, b]:
        """The timestep of a noise level, between timesteps by linear interpolation of the level.

        Of the level and not of the log-SNR, which is infinite at a zero terminal SNR; at timesteps they agree.
        """
        table = _table(self.sigmas, t.device)
        level = t.float().clamp(self.sigmas[0], self.sigmas[-1])
        above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return (above - 1 + (level - low) / (high - low)).to(t.dtype)

    def draw(self, rng: np.random.Generator) -> float:
        """Level of a timestep drawn evenly, as Stable Diffusion was trained."""
        return self.sigmas[int(rng.integers(len(self.sigmas)))]

    def levels(self, steps: int) -> list[float]:
        """Evenly spaced timesteps from the last one down (``trailing`` in diffusers).

        Checkpoints often ask for ``leading``, which leaves out the last timestep, so that painting starts at a level
        the network knows with less noise than it has (Lin et al. 2024).
        """
        count = len(self.sigmas)
        if steps > count:
            raise StainglassError(
                f"sampling.steps {steps}", f"the schedule has {count} timesteps", "Take fewer steps"
            )
        at = np.linspace(count, 0, steps + 1)[:-1].round().astype(int) - 1
        return [self.sigmas[i] for i in at]

    def _plain_weight(self, t: Float[Tensor, b]) -> Float[Tensor, b]:
        """One over the square of what an error of the answer does to the velocity."""
        if self.prediction == "epsilon":
            return (1 - t).pow(2)
        return t.pow(2) if self.prediction == "sample" else _norm(t).pow(2)


RECTIFIED = Flow()


@cache
def _table(values: tuple[float, ...], device: torch.device) -> Float[Tensor, k]:
    """Values on a device, copied there once."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _at(t: Float[Tensor, b]) -> Float[Tensor, "b 1 1 1"]:
    return t[:, None, None, None]


def _norm(t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Deviation s of ``x_t`` when z is standard normal."""
    return ((1 - t) ** 2 + t**2).sqrt()


def flow_of(scheduler: Any) -> Flow:
    """The flow that a pipeline's saved diffusers scheduler stands for.

    Flow-matching schedulers stand for ours; any other has betas, its own or a checkpoint's.

    Raises
    ------
    StainglassError
        When it predicts something else, or noise where there is nothing but noise.
    """
    config = scheduler.config
    prediction = config.get("prediction_type", "flow_prediction")
    if prediction == "flow_prediction":
        return RECTIFIED
    if prediction not in get_args(Prediction) or "beta_schedule" not in config:
        raise StainglassError(
            f"scheduler {type(scheduler).__name__}",
            f"has no betas, or predicts {prediction!r}",
            f"Give one with betas that predicts any of {', '.join(get_args(Prediction))}",
        )
    kept = DDIMScheduler.from_config(config).alphas_cumprod.double().clamp(0, 1)
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    if prediction == "epsilon" and float(signal[-1]) == 0:
        raise StainglassError(
            f"scheduler {type(scheduler).__name__}",
            "has zero terminal SNR and predicts epsilon, which says nothing of the picture there",
            "Set prediction_type to v_prediction, or rescale_betas_zero_snr to false",
        )
    levels = (noise / (signal + noise)).tolist()
    return VariancePreserving(cast(Prediction, prediction), tuple(levels))


def fresh_schedule(settings: DenoiserSettings) -> DDIMScheduler:
    """The schedule of a network of Stable Diffusion's family with fresh weights: its betas, painted by DDIM."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=settings.prediction,
        rescale_betas_zero_snr=settings.zero_snr,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
