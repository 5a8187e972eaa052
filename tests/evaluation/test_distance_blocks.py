"""Large clouds block by block: the same figures as whole matrices give, in memory that does not grow with N²."""

import tracemalloc

import numpy as np
import pytest

from stainglass.evaluation import clouds
from stainglass.evaluation.blocks import compare
from stainglass.evaluation.clouds import Cloud, Moments, joined, on_disk, write_features
from stainglass.evaluation.distances import Kernels, Neighbourhoods, euclidean, frechet_distance


def two_clouds(n=150, m=110, d=6, shift=0.4):
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, d)).astype(np.float32), rng.normal(shift, 1, (m, d)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 64, 1024])
def test_blocks_give_what_whole_matrices_give(block):
    real, generated = two_clouds()
    rng = np.random.default_rng(0)
    halves = [(rng.permutation(150)[:75], rng.permutation(110)[:55]) for _ in range(4)]
    found = compare(Cloud(real), Cloud(generated), halves, block=block)
    kernels = Kernels.of(real, generated)
    assert found.kid == pytest.approx(kernels.distance(), rel=1e-9)
    assert found.kid_of_halves == pytest.approx([kernels.distance(i, j) for i, j in halves], rel=1e-9)
    expected = Neighbourhoods.of(real, generated).overlap()
    assert 0 < expected.coverage < 1
    assert 0 < expected.precision < 1
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found.overlap, name) == pytest.approx(getattr(expected, name), rel=1e-12), name


def test_chosen_rows_of_a_mapped_file_are_the_cloud_of_those_rows(tmp_path):
    real, generated = two_clouds()
    mapped = write_features(iter([real[:100], real[100:]]), 150, tmp_path / "real.npy")
    assert isinstance(mapped, np.memmap)
    assert np.load(tmp_path / "real.npy") == pytest.approx(real)
    index = np.random.default_rng(1).permutation(150)[:90]
    found = compare(Cloud(mapped, index), Cloud(generated), block=32)
    assert found.kid == pytest.approx(Kernels.of(real[index], generated).distance())
    again = Cloud(mapped, index).take(np.arange(40))
    assert frechet_distance(again, generated) == pytest.approx(frechet_distance(real[index[:40]], generated))


@pytest.mark.parametrize("block", [1, 7, 64, 1024])
def test_rounding_does_not_decide_where_clouds_share_rows(block):
    """Of a copied row the k-th neighbour lies exactly on the rim of its ball, in every order of summation."""
    real, generated = (part + 10 for part in two_clouds(d=300))  # off the origin: digits cancel
    generated[:60] = real[:60]
    found = compare(Cloud(real), Cloud(generated), block=block).overlap
    d = np.linalg.norm(real[:, None].astype(np.float64) - generated[None], axis=2)
    own = np.linalg.norm(real[:, None].astype(np.float64) - real[None], axis=2)
    inside = d <= np.sort(own, axis=1)[:, 5, None]
    assert found.density == pytest.approx(inside.sum() / (5 * 110))
    assert found.precision == inside.any(0).mean()
    assert Neighbourhoods.of(real, generated).overlap().density == pytest.approx(found.density)


def test_a_copy_is_inside_every_ball_and_a_far_cloud_in_none():
    real, _ = two_clouds()
    same = compare(Cloud(real), Cloud(real), block=40).overlap
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = compare(Cloud(real), Cloud(real + 100), block=40).overlap
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_moments_are_numpys_far_from_the_origin():
    x = two_clouds()[0].astype(np.float64) + 1e6
    found = Moments.of(Cloud(x), block=17)
    assert found.mean == pytest.approx(x.mean(0))
    assert found.covariance == pytest.approx(np.cov(x.T), rel=1e-6)


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Two mapped clouds, whose file is no memory of Python's."""
    folder, rng = tmp_path_factory.mktemp("mapped"), np.random.default_rng(2)

    def of(name, n):
        parts = (rng.normal(size=(512, 16)).astype(np.float32) for _ in range(n // 512))
        return Cloud(write_features(parts, n, folder / f"{name}-{n}.npy"))

    return {n: (of("real", n), of("generated", n)) for n in (1024, 2048, 4096)}


def test_memory_is_bounded_by_the_block(mapped):
    peaks = {n: peak_bytes(lambda n=n: compare(*mapped[n], block=256)) for n in mapped}
    # Twice the windows add their nearest distances (k numbers a row and side) and nothing else.
    few = 40 * 8 * 1024
    assert peaks[2048] - peaks[1024] < few
    assert peaks[4096] - peaks[2048] < 2 * few
    assert peaks[4096] < 10 * 256**2 * 8 + 8 * few
    # The test can fail: whole matrices take four times as much for twice the windows.
    dense = {n: peak_bytes(lambda n=n: euclidean(*(c.rows for c in mapped[n]))) for n in (1024, 2048)}
    assert dense[2048] > 3.5 * dense[1024] > 10 * peaks[1024]


def test_memory_of_the_frechet_distance_is_that_of_its_covariances(mapped):
    peaks = {n: peak_bytes(lambda n=n: frechet_distance(*mapped[n])) for n in (2048, 4096)}
    assert peaks[4096] < 1.2 * peaks[2048]


def test_features_on_disk_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(clouds.tempfile, "tempdir", str(tmp_path))
    real, generated = two_clouds()
    found = on_disk(iter([real]), len(real))
    assert isinstance(found, np.memmap)
    assert not list(tmp_path.iterdir())
    assert found == pytest.approx(real)
    monkeypatch.setattr(clouds, "DENSE", 120)
    both = joined(found, generated)
    assert isinstance(both, np.memmap)
    assert both == pytest.approx(np.concatenate([real, generated]))
    assert not isinstance(joined(real[:60], generated), np.memmap)


def test_a_file_of_features_is_whole_or_not_there(tmp_path):
    real, _ = two_clouds()
    with pytest.raises(ValueError, match="150 rows of features came, 151 were announced"):
        write_features(iter([real]), 151, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())


def test_too_few_rows():
    with pytest.raises(ValueError, match="more than 5"):
        compare(Cloud(np.zeros((5, 2))), Cloud(np.zeros((9, 2))))
