from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.stain import METHODS, Macenko, Reinhard, stain_of, stain_pixels
from stainglass.cohort.stain_variants import stain_variants
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.sections import read_sections, simulate_cohort

GLASS = np.array([245.0, 243.0, 244.0])
HE = np.array([[0.65, 0.70, 0.29], [0.12, 0.88, 0.42]])


def stained(dyes: NDArray[np.float64], strength: float, glass: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Pixels of two dyes in all proportions."""
    rng = np.random.default_rng(0)
    amount = (
        rng.gamma(2.0, 0.35, (60_000, 2)) * strength * rng.beta(0.3, 0.3, (60_000, 1)) ** np.array([1, 0])
    )
    amount[:, 1] *= rng.beta(0.3, 0.3, 60_000)
    unit = dyes / np.linalg.norm(dyes, axis=1, keepdims=True)
    return np.clip(np.rint(glass * np.exp(-amount @ unit)), 0, 255).astype(np.uint8)


def degrees(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles between rows."""
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b)]
    return np.degrees(np.arccos(np.clip((unit[0] * unit[1]).sum(1), -1, 1)))


@pytest.mark.parametrize("glass", [GLASS, np.array([228.0, 215.0, 226.0])])
def test_macenko_finds_the_dyes_that_were_put_in(glass: NDArray[np.float64]) -> None:
    found = Macenko.fit(stained(HE, 1.0, glass), glass)
    assert degrees(found.dyes, HE).max() < 6
    stronger = Macenko.fit(stained(HE, 1.3, glass), glass)
    np.testing.assert_allclose(stronger.strength / found.strength, 1.3, rtol=0.08)


def test_reinhard_is_the_moments_of_the_colours() -> None:
    grey = np.repeat(np.array([[63], [127], [255]], np.uint8), 3, axis=1).repeat(500, axis=0)
    found = Reinhard.fit(grey, GLASS)
    # Grey has hardly any α or β; l is √3 times the mean logarithm, since the rows of the LMS matrix add up to about one.
    expected = np.sqrt(3) * np.log10([0.25, 0.5, 1.0])
    assert found.mean[0] == pytest.approx(expected.mean(), abs=0.01)
    assert found.deviation[0] == pytest.approx(expected.std(), rel=0.01)
    assert np.abs(found.mean[1:]).max() < 0.01


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_pure_white_stays_and_its_own_stain_changes_nothing(method: str) -> None:
    image = stained(HE, 1.0, GLASS).reshape(200, 300, 3).copy()
    image[:10] = 255
    stain = METHODS[method].fit(image[10:].reshape(-1, 3), GLASS)
    other = METHODS[method].fit(stained(HE[:, ::-1], 0.7, GLASS - 10), GLASS - 10)
    assert (stain.restain(image, other)[:10] == 255).all()  # type: ignore[arg-type]
    same = stain.restain(image, stain)  # type: ignore[arg-type]
    assert np.abs(same.astype(int) - image).max() <= 1


def test_no_stain_is_said() -> None:
    glass = np.full((5000, 3), 244, np.uint8)
    with pytest.raises(StainglassError, match="only 0 stained pixels"):
        Macenko.fit(glass, GLASS)


def test_mixing_goes_from_one_to_the_other() -> None:
    for method, numbers in ((Macenko, 11), (Reinhard, 6)):
        one = method.fit(stained(HE, 1.0, GLASS), GLASS)
        other = method.fit(stained(HE, 1.4, GLASS - 12), GLASS - 12)
        assert one.numbers().shape == (numbers,)
        np.testing.assert_allclose(one.mixed(other, 0.0).numbers(), one.numbers())  # type: ignore[arg-type]
        np.testing.assert_allclose(one.mixed(other, 1.0).numbers(), other.numbers())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def colon(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two patients of different stain."""
    manifest = simulate_cohort(tmp_path_factory.mktemp("colon"), "colon", 2, size_um=400.0, mpp=0.5, seed=5)
    return prepare_cohort(read_sections(manifest), tmp_path_factory.mktemp("cohort"), Prepare(mpp=0.5))


def test_glass_is_seen_beside_the_tissue(cohort: Cohort) -> None:
    tissue, glass = stain_pixels(cohort.sections["P1"])
    assert tissue.mean() < 220
    assert (glass > 230).all()
    assert (glass < 255).any()


@pytest.mark.parametrize(("method", "off"), [("macenko", (3.0, 0.06)), ("reinhard", (0.02, 0.06))])
def test_a_restained_slide_is_fitted_as_its_target(
    colon: Cohort, method: str, off: tuple[float, float]
) -> None:
    one, other = (stain_of(colon.sections[name], method) for name in ("P1", "P2"))  # type: ignore[arg-type]
    tissue = stain_pixels(colon.sections["P1"])[0]
    target_glass = stain_pixels(colon.sections["P2"])[1]
    moved = one.restain(tissue, other)  # type: ignore[arg-type]
    found = METHODS[method].fit(moved, target_glass)
    if isinstance(other, Macenko):
        assert isinstance(one, Macenko)
        assert isinstance(found, Macenko)
        apart, error = degrees(one.dyes, other.dyes).max(), degrees(found.dyes, other.dyes).max()
        strength = np.abs(found.strength / other.strength - 1).max()
    else:
        assert isinstance(one, Reinhard)
        assert isinstance(found, Reinhard)
        apart, error = np.abs(one.mean - other.mean).max(), np.abs(found.mean - other.mean).max()
        strength = np.abs(found.deviation / other.deviation - 1).max()
    assert error < off[0]
    assert error < 0.5 * apart
    assert strength < off[1]
    back = other.restain(moved, one).astype(int)  # type: ignore[arg-type]
    assert np.abs(back - tissue).mean() < 2.5


def test_variants_are_drawn_from_the_fold_and_only_from_it(cohort: Cohort) -> None:
    names = sorted(cohort.sections)
    drawn = stain_variants(cohort, names, 2)
    assert [v.name.split("-")[0] for v in drawn] == ["stain1", "stain2"]
    again = stain_variants(cohort, names[::-1], 3)
    assert [v.name for v in again[:2]] == [v.name for v in drawn]
    np.testing.assert_array_equal(again[1].drawn["P1"].numbers(), drawn[1].drawn["P1"].numbers())
    assert stain_variants(cohort, names[:2], 1)[0].name != drawn[0].name
    assert not np.array_equal(drawn[0].drawn["P1"].numbers(), drawn[1].drawn["P1"].numbers())
    tissue = stain_pixels(cohort.sections["P1"])[0]
    assert np.abs(drawn[0].of("P1", tissue).astype(int) - tissue).mean() > 1
    assert stain_variants(cohort, names, 0) == ()
    with pytest.raises(StainglassError, match="no other's stain"):
        stain_variants(cohort, names[:1], 1)


@pytest.mark.slow
def test_real_tissue_keeps_its_dyes_apart(shared: Path, tmp_path: Path) -> None:
    sources = [s for s in read_sections(shared / "data" / "her2st") if s.id == "B4"]
    real = prepare_cohort(sources, tmp_path, Prepare(mpp=4.0))
    for section in real.sections.values():
        found = stain_of(section)
        assert isinstance(found, Macenko)
        assert degrees(found.dyes[:1], found.dyes[1:])[0] > 8
        assert found.dyes[0, 0] > found.dyes[1, 0]
