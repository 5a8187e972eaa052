import numpy as np
import pytest
from scipy.linalg import sqrtm

from stainglass.evaluation.distances import (
    Kernels,
    Neighbourhoods,
    euclidean,
    frechet_distance,
    frechet_infinity,
    infinity_needs,
    kernel_distance,
)


def test_frechet_of_shifted_and_scaled_clouds_is_the_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5))
    shift = np.arange(5.0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + shift) == pytest.approx((shift**2).sum())
    # Σy = 9 Σx: tr(Σx) (1 + 9 − 2·3) and no shift of the mean.
    centred = x - x.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * np.cov(x.T).trace())


@pytest.mark.parametrize("n", [12, 40, 300])
def test_frechet_equals_the_matrix_square_root_on_both_paths(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 20)) @ rng.normal(size=(20, 20)), rng.normal(1, 2, size=(n, 20))
    s, t = np.cov(x.T), np.cov(y.T)
    eps = 1e-9 * np.eye(20)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm((s + eps) @ (t + eps)).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))


def test_frechet_at_infinity_is_the_distance_of_the_distributions():
    """Gaussians with the long spectrum of features: the distance is biased, its extrapolation is not."""
    d, rng = 64, np.random.default_rng(7)
    variance, wider, shift = 10 / np.arange(1, d + 1), 1 + 0.2 * rng.random(d), 0.3
    mean = shift * np.sqrt(variance) * rng.normal(size=d)
    truth = (mean**2).sum() + (variance * (1 - np.sqrt(wider)) ** 2).sum()
    n = infinity_needs(d)
    plain, endless = [], []
    for _ in range(12):
        x = rng.normal(size=(n, d)) * np.sqrt(variance)
        y = rng.normal(size=(n, d)) * np.sqrt(variance * wider) + mean
        plain.append(frechet_distance(x, y))
        endless.append(frechet_infinity(x, y, rng))
    assert np.mean(plain) > 1.5 * truth
    assert np.mean(endless) == pytest.approx(truth, rel=0.15)
    with pytest.raises(ValueError, match=f"needs {n} windows"):
        frechet_infinity(x[1:], y, rng)


def test_kernel_distance_equals_brute_force():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 4)), rng.normal(0.5, 1, size=(7, 4))

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    xx = np.mean([kernel(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
    yy = np.mean([kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)
    some, few = np.array([0, 3, 5]), np.array([1, 2, 6])
    assert Kernels.of(x, y).distance(some, few) == pytest.approx(kernel_distance(x[some], y[few]))


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(2)
    found = [kernel_distance(rng.normal(size=(20, 3)), rng.normal(size=(20, 3))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert min(found) < 0


def test_overlap_equals_brute_force():
    rng = np.random.default_rng(3)
    real, generated, k = rng.normal(size=(30, 3)), rng.normal(0.7, 1, size=(25, 3)), 4
    d = np.linalg.norm(real[:, None] - generated[None], axis=2)
    radius = np.array([sorted(np.linalg.norm(real - r, axis=1))[k] for r in real])
    radius_g = np.array([sorted(np.linalg.norm(generated - g, axis=1))[k] for g in generated])
    found = Neighbourhoods.of(real, generated).overlap(k=k)
    assert found.precision == np.mean([(d[:, j] <= radius).any() for j in range(25)])
    assert found.recall == np.mean([(d[i] <= radius_g).any() for i in range(30)])
    assert found.density == pytest.approx((d <= radius[:, None]).sum() / (k * 25))
    assert found.coverage == np.mean([(d[i] <= radius[i]).any() for i in range(30)])


def test_overlap_at_its_ends():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(40, 3))
    far = Neighbourhoods.of(real, real + 100).overlap()
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    same = Neighbourhoods.of(real, real).overlap()
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    collapsed = Neighbourhoods.of(real, np.repeat(real[:1], 40, axis=0)).overlap()
    assert collapsed.precision == 1
    assert collapsed.coverage < 0.5


def test_euclidean():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert euclidean(x, x) == pytest.approx(np.array([[0, 5], [5, 0]]))


def test_too_few_windows():
    one = np.zeros((1, 3))
    with pytest.raises(ValueError, match="two windows"):
        frechet_distance(one, one)
    with pytest.raises(ValueError, match="two windows"):
        kernel_distance(one, one)
    with pytest.raises(ValueError, match="more than 5"):
        Neighbourhoods.of(np.zeros((5, 2)), np.zeros((5, 2))).overlap()
