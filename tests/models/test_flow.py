import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from stainglass.config import Denoiser
from stainglass.errors import StainglassError
from stainglass.models.flow import RECTIFIED, Prediction, VariancePreserving, flow_of, fresh_schedule
from stainglass.models.solver import integrate, make_scheduler
from tiny_sd import scheduler_of

SD = scheduler_of()
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")


def sd_flow(prediction: str = "v_prediction", zero_snr: bool = False) -> VariancePreserving:
    found = flow_of(scheduler_of(prediction, zero_snr))
    assert isinstance(found, VariancePreserving)
    return found


def test_saved_schedulers_tell_their_flow() -> None:
    for solver in ("euler", "heun", "unipc", "dpmpp"):
        assert flow_of(make_scheduler(solver)) is RECTIFIED
    for kind in (DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler):
        again = flow_of(kind.from_config(SD.config))
        assert again == flow_of(SD)
    assert flow_of(SD).top == pytest.approx(0.936, abs=1e-3)
    assert flow_of(fresh_schedule(Denoiser(kind="stable-diffusion"))).top == 1.0


def test_what_cannot_be_painted_with_is_refused() -> None:
    with pytest.raises(StainglassError, match="nothing of the picture"):
        flow_of(DDIMScheduler(rescale_betas_zero_snr=True))
    with pytest.raises(StainglassError, match="no betas"):
        flow_of(EDMEulerScheduler())
    with pytest.raises(StainglassError, match="1000 timesteps"):
        sd_flow().levels(1001)


def test_a_timestep_is_found_from_its_level_and_lies_between_its_neighbours() -> None:
    for zero_snr in (False, True):
        flow = sd_flow(zero_snr=zero_snr)
        levels = torch.tensor(flow.sigmas)
        torch.testing.assert_close(flow.timestep(levels), torch.arange(1000.0), atol=2e-3, rtol=0)
        between = flow.timestep((levels[1:] + levels[:-1]) / 2)
        torch.testing.assert_close(between, torch.arange(999.0) + 0.5, atol=2e-3, rtol=0)
    assert flow.timestep(torch.tensor([0.0, 1.0])).tolist() == [0.0, 999.0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_diffusers_calls_the_target_is_the_velocity(prediction: str) -> None:
    """Noise by diffusers, the answer by diffusers' own definition; the velocity must be noise minus latent."""
    flow, scheduler = sd_flow(prediction), DDPMScheduler.from_config(SD.config, prediction_type=prediction)
    z, noise = torch.randn(2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    k = torch.tensor([0, 20, 400, 800, 999])
    target = {"epsilon": noise, "v_prediction": scheduler.get_velocity(z, noise, k), "sample": z}[prediction]
    t = torch.tensor(flow.sigmas)[k]
    x = (1 - t[:, None, None, None]) * z + t[:, None, None, None] * noise
    torch.testing.assert_close(
        flow.network_input(x, t), scheduler.add_noise(z, noise, k), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(flow.velocity(x, t, target), noise - z, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_that_of_the_answer_and_min_snr_is_as_published(prediction: str) -> None:
    flow = sd_flow(prediction)
    t = torch.tensor(flow.sigmas)[[5, 300, 900]]
    x, answer = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wrong = answer + 0.1
    change = (flow.velocity(x, t, wrong) - flow.velocity(x, t, answer)).pow(2).mean((1, 2, 3))
    torch.testing.assert_close(flow.loss_weight(t) * change, torch.full((3,), 0.01), rtol=1e-3, atol=0)
    snr = ((1 - t) / t) ** 2
    clipped = snr.clamp(max=5)
    published = {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[prediction]
    torch.testing.assert_close(flow.loss_weight(t, 5.0) * change, published * 0.01, rtol=1e-3, atol=0)


def test_nothing_but_noise_still_has_a_weight() -> None:
    flow = sd_flow(zero_snr=True)
    assert flow.loss_weight(torch.tensor([1.0]), 5.0).item() == 1.0
    assert RECTIFIED.loss_weight(torch.tensor([0.3, 0.7])).tolist() == [1.0, 1.0]


def test_levels_are_drawn_as_each_was_trained() -> None:
    rng = np.random.default_rng(0)
    flow = sd_flow()
    drawn = torch.tensor([flow.draw(rng) for _ in range(4000)], dtype=torch.float64)
    at = flow.timestep(drawn)
    assert abs(at.mean().item() - 499.5) < 20
    torch.testing.assert_close(at, at.round(), atol=1e-3, rtol=0)
    ours = np.log([1 / RECTIFIED.draw(rng) - 1 for _ in range(4000)])
    assert abs(ours.mean()) < 0.06
    assert abs(ours.std() - 1) < 0.05


MEAN, STD = 0.7, 0.5


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("solver", ["euler", "heun", "unipc", "dpmpp"])
def test_every_solver_paints_on_its_schedule(solver: str, zero_snr: bool) -> None:
    """The exact velocity of normal data, whose flow keeps the deviations of where it starts."""

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        variance = (1 - t) ** 2 * STD**2 + t**2
        centred = x - (1 - t) * MEAN
        return t / variance * centred - (MEAN + (1 - t) * STD**2 / variance * centred)

    flow, top = sd_flow(zero_snr=zero_snr), sd_flow(zero_snr=zero_snr).top
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    start = noise * ((1 - top) ** 2 + top**2) ** 0.5  # Stable Diffusion begins with noise of variance one
    off_centre = (start - (1 - top) * MEAN) / ((1 - top) ** 2 * STD**2 + top**2) ** 0.5
    end = MEAN + STD * off_centre
    off = [(integrate(velocity, noise, solver, n, flow) - end).abs().mean().item() for n in (10, 50, 500)]
    assert off[2] < 0.005
    assert off[0] > 2 * off[1] > 4 * off[2]
