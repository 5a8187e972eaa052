"""Nuclei found by watershed, held against simulated tissue where every nucleus is known."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stainglass.analysis.nuclei import (
    FoundNuclei,
    NucleusFinder,
    detection,
    nuclei_of_patches,
    nuclei_of_picture,
    nuclei_of_section,
)
from stainglass.analysis.polygons import area_of, mask_of_polygons
from stainglass.cohort.cohort import Cohort
from stainglass.sections.simulate.truth import load_truth


@pytest.fixture(scope="module")
def finder(cohort: Cohort) -> NucleusFinder:
    windows = cohort.patches(cohort.split().train, 64)
    return NucleusFinder.fit(cohort.pixels(windows), cohort.mpp)


def matched(found: np.ndarray, true: np.ndarray, within_um: float = 4.0) -> int:
    """Pairs that are each other's nearest and near."""
    near, to = cKDTree(found).query(true)
    back = cKDTree(true).query(found)[1]
    return int(((near <= within_um) & (back[to] == np.arange(len(true)))).sum())


def test_nuclei_of_a_held_out_section_are_found(cohort: Cohort, simulated: Path, finder: NucleusFinder):
    section = cohort.sections[cohort.split().test[0]]
    true = load_truth(simulated.parent / section.id / "truth").nuclei[["y_um", "x_um"]].to_numpy()
    found = nuclei_of_section(section, finder, tile_px=256).table[["y_um", "x_um"]].to_numpy()
    assert detection(found, true)["f1"] > 0.93
    assert detection(found, true)["f1"] == pytest.approx(2 * matched(found, true) / (len(found) + len(true)))
    assert detection(true, true) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert detection(true[:0], true)["f1"] == 0.0
    centres = section.centres_um_yx()
    counts = [np.array(cKDTree(x).query_ball_point(centres, 50, return_length=True)) for x in (found, true)]
    assert np.corrcoef(*counts)[0, 1] > 0.97


def test_tiles_find_what_the_whole_finds_and_nothing_twice(cohort: Cohort, finder: NucleusFinder):
    section = cohort.sections[cohort.split().test[0]]
    whole = nuclei_of_picture(np.asarray(section.raster[:]), finder)
    tiled = nuclei_of_section(section, finder, tile_px=128)
    assert abs(len(whole) - len(tiled)) <= 2
    places = [f.table[["y_um", "x_um"]].to_numpy() for f in (whole, tiled)]
    assert matched(*places, within_um=1.0) >= 0.995 * len(whole)
    assert cKDTree(places[1]).query(places[1], k=2)[0][:, 1].min() > 2.0


def test_measures_and_outlines_belong_together(cohort: Cohort, finder: NucleusFinder):
    (window,) = cohort.patches(cohort.split().test, 64)[:1]
    picture = cohort.pixels([window])[0]
    found = nuclei_of_picture(picture, finder, (1000.0, 2000.0))
    labels = finder.find(picture)
    assert len(found) == len(np.unique(labels)) - 1 > 3
    union = mask_of_polygons(
        [p for outline in found.outlines for p in outline], labels.shape, (1000.0, 2000.0), finder.mpp
    )
    assert (union == (labels > 0)).all()
    for area, outline in zip(found.table["area_um2"], found.outlines):
        assert area_of(outline) == pytest.approx(area, rel=0.15)
    assert found.table["y_um"].between(1000, 1064).all()
    assert found.table["x_um"].between(2000, 2064).all()


def test_a_flipped_picture_has_the_same_nuclei_flipped(cohort: Cohort, finder: NucleusFinder):
    picture = cohort.pixels(cohort.patches(cohort.split().test, 64)[3:4])[0]
    one, other = (finder.measure(finder.find(p), p) for p in (picture, picture[:, ::-1]))
    assert abs(len(one) - len(other)) <= 1
    size = picture.shape[1] * finder.mpp
    flipped = np.stack([other["y_um"], size - other["x_um"]], axis=1)
    assert matched(one[["y_um", "x_um"]].to_numpy(), flipped, 1.0) >= len(one) - 1


def test_overlapping_patches_count_every_nucleus_once(cohort: Cohort, finder: NucleusFinder):
    section = cohort.sections[cohort.split().test[0]]
    raster = np.asarray(section.raster[:])
    corners = np.array([[100, 100], [100, 140], [140, 120]])
    pixels = np.stack([raster[y : y + 96, x : x + 96] for y, x in corners])
    labels = [finder.find(picture) for picture in pixels]
    once = nuclei_of_patches(pixels, corners * finder.mpp, finder, labels)
    every = sum(len(np.unique(one)) - 1 for one in labels)
    assert 0 < len(once) < every
    places = once.table[["y_um", "x_um"]].to_numpy()
    # Two patches may draw a nucleus at their seam a little differently; hardly any is counted by both.
    assert (cKDTree(places).query(places, k=2)[0][:, 1] < 2.0).sum() <= 2


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_flat_picture_has_none(finder: NucleusFinder, shade: int):
    flat = np.full((40, 40, 3), shade, np.uint8)
    assert finder.find(flat).max() == 0
    assert len(nuclei_of_picture(flat, finder)) == 0
    assert NucleusFinder.fit(flat[None], 1.0).find(flat).max() == 0


def test_no_nuclei_still_make_a_table():
    assert list(FoundNuclei.joined([]).table.columns)[:2] == ["y_um", "x_um"]
