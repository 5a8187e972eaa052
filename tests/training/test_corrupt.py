import numpy as np
import pytest

from stainglass.training.corrupt import FARTHEST, MOST_FOLD, section_mean, shifted


class Far:
    """A generator that always draws the same."""

    def __init__(self, share: float) -> None:
        self.share = share

    def random(self) -> float:
        return self.share


def sections() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rates = rng.gamma(1.0, 20.0, 30)
    batch = np.exp(0.7 * rng.standard_normal(30))
    return rng.poisson(rates, (200, 30)).astype(np.float32), rng.poisson(rates * batch, (200, 30)).astype(
        np.float32
    )


def test_all_the_way_a_section_has_the_others_mean() -> None:
    one, other = sections()
    own, its = section_mean(one), section_mean(other)
    moved = section_mean(shifted(one, own, its, Far(1 / FARTHEST)))  # type: ignore[arg-type]
    assert np.abs(moved - its).max() < 0.02 * np.abs(own - its).max()
    stays = shifted(one, own, its, Far(0.0))  # type: ignore[arg-type]
    np.testing.assert_allclose(stays, one)
    beyond = section_mean(shifted(one, own, its, Far(1.0)))  # type: ignore[arg-type]
    assert np.corrcoef(np.log(beyond / own), np.log(its / own))[0, 1] > 0.95


def test_what_sets_spots_apart_stays() -> None:
    one, other = sections()
    moved = shifted(one, section_mean(one), section_mean(other), np.random.default_rng(1))
    ratio = moved / np.where(one > 0, one, np.nan)
    np.testing.assert_allclose(np.nanmax(ratio, 0), np.nanmin(ratio, 0), rtol=1e-5)
    assert (moved[one == 0] == 0).all()


def test_a_gene_that_one_section_lacks_is_not_blown_up() -> None:
    one, other = sections()
    one[:, 3] = 0
    one[0, 3] = 1
    moved = shifted(one, section_mean(one), section_mean(other), Far(1.0))  # type: ignore[arg-type]
    assert moved[0, 3] <= MOST_FOLD**FARTHEST * 1.001


@pytest.mark.parametrize("spots", [0, 3])
def test_a_section_without_counts_has_a_mean_of_nothing(spots: int) -> None:
    assert (section_mean(np.zeros((spots, 5), np.float32)) == 0).all()
