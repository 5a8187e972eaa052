import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from stainglass.errors import StainglassError
from stainglass.sections import open_slide
from stainglass.sections.checks import decide_mpp, lattice_claim
from stainglass.sections.lattice import HEX, SQUARE, fit_lattice, lattice_kind, lattice_um
from stainglass.sections.slides import plausible_claim


def array(kind, rows=20, columns=24):
    row, column = (grid.ravel() for grid in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    kept = (row + column) % 2 == 0 if kind == HEX else np.ones(len(row), bool)
    return row[kept], column[kept]


def on_slide(row, column, kind, pitch, mpp, turn, mirror, shift):
    um = lattice_um(row, column, pitch, kind) * [-1 if mirror else 1, 1]
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return um @ rotation / mpp + shift


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([HEX, SQUARE]),
    mpp=st.floats(0.1, 8),
    pitch=st.sampled_from([8.0, 100.0, 200.0]),
    turn=st.floats(0, 2 * np.pi),
    mirror=st.booleans(),
    shift=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    share=st.floats(0.03, 1.0),
    noise=st.floats(0, 0.08),
    seed=st.integers(0, 2**16),
)
def test_any_turn_subset_and_noise_gives_the_scale(kind, mpp, pitch, turn, mirror, shift, share, noise, seed):
    rng = np.random.default_rng(seed)
    row, column = array(kind)
    subset = rng.random(len(row)) < share
    assume(subset.sum() >= 8)
    row, column = row[subset], column[subset]
    assume(np.ptp(row) > 6)
    assume(np.ptp(column) > 6)
    xy = on_slide(row, column, kind, pitch, mpp, turn, mirror, shift)
    xy += rng.normal(0, noise * pitch / mpp / np.sqrt(2), xy.shape)
    fit = fit_lattice(row, column, xy, pitch, kind)
    assert fit is not None
    assert fit.mpp == pytest.approx(mpp, rel=1e-6 + 0.5 * noise)
    assert fit.mirrored == mirror
    assert fit.residual_um <= 2 * noise * pitch + 1e-3


def test_a_subset_of_every_third_spot_misleads_neighbours_but_not_the_fit():
    row, column = array(HEX)
    kept = (row % 3 == 0) & (column % 3 == 0)
    xy = on_slide(row[kept], column[kept], HEX, 100, 0.5, 0.3, False, (0, 0))
    nearest = np.sort(np.linalg.norm(xy[:, None] - xy[None], axis=-1), axis=1)[:, 1].min()
    assert nearest > 2.5 * 100 / 0.5
    fit = fit_lattice(row[kept], column[kept], xy, 100, HEX)
    assert fit.mpp == pytest.approx(0.5)


def test_a_few_spots_moved_by_hand_do_not_tilt_the_rest():
    row, column = array(HEX)
    xy = on_slide(row, column, HEX, 100, 0.5, 0, False, (0, 0))
    xy[:5] += 4000
    fit = fit_lattice(row, column, xy, 100, HEX)
    assert fit.mpp == pytest.approx(0.5, rel=1e-3)
    assert fit.spots <= len(row) - 5


@pytest.mark.parametrize("line", [([0, 2, 4], [0, 0, 0]), ([0, 1, 2, 3], [0, 1, 2, 3]), ([0, 1], [0, 1])])
def test_spots_on_a_line_give_no_scale(line):
    row, column = map(np.array, line)
    assert fit_lattice(row, column, np.stack([column, row], axis=1) * 100.0, 100, SQUARE) is None


def test_kinds():
    assert lattice_kind(*array(HEX)) == HEX
    assert lattice_kind(*array(SQUARE)) == SQUARE


def test_a_mirror_is_noticed_and_a_stretch_refused():
    row, column = array(HEX)
    xy = on_slide(row, column, HEX, 100, 0.5, 0, True, (0, 0))
    _, notices = lattice_claim(fit_lattice(row, column, xy, 100, HEX), 100, "here")
    assert "mirrored" in notices[0]
    with pytest.raises(StainglassError, match=r"factor of 1\.50"):
        lattice_claim(fit_lattice(row, column, xy * [1.5, 1], 100, HEX), 100, "here")


def test_agreeing_sources_need_no_notice():
    scale = decide_mpp("here", lattice=0.5, metadata=0.51, diameter_px=130)
    assert (scale.mpp, scale.source, scale.notices) == (0.5, "the spot lattice", ())


def test_one_source_is_enough_with_a_notice():
    scale = decide_mpp("here", metadata=0.25)
    assert scale.mpp == 0.25
    assert "one source" in scale.notices[0]


def test_the_diameter_is_no_source():
    with pytest.raises(StainglassError, match=r"only bounds it: 0.55 to 0.75"):
        decide_mpp("here", diameter_px=100)


@pytest.mark.parametrize(
    ("mpp", "believed"),
    [
        (0.25, True),
        (4.9, True),
        (0.04, False),
        (352.8, False),
        (12.0, False),
        (None, False),
        (float("nan"), False),
    ],
)
def test_claims(mpp, believed):
    assert (plausible_claim(mpp) is not None) == believed


@pytest.mark.parametrize("dpi", [72, 96, 150, 300])
def test_a_screens_resolution_is_no_claim(tmp_path, dpi):
    image = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", image, resolution=(dpi, dpi), resolutionunit=2, metadata=None, photometric="rgb"
    )
    Image.fromarray(image).save(tmp_path / "a.jpg", dpi=(dpi, dpi))
    Image.fromarray(image).save(tmp_path / "a.png", dpi=(dpi, dpi))
    for name in ("a.tif", "a.jpg", "a.png"):
        with open_slide(tmp_path / name) as slide:
            assert slide.mpp_claim is None


@pytest.mark.parametrize(
    ("resolution", "unit", "claim"),
    [
        ((40000, 40000), 3, 0.25),
        ((50800, 50800), 2, 0.5),
        ((2, 2), 1, None),
        ((1, 1), 3, None),
        ((0, 1), 3, None),
    ],
)
def test_resolution_tags(tmp_path, resolution, unit, claim):
    path = tmp_path / "a.tif"
    image = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(
        path, image, resolution=resolution, resolutionunit=unit, metadata=None, photometric="rgb"
    )
    with open_slide(path) as slide:
        assert slide.mpp_claim == (pytest.approx(claim) if claim else None)


@pytest.mark.parametrize(
    ("unit", "size", "claim"), [("nm", 250, 0.25), ("mm", 5e-4, 0.5), ("pixel", 1, None)]
)
def test_ome_units(tmp_path, unit, size, claim):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), ome=True, photometric="rgb", metadata=metadata)
    with open_slide(path) as slide:
        assert slide.mpp_claim == (pytest.approx(claim) if claim else None)
