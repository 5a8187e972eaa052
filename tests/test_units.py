import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stainglass.units import (
    LATENT_STEP_PX,
    px_to_um,
    snapped_top_left_px,
    um_to_px,
    window_centre_um_yx,
    xy_to_yx,
)

coordinates = st.floats(-1e5, 1e5)
mpps = st.floats(0.05, 10)


@given(coordinates, coordinates, mpps)
def test_there_and_back(y: float, x: float, mpp: float) -> None:
    at = np.array([[y, x]])
    np.testing.assert_allclose(px_to_um(um_to_px(at, mpp), mpp), at, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(xy_to_yx(xy_to_yx(at)), at)


@given(coordinates, coordinates, mpps, st.integers(1, 64))
def test_a_window_lies_within_half_a_latent_of_its_spot(y: float, x: float, mpp: float, cells: int) -> None:
    size = cells * LATENT_STEP_PX
    corner = snapped_top_left_px(np.array([[y, x]]), mpp, size)
    assert (corner % LATENT_STEP_PX == 0).all()
    off = np.abs(window_centre_um_yx(corner, mpp, size)[0] - [y, x]) / mpp
    assert (off <= LATENT_STEP_PX / 2 + 1e-6).all()
