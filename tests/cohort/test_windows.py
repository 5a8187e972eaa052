import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stainglass.cohort.windows import Window, as_bulk, gather_conditions, grid_windows, patch_windows


def test_a_window_off_the_latent_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="latent grid"):
        Window("s", 3, 0, 64)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 30), st.floats(20, 400), st.integers(1, 6))
def test_conditions_hold_exactly_the_nearest_spots_in_reach(
    seed: int, n: int, reach: float, most: int
) -> None:
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 1000, (n, 2))
    counts = rng.poisson(3, (n, 5)).astype(np.float32)
    centre = rng.uniform(0, 1000, (1, 2))
    names = [f"b{i}" for i in range(n)]
    told = gather_conditions(centre, spots, counts, np.full(n, 55.0), names, reach, most)
    distance = np.hypot(*(spots - centre).T)
    expected = [i for i in np.argsort(distance, kind="stable")[:most] if distance[i] <= reach]
    assert told.barcodes[0] == tuple(names[i] for i in expected)
    assert told.present[0].sum() == len(expected)
    for slot, i in enumerate(expected):
        np.testing.assert_array_equal(told.counts[0, slot], counts[i])
        np.testing.assert_allclose(told.offsets_um_yx[0, slot], (spots[i] - centre[0]), atol=1e-3)
    assert not told.counts[0, len(expected) :].any()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([100.0, 141.4, 250.0]), st.integers(1, 7))
def test_many_windows_hear_what_each_hears_by_itself(seed: int, reach: float, most: int) -> None:
    """On a lattice, where many spots are equally near."""
    grid = np.stack(np.meshgrid(np.arange(7) * 100.0, np.arange(6) * 100.0), -1).reshape(-1, 2)
    spots = np.random.default_rng(seed).permutation(grid)
    centres = np.concatenate([spots, spots[:20] + 50.0])
    counts = np.arange(len(spots), dtype=np.float32)[:, None]
    rest = (np.full(len(spots), 55.0), [f"b{i}" for i in range(len(spots))], reach, most)
    together = gather_conditions(centres, spots, counts, *rest)
    for i, centre in enumerate(centres):
        alone = gather_conditions(centre[None], spots, counts, *rest)
        assert alone.barcodes[0] == together.barcodes[i]
        np.testing.assert_array_equal(alone.counts[0], together.counts[i])
        np.testing.assert_array_equal(alone.offsets_um_yx[0], together.offsets_um_yx[i])


def test_null_and_bulk_keep_the_shape_and_nothing_else() -> None:
    spots = np.array([[0.0, 0.0], [100.0, 0.0]])
    told = gather_conditions(spots, spots, np.ones((2, 3), np.float32), np.full(2, 55.0), ["a", "b"], 50.0, 3)
    assert not told.null().present.any()
    assert not told.null().counts.any()
    bulk = told.with_counts_everywhere(np.full((2, 3), 7, np.float32), "bulk")
    np.testing.assert_array_equal(bulk.present, told.present)
    assert (bulk.counts[told.present] == 7).all()
    assert not bulk.counts[~told.present].any()
    assert told.take([1, 0, 1]).barcodes == (("b",), ("a",), ("b",))


def test_patches_lie_on_their_spots_and_grids_tile_the_tissue() -> None:
    patches = patch_windows("s", np.array([[500.0, 300.0]]), ["a"], 0.5, 256)
    assert patches[0].spot == "a"
    assert np.abs(patches[0].centre_um_yx(0.5) - [500, 300]).max() <= 2
    tissue = np.zeros((100, 100), bool)
    tissue[:50, :75] = True  # an L would do as well: rows and columns must not change places
    grid = grid_windows("s", tissue, 8.0, 200)
    assert {(w.top_px, w.left_px) for w in grid} == {(y, x) for y in (0, 200) for x in (0, 200, 400)}


def test_bulk_is_the_same_mean_for_every_spot() -> None:
    counts = np.array([[2.0, 0.0], [4.0, 6.0]], np.float32)
    assert as_bulk(counts).tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_what_is_told_differently_has_another_digest() -> None:
    spots = np.array([[0.0, 0.0], [100.0, 0.0]])
    told = gather_conditions(
        spots, spots, np.eye(2, dtype=np.float32), np.full(2, 55.0), ["a", "b"], 150.0, 2
    )
    swapped = gather_conditions(
        spots, spots, np.eye(2, dtype=np.float32)[::-1], np.full(2, 55.0), ["a", "b"], 150.0, 2
    )
    assert told.digest() == told.take([0, 1]).digest()
    assert told.digest() != swapped.digest()
