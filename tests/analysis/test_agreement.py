"""How two divisions of the same spots are compared."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import cohen_kappa_score

from stainglass.analysis.agreement import compared, dice, kappa, matched_dice, mean_dice, moved, rand_index
from stainglass.analysis.block_draws import BlockDraws


def lattice(shape: tuple[int, int]) -> np.ndarray:
    return np.stack([grid.ravel() for grid in np.indices(shape)], axis=1) * 200.0 + 300


def test_closed_forms():
    a, b = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 1, 1, 0])
    assert dice(a == 1, b == 1) == pytest.approx(2 * 2 / 5)
    assert mean_dice(a, b) == pytest.approx((2 * 1 / 4 + 4 / 5) / 2)
    assert kappa(a, b) == pytest.approx(cohen_kappa_score(a[:4], b[:4]))
    assert np.isnan(dice(a == 7, b == 7))
    assert np.isnan(kappa(np.full(3, -1), b[:3]))


def test_renamed_components_agree_wholly():
    a = np.array([1, 1, 2, 2, 3, 0])
    b = np.array([2, 2, 1, 1, 3, 0])
    assert rand_index(a - 1, b - 1) == pytest.approx(1.0)
    assert matched_dice(a, b) == pytest.approx(1.0)
    assert matched_dice(a, np.array([1, 1, 1, 1, 1, 0])) < 0.8


def test_the_same_map_agrees_and_a_moved_one_by_chance():
    centres = lattice((12, 12))
    rng = np.random.default_rng(0)
    blobs = (ndimage.gaussian_filter(rng.normal(size=(12, 12)), 2) > 0).astype(int).ravel()
    one = np.zeros(144, int)
    draws, moves = BlockDraws.of(centres, one, rng), moved(centres, one)
    same = compared(blobs, blobs, rand_index, draws, moves)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    assert same.chance < 0.3
    other = compared(blobs, rng.permutation(blobs), rand_index, draws, moves)
    assert abs(other.value) < 0.15
    assert other.low <= other.value + 0.05


def test_moves_go_far_and_stay_within_sections():
    centres, section = np.tile(lattice((4, 4)), (2, 1)), np.repeat([0, 1], 16)
    for at in moved(centres, section):
        assert (section[at] == section).all()
        step = (at - np.arange(32)) % 16
        assert ((step >= 4) & (step <= 12)).all()
        assert sorted(at) == list(range(32))


def test_the_order_of_the_spots_makes_no_difference():
    rng = np.random.default_rng(0)
    centres, section = np.tile(lattice((6, 5)), (2, 1)), np.repeat([0, 1], 30)
    values, order = rng.normal(size=60), rng.permutation(60)
    for at, mixed in zip(moved(centres, section), moved(centres[order], section[order]), strict=True):
        np.testing.assert_array_equal(values[at][order], values[order][mixed])
