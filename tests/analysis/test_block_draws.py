"""Draws of blocks of tissue, and the interval they give."""

import numpy as np
import pytest

from stainglass.analysis.block_draws import BlockDraws, strata_of_blocks, tail_of


def lattice(side: int) -> np.ndarray:
    return np.stack([grid.ravel() for grid in np.indices((side, side))], axis=1) * 200.0 + 300


def test_draws_stay_within_sections():
    centres, section = lattice(8), np.repeat([0, 1], 32)
    for at in BlockDraws.of(centres, section, np.random.default_rng(0), times=5).spots:
        assert set(section[at]) == {0, 1}


def test_draws_vary_as_much_as_tissue_does():
    """Two blocks a section: as many draws as there are blocks would vary half as much."""
    centres = np.column_stack([np.zeros(80), np.tile(np.arange(20) * 50.0, 4)])
    section, rng = np.repeat(np.arange(4), 20), np.random.default_rng(0)
    true, drawn = [], []
    for _ in range(300):
        values = rng.normal(size=8)[section * 2 + (centres[:, 1] >= 500)]
        true.append(values.mean())
        drawn.append(
            np.var([values[at].mean() for at in BlockDraws.of(centres, section, rng, times=40).spots])
        )
    assert np.mean(drawn) / np.var(true) == pytest.approx(1, abs=0.2)


def test_sections_of_one_block_vary_together():
    np.testing.assert_array_equal(strata_of_blocks(np.array([0, 1, 2, 2, 2])), [0, 0, 2, 2, 2])
    np.testing.assert_array_equal(strata_of_blocks(np.array([0, 2, 2, 3, 3, 3])), [2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(strata_of_blocks(np.array([4])), [4])


def test_fewer_blocks_leave_out_less():
    """Student's tails: of eight blocks one degree of freedom fewer; of very many, a normal distribution's."""
    rng = np.random.default_rng(0)
    few, many = (BlockDraws.of(lattice(side), np.zeros(side**2, int), rng, times=2) for side in (8, 120))
    assert few.tail < many.tail < 0.025
    assert many.tail == pytest.approx(0.025, abs=2e-4)
    assert few.tail == tail_of(15)
    assert tail_of(0) == 0.025  # one block says nothing, however far out


def test_an_interval_is_of_the_draws_that_have_the_figure():
    one = BlockDraws(tuple(np.full(3, i) for i in range(5)), tail=0.25)
    assert one.interval(lambda at: float(at.mean())) == (1.0, 3.0)
    assert one.interval(lambda at: float("nan") if at[0] == 4 else float(at.mean())) == (0.75, 2.25)
    assert np.isnan(one.interval(lambda at: float("nan"))).all()


def test_draws_among_the_known():
    one = BlockDraws((np.array([0, 1, 1]), np.array([2, 2]), np.array([1, 2])), tail=0.02)
    known = one.among(np.array([False, True, False]))
    assert [at.tolist() for at in known.spots] == [[1, 1], [1]]
    assert known.tail == 0.02
