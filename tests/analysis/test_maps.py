"""Smooth maps: properties that hold whatever the spots."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stainglass.analysis.maps import pitch_um, smooth_map
from stainglass.errors import StainglassError

TISSUE = np.ones((60, 60), bool)  # 480 µm a side


def scattered(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(40, 440, (n, 2)), rng.normal(size=n)


def lattice(pitch: float = 80.0) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(60, 440, pitch)] * 2, indexing="ij"), -1).reshape(-1, 2)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), constant=st.floats(-1e3, 1e3))
def test_a_constant_stays_constant(seed: int, constant: float) -> None:
    centres, _ = scattered(seed)
    found = smooth_map(centres, np.full(len(centres), constant), TISSUE).values
    assert np.isfinite(found).any()
    assert found[np.isfinite(found)] == pytest.approx(constant, rel=1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_no_value_leaves_the_range_of_the_spots(seed: int) -> None:
    centres, values = scattered(seed)
    found = smooth_map(centres, values, TISSUE).values
    known = found[np.isfinite(found)]
    assert known.min() >= np.float32(values.min())
    assert known.max() <= np.float32(values.max())


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), square=st.booleans(), turn=st.integers(0, 7))
def test_a_flipped_section_has_the_flipped_map(seed: int, square: bool, turn: int) -> None:
    centres, values = scattered(seed)
    if square:  # many cells are equally near to several spots
        centres = lattice()
        values = np.random.default_rng(seed).normal(size=len(centres))
    mask = np.random.default_rng(seed).random(TISSUE.shape) > 0.2
    plain = smooth_map(centres, values, mask, cell_um=8.0).values
    if turn & 1:
        centres, mask, plain = centres * [-1, 1] + [480, 0], mask[::-1], plain[::-1]
    if turn & 2:
        centres, mask, plain = centres * [1, -1] + [0, 480], mask[:, ::-1], plain[:, ::-1]
    if turn & 4:
        centres, mask, plain = centres[:, ::-1], mask.T, plain.T
    turned = smooth_map(np.ascontiguousarray(centres), values, mask, cell_um=8.0).values
    np.testing.assert_allclose(turned, plain, rtol=1e-5, atol=1e-5)


def test_spots_keep_their_values_and_a_ramp_its_slope() -> None:
    centres = lattice()
    for values in (np.random.default_rng(0).normal(size=len(centres)), centres[:, 1] / 100):
        found = smooth_map(centres, values, TISSUE, cell_um=4.0)
        at = (centres / np.array(found.cell_um_yx)).astype(int)
        assert np.abs(found.values[at[:, 0], at[:, 1]] - values).max() < 0.25 * np.ptp(values)
    ramp = found.values[30:90, 30:90]
    expected = (np.arange(30, 90) + 0.5) * 4.0 / 100
    assert np.abs(ramp - expected).max() < 0.12  # linear functions are nearly reproduced within the hull
    assert (np.diff(ramp, axis=1) > -0.02).all()


def test_nothing_off_the_tissue_nor_beyond_a_pitch() -> None:
    centres = np.array([[100.0, 100.0], [100.0, 150.0], [150.0, 100.0], [150.0, 150.0]])
    tissue = TISSUE.copy()
    tissue[:, 30:] = False
    found = smooth_map(centres, np.arange(4.0), tissue, cell_um=8.0).values
    y, x = (np.stack(np.nonzero(np.isfinite(found)), 0) + 0.5) * 8.0
    distance = np.hypot(y[:, None] - centres[:, 0], x[:, None] - centres[:, 1]).min(1)
    assert distance.max() <= 50.0
    assert x.max() < 240
    assert np.isfinite(found).sum() > 100


def test_spots_without_a_value_are_left_out() -> None:
    centres, values = scattered(3)
    without = smooth_map(centres[1:], values[1:], TISSUE, cell_um=8.0).values
    values[0] = np.nan
    np.testing.assert_array_equal(smooth_map(centres, values, TISSUE, cell_um=8.0).values, without)


def test_a_crop_is_the_map() -> None:
    centres, values = scattered(5)
    found = smooth_map(centres, values, TISSUE, cell_um=8.0)
    np.testing.assert_allclose(found.crop(0, 0, 480.0, 60), found.values, rtol=1e-6)
    assert np.isnan(found.crop(-480.0, 0, 480.0, 8)).all()


def test_a_crop_lies_where_the_spots_do() -> None:
    """Also where the mask's cells do not divide by the map's: values would drift by up to half a cell."""
    tissue = np.ones((242, 242), bool)  # 1,936 µm
    centres = np.stack(np.meshgrid(*[np.arange(100.0, 1900, 200)] * 2, indexing="ij"), -1).reshape(-1, 2)
    found = smooth_map(centres, centres[:, 0], tissue)
    crop = found.crop(1700.0, 900.0, 1.0, 1)
    fine = smooth_map(centres, centres[:, 0], tissue, cell_um=4.0).crop(1700.0, 900.0, 1.0, 1)
    assert crop[0, 0] == pytest.approx(fine[0, 0], abs=2.0)


def test_one_spot_is_no_map() -> None:
    with pytest.raises(StainglassError, match="no map"):
        pitch_um(np.zeros((1, 2)))
