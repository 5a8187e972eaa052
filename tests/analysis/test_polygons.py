"""Masks, polygons and QuPath's GeoJSON: the same shapes in three ways of writing."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stainglass.analysis.polygons import (
    area_of,
    contains,
    feature,
    full_resolution_mpp,
    mask_of_polygons,
    polygons_of_mask,
    read_geojson,
    signed_area,
    write_geojson,
)
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
RED = (255, 0, 0)


@settings(max_examples=60, deadline=None)
@given(masks, st.floats(-500, 500), st.floats(0.2, 30))
def test_a_mask_comes_back_from_its_polygons(mask, corner, cell):
    polygons = polygons_of_mask(mask, (corner, -corner), cell)
    assert (mask_of_polygons(polygons, mask.shape, (corner, -corner), cell) == mask).all()
    for outer, *holes in polygons:
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)


@settings(max_examples=40, deadline=None)
@given(masks)
def test_area_is_kept_by_flips_and_turns(mask):
    area = area_of(polygons_of_mask(mask))
    for other in (mask[::-1], mask[:, ::-1], mask.T, np.rot90(mask)):
        assert area_of(polygons_of_mask(other)) == pytest.approx(area)


def test_a_hole_is_kept_and_an_island_in_it_too():
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    polygons = polygons_of_mask(mask)
    assert sorted(len(rings) for rings in polygons) == [1, 2]
    inside = contains(polygons, np.array([[0.5, 0.5], [3.5, 3.5], [4.5, 4.5]]))
    assert inside.tolist() == [True, False, True]


def test_the_contour_of_a_block_runs_half_a_cell_inside_its_edge_cells_corners():
    (ring,) = polygons_of_mask(np.ones((3, 4), bool))[0:1][0]
    # Marching squares cut the four corners: 12 cells less four triangles of an eighth.
    assert area_of([(ring,)]) == pytest.approx(12 - 4 / 8)
    assert ring.min() == 0


@settings(max_examples=25, deadline=None)
@given(masks.filter(lambda m: m.any()), st.floats(0.2, 2))
def test_geojson_holds_full_resolution_xy_and_is_read_back(tmp_path_factory, mask, mpp):
    path = tmp_path_factory.mktemp("g") / "a.geojson"
    polygons = polygons_of_mask(mask, (30.0, 70.0), 5.0)
    write_geojson(path, [feature(polygons, mpp, name="a", classification="immune", colour=RED)])
    ((name, read),), passed_over = read_geojson(path)
    assert (name, passed_over) == ("immune", 0)
    back = [tuple(ring * mpp for ring in polygon) for polygon in read]
    assert area_of(back) == pytest.approx(area_of(polygons), rel=0.02)
    assert (mask_of_polygons(back, mask.shape, (30.0, 70.0), 5.0) == mask).all()
    (one,) = json.loads(path.read_text())["features"]
    rings = one["geometry"]["coordinates"]
    first = rings[0] if one["geometry"]["type"] == "Polygon" else rings[0][0]
    assert first[0] == first[-1]  # closed, as the standard asks
    assert min(x for x, _ in first) >= 70 / mpp - 0.01  # x first


def test_a_feature_is_what_qupath_imports(tmp_path: Path):
    made = feature(
        polygons_of_mask(np.ones((2, 2), bool)), 0.5, name="n", classification="immune", colour=RED,
        kind="detection", measurements={"area": 3.0, "undefined": float("nan")},
    )  # fmt: skip
    assert made["type"] == "Feature"
    assert made["geometry"]["type"] == "Polygon"
    assert made["properties"]["objectType"] == "detection"
    assert made["properties"]["classification"] == {"name": "immune", "color": [255, 0, 0]}
    assert made["properties"]["measurements"] == {"area": 3.0}
    again = feature(
        polygons_of_mask(np.ones((2, 2), bool)), 0.5, name="n", classification="immune", colour=RED
    )
    assert made["id"] == again["id"]
    write_geojson(tmp_path / "none.geojson", [])
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []


def test_files_that_hold_no_region_are_refused(tmp_path: Path):
    path = tmp_path / "a.geojson"
    for text, finding in (
        ("{", "not a readable GeoJSON"),
        ('{"type": "FeatureCollection", "features": [{"geometry": null}]}', "none of its 1 features"),
        ('{"features": 3}', "no GeoJSON features"),
    ):
        path.write_text(text)
        with pytest.raises(StainglassError, match=finding):
            read_geojson(path)


def test_old_qupath_names_and_unclassified_features(tmp_path: Path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 2], [0, 2], [0, 0]]]}
    path = tmp_path / "a.geojson"
    path.write_text(
        json.dumps(
            [
                {"geometry": square, "properties": {"classification": {"names": ["Tumor", "Immune"]}}},
                {"geometry": square, "properties": {}},
                {
                    "geometry": {"type": "Point", "coordinates": [1, 1]},
                    "properties": {"classification": {"name": "a"}},
                },
            ]
        )
    )
    ((name, polygons),), passed_over = read_geojson(path)
    assert (name, passed_over) == ("Tumor: Immune", 2)
    assert contains(polygons, np.array([[1.0, 3.0], [3.0, 1.0]])).tolist() == [True, False]  # (y, x)


def test_full_resolution_mpp_is_that_of_the_simulated_slide(cohort: Cohort):
    section = next(iter(cohort.sections.values()))
    assert section.mpp == 1.0
    assert full_resolution_mpp(section) == pytest.approx(0.5, rel=1e-3)
