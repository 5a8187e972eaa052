import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stainglass.cohort.windows import Window
from stainglass.synthesis.noise import candidate_seed, noise_crop, window_noise


@settings(max_examples=30)
@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(1, 70), st.integers(1, 70))
def test_every_crop_is_cut_from_one_field(top: int, left: int, height: int, width: int) -> None:
    field = noise_crop(7, "s", -128, -128, 300, 300, 2)
    np.testing.assert_array_equal(
        noise_crop(7, "s", top, left, height, width, 2),
        field[:, top + 128 : top + 128 + height, left + 128 : left + 128 + width],
    )


def test_seeds_and_sections_have_fields_of_their_own_and_normal_ones() -> None:
    one = noise_crop(0, "C5", 0, 0, 128, 128, 4)
    for other in (noise_crop(1, "C5", 0, 0, 128, 128, 4), noise_crop(0, "C4", 0, 0, 128, 128, 4)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02
    assert abs(one.mean()) < 0.02
    assert abs(one.std() - 1) < 0.02
    tiles = one.reshape(4, 4, 32, 4, 32).transpose(1, 3, 0, 2, 4).reshape(16, -1)
    assert np.abs(np.corrcoef(tiles) - np.eye(16)).max() < 0.08


def test_overlapping_windows_agree_where_they_overlap() -> None:
    a, b = window_noise(3, [Window("s", 0, 0, 64), Window("s", 16, 32, 64)], 3)
    np.testing.assert_array_equal(a[:, 2:, 4:], b[:, :6, :4])


def test_candidates_have_seeds_of_their_own_and_the_first_has_the_seed_itself() -> None:
    assert candidate_seed(5, 0) == 5
    seeds = {candidate_seed(seed, k) for seed in range(20) for k in range(20)}
    assert len(seeds) == 400
