import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stainglass.errors import StainglassError
from stainglass.evaluation.resampling import (
    Resampling,
    _draw,
    derange,
    derange_as_far_as_possible,
    spatial_blocks,
)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    sections=st.integers(1, 3),
    distance=st.floats(0, 1500),
    seed=st.integers(0, 2**20),
)
def test_nobody_is_told_of_a_place_within_the_distance(n, sections, distance, seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 2000, (n, 2))
    names = [f"S{i}" for i in rng.integers(0, sections, n)]
    try:
        index = derange(centres, names, distance, rng)
    except StainglassError:
        return  # told, not bent: see the next test
    assert sorted(index) == list(range(n))
    for i, j in enumerate(index):
        assert i != j
        assert names[i] != names[j] or np.linalg.norm(centres[i] - centres[j]) >= distance


def test_derangements_are_found_where_they_are_tight():
    # Two clusters of equal size: everyone must cross over.
    centres = np.concatenate([np.zeros((20, 2)), np.full((20, 2), 1000.0)])
    index = derange(centres, ["S"] * 40, 900.0, np.random.default_rng(0))
    assert (index[:20] >= 20).all()
    with pytest.raises(StainglassError):
        derange(centres[:39], ["S"] * 39, 900.0, np.random.default_rng(0))
    _, kept = derange_as_far_as_possible(centres[:39], ["S"] * 39, 900.0, np.random.default_rng(0))
    assert kept == 0


def test_derangements_differ_by_draw():
    centres = np.random.default_rng(1).uniform(0, 5000, (60, 2))
    rng = np.random.default_rng(2)
    one, other = (derange(centres, ["S"] * 60, 500.0, rng) for _ in range(2))
    assert (one != other).mean() > 0.5


def test_blocks_are_squares_of_one_section_and_shrink_for_small_tissue():
    centres = np.array([[10.0, 10], [20, 90], [10, 110], [10, 10]] * 10)
    names = ["A", "A", "A", "B"] * 10
    blocks, side = spatial_blocks(centres, names, 100.0)
    assert blocks[0] != blocks[3]
    assert side < 100  # fewer than eight blocks of 100 µm
    grid = np.stack(np.mgrid[0:1000:50, 0:1000:50], -1).reshape(-1, 2) + 1.0
    assert spatial_blocks(grid, ["A"] * 400, 250.0)[1] == 250.0


def test_blocks_give_wider_intervals_than_windows_where_neighbours_agree():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:20, :20] * 100.0
    centres = np.stack([y.ravel(), x.ravel()], 1)
    smooth = np.sin(centres[:, 0] / 300) + rng.normal(0, 0.1, 400)
    blocks = Resampling.of(centres, ["A"] * 400, 500.0, 300, rng).mean(smooth)
    singles = Resampling.of(centres, ["A"] * 400, 1.0, 300, rng).mean(smooth)
    assert blocks.high - blocks.low > 1.5 * (singles.high - singles.low)
    assert "within section" in blocks.label


def test_five_sections_are_drawn_as_sections():
    centres = np.random.default_rng(4).uniform(0, 1000, (50, 2))
    draws = Resampling.of(centres, [f"S{i % 5}" for i in range(50)], 100.0, 20, np.random.default_rng(5))
    assert draws.label == "sections"
    assert (draws.weights[:, 0] == draws.weights[:, 5]).all()
    assert (draws.weights.sum(1) == 50).all()


def test_halves_hold_no_window_twice():
    centres = np.random.default_rng(6).uniform(0, 3000, (61, 2))
    draws = Resampling.of(centres, ["A"] * 61, 500.0, 30, np.random.default_rng(7))
    assert {len(half) for half in draws.halves} == {30}
    assert all(len(set(half)) == 30 for half in draws.halves)


def test_differences_are_paired():
    rng = np.random.default_rng(8)
    centres, values = rng.uniform(0, 3000, (80, 2)), rng.normal(0, 5, 80)
    draws = Resampling.of(centres, ["A"] * 80, 500.0, 100, rng)
    difference = draws.mean(values + 1) - draws.mean(values)
    assert difference.low == pytest.approx(1)
    assert difference.high == pytest.approx(1)


@pytest.mark.parametrize(("sections", "blocks"), [(1, 4), (4, 2), (4, 1)])
def test_few_blocks_vary_as_much_as_tissue_does(sections, blocks):
    """As many draws as there are blocks would vary (blocks - 1) / blocks as much, and a single one not at all."""
    rng = np.random.default_rng(0)
    block, groups = np.repeat(np.arange(sections * blocks), 10), np.repeat(np.arange(sections), blocks * 10)
    drawn = [
        _draw(block, groups, 200, rng)[0] @ rng.normal(size=sections * blocks)[block] / len(block)
        for _ in range(300)
    ]
    assert np.mean([draws.var() for draws in drawn]) == pytest.approx(1 / (sections * blocks), rel=0.15)
