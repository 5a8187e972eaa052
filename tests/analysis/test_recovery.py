import numpy as np
import pytest

from stainglass.analysis.recovery import Reader, grouped_correlation, mean_correlation, variable_genes


def test_a_planted_signal_is_recovered_and_noise_is_not():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(300, 4))
    features = hidden @ rng.normal(size=(4, 50)) + rng.normal(0, 0.3, (300, 50))
    targets = np.concatenate([hidden[:, :2], rng.normal(size=(300, 2))], 1)
    reader = Reader.fit(features[:200], targets[:200])
    r = grouped_correlation(reader.read(features[200:]), targets[200:], np.zeros(100, int))
    assert (r[:2] > 0.9).all()
    assert (np.abs(r[2:]) < 0.35).all()


def test_correlation_is_pearson_within_groups():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(3)]
    assert grouped_correlation(a, b, np.zeros(50, int)) == pytest.approx(expected)
    groups = np.repeat([0, 1], 25)
    shifted = grouped_correlation(a + 100 * groups[:, None], b + 100 * groups[:, None], groups)
    assert shifted == pytest.approx(grouped_correlation(a, b, groups))
    assert abs(shifted).max() < 0.6  # the shift between groups earns nothing


def test_integer_weights_are_repeats():
    rng = np.random.default_rng(2)
    a, b, groups = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), np.repeat([0, 1], 10)
    weights = rng.integers(0, 3, 20).astype(float)
    at = np.repeat(np.arange(20), weights.astype(int))
    assert grouped_correlation(a, b, groups, weights) == pytest.approx(
        grouped_correlation(a[at], b[at], groups[at])
    )


def test_constants():
    rng = np.random.default_rng(3)
    varied, flat, groups = rng.normal(5, 1, size=(20, 1)), np.full((20, 1), 0.1), np.zeros(20, int)
    assert grouped_correlation(flat, varied, groups) == 0
    assert np.isnan(grouped_correlation(varied, flat, groups)).all()
    assert np.isnan(mean_correlation(varied, flat, groups))


def test_variable_genes():
    expression = np.array([[0, 1, 5, 2], [0, 2, 0, 2]], float)
    assert variable_genes(expression, 3).tolist() == [2, 1]
