from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import GeneEncoder
from stainglass.errors import StainglassError
from stainglass.training.corrupt import FARTHEST, MOST_FOLD, SectionMean, corrupted, moved
from stainglass.training.stages import train_generator


class Always:
    """A generator that always draws the same."""

    def __init__(self, share: float) -> None:
        self.share = share

    def random(self) -> float:
        return self.share


def sections() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rates = rng.gamma(1.0, 20.0, 30)
    batch = np.exp(0.7 * rng.standard_normal(30))
    one, other = rng.poisson(rates, (200, 30)), rng.poisson(rates * batch, (200, 30))
    return one.astype(np.float32), other.astype(np.float32)


def mean_of(counts: np.ndarray, unmeasured: int | None = None) -> SectionMean:
    measured = np.arange(counts.shape[1]) != (-1 if unmeasured is None else unmeasured)
    return SectionMean(counts.mean(0) * measured, measured)


def shares(counts: np.ndarray) -> np.ndarray:
    return counts.sum(0) / counts.sum()


def test_all_the_way_a_section_has_the_others_mean() -> None:
    one, other = sections()
    own, its = mean_of(one), mean_of(other)
    there = shares(moved(one, own, its, Always(1 / FARTHEST)))  # type: ignore[arg-type]
    assert np.abs(there - shares(other)).max() < 0.02 * np.abs(shares(one) - shares(other)).max()
    np.testing.assert_allclose(moved(one, own, its, Always(0.0)), one)  # type: ignore[arg-type]
    beyond = shares(moved(one, own, its, Always(1.0)))  # type: ignore[arg-type]
    gone, whole = np.log(beyond / shares(one)), np.log(shares(other) / shares(one))
    assert np.polyfit(whole, gone, 1)[0] == pytest.approx(FARTHEST, abs=0.1)


@pytest.mark.parametrize("whole", [True, False])
def test_thinning_keeps_its_share_of_expected_counts_too(whole: bool) -> None:
    counts = np.full((400, 30), 2.0 if whole else 0.6, np.float32)
    genes = GeneEncoder(thinning=0.5, gene_dropout=0.0)
    found = corrupted(counts, genes, np.random.default_rng(0))
    assert found.sum() / counts.sum() == pytest.approx(0.75, abs=0.03)  # shares between a half and all
    assert (found == np.floor(found)).all() == whole


def test_what_sets_spots_apart_stays() -> None:
    one, other = sections()
    found = moved(one, mean_of(one), mean_of(other), np.random.default_rng(1))
    ratio = found / np.where(one > 0, one, np.nan)
    np.testing.assert_allclose(np.nanmax(ratio, 0), np.nanmin(ratio, 0), rtol=1e-5)
    assert (found[one == 0] == 0).all()


def test_a_gene_that_one_section_hardly_has_is_not_blown_up() -> None:
    one, other = sections()
    one[:, 3] = 0
    one[0, 3] = 1
    found = moved(one, mean_of(one), mean_of(other), Always(1.0))  # type: ignore[arg-type]
    assert found[0, 3] <= MOST_FOLD**FARTHEST * 1.001


@pytest.mark.parametrize("here", [True, False])
def test_a_gene_that_was_not_measured_in_both_is_not_moved(here: bool) -> None:
    one, other = sections()
    own, its = mean_of(one, 3 if here else None), mean_of(other, None if here else 3)
    fold = own.fold_to(its)
    assert fold[3] == 1
    without = [SectionMean(np.delete(m.counts, 3), np.delete(m.measured, 3)) for m in (own, its)]
    np.testing.assert_allclose(np.delete(fold, 3), without[0].fold_to(without[1]))


def test_a_section_without_counts_moves_nowhere_strange() -> None:
    one, _ = sections()
    fold = mean_of(np.zeros_like(one)).fold_to(mean_of(one))
    assert np.isfinite(fold).all()
    assert fold.max() <= MOST_FOLD


def test_bulk_has_nothing_else_to_tell() -> None:
    with pytest.raises(ValueError, match="all that bulk tells"):
        GeneEncoder(told="bulk", section_shift=0.5)


def test_one_section_has_nowhere_to_move(cohort: Cohort, tmp_path: Path) -> None:
    split = replace(cohort.split(), train=cohort.split().train[:1])
    with pytest.raises(StainglassError, match="the only one that is told"):
        train_generator(cohort, split, small_recipe(genes={"section_shift": 0.5}), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_generator_tells_that_expression_was_moved(cohort: Cohort, tmp_path: Path) -> None:
    recipe = small_recipe(train_denoiser={"steps": 1, "batch": 1}, genes={"section_shift": 0.5})
    facts = train_generator(cohort, cohort.split(), recipe, tmp_path).facts
    assert facts is not None
    assert facts.training["expression moved between sections"] == 0.5
