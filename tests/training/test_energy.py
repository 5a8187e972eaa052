import pytest
import torch
from torch import Tensor

from stainglass.training.energy import Measure, apart, energy_distance, energy_score


def drawn(n: int, seed: int, mean: float = 0.0, spread: float = 1.0, d: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + spread * torch.randn(n, d, generator=generator)


def distance_to(real: Tensor, painted: Tensor, before: Tensor) -> float:
    return float(energy_distance(painted, torch.arange(len(painted)), before, real))


def test_distances_are_euclids() -> None:
    x, y = drawn(5, 0), drawn(7, 1)
    torch.testing.assert_close(apart(x, y), torch.cdist(x, y), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("mean", "spread"), [(0.7, 1.0), (0.0, 0.4), (0.0, 2.0)])
def test_another_distribution_is_farther_than_the_same(mean: float, spread: float) -> None:
    real = drawn(400, 0)
    same = distance_to(real, drawn(300, 1), drawn(300, 2))
    other = distance_to(real, drawn(300, 3, mean, spread), drawn(300, 4, mean, spread))
    within = float(apart(real, real).sum() / (400 * 399))
    assert same - within == pytest.approx(0, abs=0.04)
    assert other - within > 0.08


def test_following_the_gradient_leads_to_the_distribution_and_not_to_its_mean() -> None:
    """Points pushed by the loss alone take the spread of what they are compared with."""
    real = drawn(500, 0, mean=1.0, spread=0.7, d=2)
    points = torch.nn.Parameter(drawn(60, 1, mean=-1.0, spread=0.05, d=2))
    optimiser = torch.optim.Adam([points], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        energy_distance(points, torch.arange(60), points.detach().clone(), real).backward()
        optimiser.step()
    found = points.detach()
    torch.testing.assert_close(found.mean(0), real.mean(0), atol=0.1, rtol=0.0)
    torch.testing.assert_close(found.std(0), real.std(0), atol=0.12, rtol=0.0)


def test_places_of_one_picture_are_not_pushed_apart() -> None:
    owners = torch.tensor([0, 0, 1, 1])
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    real = torch.zeros(1, 2)
    # Distances: to real 0, 0, 5, 5; between pictures always 5, and as much to those before.
    before = torch.tensor([[0.0, 5.0]])
    expected = 2 * 2.5 - (5 + float(apart(x, before).mean())) / 2
    assert float(energy_distance(x, owners, before, real)) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize(("counted", "best"), [(1.0, 1.0), (0.6, 0.5), (0.0, 0.0)])
def test_a_score_is_best_for_pictures_as_various_as_what_is_found_or_less(
    counted: float, best: float
) -> None:
    n = 4000
    real = drawn(n, 0)
    scores = {
        various: float(energy_score(drawn(n, 1, 0.0, various), drawn(n, 2, 0.0, various), real, counted))
        for various in (0.0, 0.5, 1.0, 1.6)
    }
    assert min(scores, key=scores.__getitem__) == best


def test_a_measure_is_in_units_of_real_distances_whatever_the_features_are_in() -> None:
    real = drawn(300, 0) * torch.tensor([1.0, 100.0, 0.1, 1.0, 1.0, 1.0])
    real[:, 5] = 7.0  # a filter that never answers
    measure = Measure(real)
    for points in measure(real):
        assert torch.isfinite(points).all()
        assert float(apart(points, points).mean()) == pytest.approx(1.0, abs=0.02)
    again = Measure(1000 * real)
    for one, other in zip(measure(real), again(1000 * real), strict=True):
        torch.testing.assert_close(apart(one, one), apart(other, other), atol=0.02, rtol=0.02)
