from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stainglass.cohort.cohort import joined
from stainglass.cohort.windows import Conditions, depth_of, gather_conditions
from stainglass.errors import StainglassError
from stainglass.synthesis.thin import thinned

SPOTS, GENES = 12, 300


def told(windows: int = 9, seed: int = 0, depth: float = 4.0) -> Conditions:
    """Windows of one section that share spots."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 400, (SPOTS, 2))
    counts = rng.poisson(depth, (SPOTS, GENES)).astype(np.float32)
    names = [f"{i}x{i}" for i in range(SPOTS)]
    centres = rng.uniform(0, 400, (windows, 2))
    return gather_conditions(centres, places, counts, np.full(SPOTS, 100.0), names, 150.0, 5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(0, 99))
def test_every_window_hears_the_same_of_a_spot(share: float, seed: int) -> None:
    less = thinned(told(), share, seed)
    heard: dict[str, np.ndarray] = {}
    for row, names in zip(less.counts, less.barcodes):
        for counts, name in zip(row, names):
            np.testing.assert_array_equal(heard.setdefault(name, counts), counts)
    assert any(sum(name in row for row in less.barcodes) > 1 for name in heard)
    # Nor does it matter which windows are painted at once.
    np.testing.assert_array_equal(thinned(told().take([4]), share, seed).counts[0], less.counts[4])


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95))
def test_the_share_is_left_out_and_nothing_is_added(share: float) -> None:
    full = told(depth=20.0)
    less = thinned(full, share, 0)
    assert (less.counts <= full.counts).all()
    assert (less.counts == np.floor(less.counts)).all()
    assert less.counts.sum() / full.counts.sum() == pytest.approx(1 - share, abs=0.01)
    np.testing.assert_array_equal(less.offsets_um_yx, full.offsets_um_yx)
    assert not less.counts[~less.present].any()


def test_it_varies_as_binomial_counts_do() -> None:
    full = told()
    at = next(i for i, names in enumerate(full.barcodes) if names)
    drawn = np.stack([thinned(full, 0.5, seed).counts[at, 0] for seed in range(200)])
    many = full.counts[at, 0] >= 4
    expected = full.counts[at, 0, many] * 0.25
    assert drawn.var(0)[many].mean() == pytest.approx(expected.mean(), rel=0.05)
    assert np.corrcoef(drawn[0][many], drawn[1][many])[0, 1] < 0.9


def test_spots_and_seeds_are_drawn_apart() -> None:
    full = told()
    alike = full.with_counts_everywhere(np.full((len(full), GENES), 9, np.float32), "same")
    alike = replace(alike, barcodes=full.barcodes)
    less = thinned(alike, 0.5, 0)
    two = next(row for row, names in zip(less.counts, less.barcodes) if len(names) > 1)
    assert (two[0] != two[1]).any()
    assert (thinned(alike, 0.5, 1).counts != less.counts).any()


def test_a_gene_told_more_strongly_leaves_the_others_as_they_are() -> None:
    """A slider for one gene shall move that gene alone, and up."""
    full = told()
    more = full.counts.copy()
    more[..., 7] *= 3
    one, other = (thinned(replace(full, counts=counts), 0.5, 0).counts for counts in (full.counts, more))
    np.testing.assert_array_equal(np.delete(one, 7, -1), np.delete(other, 7, -1))
    assert (other[..., 7] >= one[..., 7]).all()
    assert other[..., 7].sum() > one[..., 7].sum()


def test_parts_of_a_count_are_kept_in_proportion() -> None:
    full = told()
    means = np.tile(np.float32(0.4), (len(full), GENES))  # a section's mean expression
    bulk = full.with_counts_everywhere(means, "section mean")
    np.testing.assert_allclose(thinned(bulk, 0.5, 0).counts, bulk.counts * 0.5, rtol=1e-6)


def test_expected_counts_are_given_no_noise_and_spots_are() -> None:
    """A mean's counts are whole here and there; one draw for all its spots would make another mean of it."""
    full = told()
    spots = np.concatenate([window[here] for window, here in zip(full.counts, full.present)])
    bulk = full.with_counts_everywhere(np.tile(spots.mean(0), (len(full), 1)), "section mean")
    whole = bulk.counts[bulk.present] == np.floor(bulk.counts[bulk.present])
    assert 0 < whole.mean() < 0.5
    np.testing.assert_allclose(thinned(bulk, 0.5, 0).counts, bulk.counts * 0.5, rtol=1e-6)
    assert (thinned(full, 0.5, 0).counts != full.counts * 0.5).any()


def test_nothing_told_and_nothing_left_out() -> None:
    full = told()
    assert thinned(full, 0.0, 0) is full
    assert not thinned(full.null(), 0.5, 0).present.any()


@settings(max_examples=10, deadline=None)
@given(st.integers(-3, 3))
def test_any_seed_of_the_noise_does(seed: int) -> None:
    assert thinned(told(), 0.5, seed).counts.sum() > 0


@pytest.mark.parametrize("share", [1.0, 1.5, -0.1])
def test_no_other_share_is_possible(share: float) -> None:
    with pytest.raises(StainglassError, match="thinning"):
        thinned(told(), share, 0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 30.0), st.floats(0.2, 30.0), st.floats(300, 6000))
def test_deeper_sections_are_thinned_to_the_depth_and_shallower_ones_told_in_full(
    one: float, other: float, depth: float
) -> None:
    parts = [of_known_depth(per_gene) for per_gene in (one, other)]
    for part, both in zip(parts, (slice(0, 9), slice(9, 18))):
        less = thinned(joined(parts), 0.0, 0, depth)
        assert part.depths is not None
        kept = less.counts[both].sum() / part.counts.sum()
        assert kept == pytest.approx(min(1, depth / part.depths[0]), rel=0.05)
        # Alone it hears the same as beside other sections.
        np.testing.assert_array_equal(less.counts[both], thinned(part, 0.0, 0, depth).counts)


def test_of_a_share_and_a_depth_the_one_that_leaves_out_more_holds() -> None:
    part = of_known_depth(4.0)
    assert part.depths is not None
    for share, depth, kept in ((0.5, 0.8, 0.5), (0.1, 0.4, 0.4), (0.5, 3.0, 0.5), (0.0, 1.0, 1.0)):
        less = thinned(part, share, 0, depth * float(part.depths[0]))
        assert less.counts.sum() / part.counts.sum() == pytest.approx(kept, abs=0.02)


def test_windows_told_nothing_are_of_their_section_still() -> None:
    part = of_known_depth(4.0)
    assert not thinned(part.null(), 0.0, 0, 100.0).present.any()


def test_a_depth_needs_to_know_how_deep_sections_are() -> None:
    with pytest.raises(StainglassError, match="depth"):
        thinned(told(), 0.0, 0, 100.0)


@pytest.mark.parametrize("depth", [0.0, -5.0, float("nan")])
def test_no_such_depth_is_possible(depth: float) -> None:
    with pytest.raises(StainglassError, match="depth"):
        thinned(of_known_depth(4.0), 0.0, 0, depth)


def test_an_endless_depth_tells_all() -> None:
    part = of_known_depth(4.0)
    assert thinned(part, 0.0, 0, float("inf")) is part


def of_known_depth(per_gene: float) -> Conditions:
    full = told(depth=per_gene)
    counts = np.concatenate([window[here] for window, here in zip(full.counts, full.present)])
    return replace(full, depths=np.full(len(full), depth_of(counts), np.float32))


def test_a_share_may_be_a_whole_number() -> None:
    part = of_known_depth(20.0)
    np.testing.assert_array_equal(thinned(part, 0, 0, 10).counts, thinned(part, 0.0, 0, 10.0).counts)
    assert thinned(part, 0, 0, 10).counts.any()
