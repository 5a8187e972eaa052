import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from stainglass.config import Denoiser
from stainglass.models.denoiser import TissueDiT, _forward, make_denoiser, predict_velocity
from stainglass.models.flow import RECTIFIED
from stainglass.models.genecondnet import Embedded
from stainglass.models.solver import JUMPS, evaluations, integrate, jump_levels
from stainglass.training.denoiser import ready_to_train


def told(batch: int = 2, width: int = 32) -> Embedded:
    g = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 4 + [False] * 2] * batch)
    return Embedded(torch.randn(batch, 6, width, generator=g), mask, torch.randn(batch, width, generator=g))


@pytest.fixture(
    params=[
        ("unet", "coarsest"),
        ("unet", "coarse"),
        ("unet", "tokens"),
        ("unet", "everywhere"),
        ("dit", "coarse"),
    ],
    ids="-".join,
)
def denoiser(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    kind, attention = request.param
    settings = Denoiser(
        kind=kind,
        widths=(32, 32, 32) if attention == "coarsest" else (32, 32),
        layers=1,
        heads_of=16,
        attention=attention,
    )
    network = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(
                parameter, std=0.05
            )  # outputs and gates that start at zero hide what is tested
    return network


def test_shape_other_sizes_and_hearing(denoiser: torch.nn.Module) -> None:
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        v = predict_velocity(denoiser, x, t, told(), RECTIFIED)
        assert v.shape == x.shape
        assert predict_velocity(denoiser, torch.randn(2, 8, 24, 16), t, told(), RECTIFIED).shape == (
            2,
            8,
            24,
            16,
        )
        c = told()
        for changed in (
            Embedded(c.tokens + c.mask[..., None], c.mask, c.pooled),
            Embedded(c.tokens, c.mask, c.pooled + 1),
        ):
            assert (predict_velocity(denoiser, x, t, changed, RECTIFIED) - v).abs().max() > 1e-5
        masked = Embedded(c.tokens + 5 * ~c.mask[..., None], c.mask, c.pooled)
        torch.testing.assert_close(
            predict_velocity(denoiser, x, t, masked, RECTIFIED), v, atol=1e-5, rtol=1e-4
        )


def test_attention_written_out_says_the_same(denoiser: torch.nn.Module) -> None:
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        fused = predict_velocity(denoiser, x, t, told(), RECTIFIED)
        ready_to_train(denoiser)
        assert {type(one) for one in denoiser.attn_processors.values()} == {AttnProcessor}
        written_out = predict_velocity(denoiser, x, t, told(), RECTIFIED)
    torch.testing.assert_close(written_out, fused, atol=1e-5, rtol=1e-4)


def test_the_dit_starts_as_pixart_without_a_pooled_vector() -> None:
    dit = TissueDiT(
        latent_channels=8, latent_size=16, width=32, layers=1, heads_of=16, condition_width=32
    ).eval()
    c = told()
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        with_pooled = _forward(dit, x, RECTIFIED.timestep(t), c)
        without = dit(
            x,
            encoder_hidden_states=c.tokens,
            encoder_attention_mask=c.mask.float(),
            timestep=t * 1000,
            added_cond_kwargs={},
        ).sample
    torch.testing.assert_close(with_pooled, without)


def test_a_fresh_denoiser_gives_the_best_guess_for_normal_data() -> None:
    fresh = make_denoiser(
        Denoiser(widths=(32, 32), heads_of=16), latent_channels=8, latent_size=16, condition_width=32
    )
    z, noise = torch.randn(2, 64, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    for level in (0.1, 0.3, 0.9):
        x = (1 - level) * z + level * noise
        c = told(64)
        guess = predict_velocity(fresh, x, torch.full((64,), level), c, RECTIFIED).detach()
        error = (guess - (noise - z)).pow(2).mean()
        for slope in (0.98, 1.02):
            assert error < (slope * guess - (noise - z)).pow(2).mean()


MEAN, STD = 0.7, 0.5


def gaussian_velocity(x: torch.Tensor, t: float) -> torch.Tensor:
    """The exact velocity when the data are normal: E[ε − z | x_t]."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    centred = x - (1 - t) * MEAN
    return t / variance * centred - (MEAN + (1 - t) * STD**2 / variance * centred)


@pytest.mark.parametrize(
    ("solver", "tolerance"), [("euler", 0.05), ("heun", 0.002), ("unipc", 0.01), ("dpmpp", 0.01)]
)
def test_solvers_follow_a_flow_whose_end_is_known(solver: str, tolerance: float) -> None:
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    errors = [
        (integrate(gaussian_velocity, noise, solver, n, RECTIFIED) - (MEAN + STD * noise)).abs().mean().item()
        for n in (4, 16)
    ]
    assert errors[1] < tolerance
    assert errors[1] < errors[0]


def test_evaluations_are_counted_as_they_happen() -> None:
    for solver in ("euler", "heun", "unipc", "dpmpp"):
        calls: list[float] = []

        def still(x: torch.Tensor, t: float, calls: list[float] = calls) -> torch.Tensor:
            calls.append(t)
            return x * 0

        integrate(still, torch.zeros(1, 1, 2, 2), solver, 5, RECTIFIED)
        assert len(calls) == evaluations(solver, 5)


class TestJumps:
    """Sampling of few-step generators."""

    def test_mean_velocities_lead_to_the_clean_latent(self) -> None:
        clean, noise = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
        levels: list[float] = []

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            levels.append(t)
            return (x - clean) / t

        torch.testing.assert_close(
            integrate(velocity, noise, JUMPS, 4, RECTIFIED), clean, atol=1e-5, rtol=1e-5
        )
        assert levels == jump_levels(4) == [1.0, 0.75, 0.5, 0.25]
        assert evaluations(JUMPS, 4) == 4
