"""Regions of spots as components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from stainglass.analysis.components import Components
from stainglass.analysis.polygons import area_of, contains
from stainglass.analysis.regions import (
    SpotMap,
    above,
    connected,
    neighbours,
    pitch_um,
    same_share,
    signal_threshold,
    touching,
)

PITCH = 200.0


def lattice(shape: tuple[int, int], hexagonal: bool = False) -> np.ndarray:
    row, column = (grid.ravel().astype(float) for grid in np.indices(shape))
    if hexagonal:
        return np.stack([row * np.sqrt(3) / 2, column + row % 2 / 2], axis=1) * 100.0 + 50
    return np.stack([row, column], axis=1) * PITCH + 300


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(2, 7), st.integers(2, 7)), elements=st.integers(-1, 1)))
def test_components_of_a_square_lattice_are_those_of_its_image(grid):
    centres = lattice(grid.shape)
    found = connected(grid.ravel(), neighbours(centres)).reshape(grid.shape)
    assert ((found == 0) == (grid < 0)).all()
    for value in (0, 1):
        expected, number = ndimage.label(grid == value, np.ones((3, 3)))
        mine = found[grid == value]
        assert len(np.unique(mine)) == number
        assert len(set(zip(mine.tolist(), expected[grid == value].tolist()))) == number
    sizes = np.bincount(found[found > 0])[1:]
    assert (np.diff(sizes) <= 0).all()  # the largest is the first


def test_neighbours_of_the_two_lattices():
    centres = lattice((5, 5), hexagonal=True)
    assert pitch_um(centres) == pytest.approx(100.0)
    count = np.bincount(neighbours(centres).ravel(), minlength=25)
    assert count.reshape(5, 5)[2, 2] == 6
    assert np.bincount(neighbours(lattice((5, 5))).ravel()).reshape(5, 5)[2, 2] == 8
    assert len(neighbours(centres[:1])) == 0


def components(groups: np.ndarray, centres: np.ndarray) -> Components:
    return Components.of(groups, ("a", "b"), centres)


def measured(groups, centres):
    p = np.stack([groups == 0, groups == 1], axis=1).astype(float)
    return components(groups, centres).table(centres, p, ("x", "y"))


@settings(max_examples=15, deadline=None)
@given(
    arrays(np.int64, (4, 5), elements=st.integers(-1, 1)).filter(lambda g: (g >= 0).any()),
    st.floats(-3e4, 3e4),
    st.sampled_from(["move", "flip y", "flip x", "turn"]),
)
def test_measures_do_not_depend_on_where_and_which_way_round(grid, step, change):
    groups, centres = grid.ravel(), lattice(grid.shape)
    other = {
        "move": centres + np.array([step, -step]),
        "flip y": [5000, 0] + centres * [-1, 1],
        "flip x": [0, 5000] + centres * [1, -1],
        "turn": [0, 5000] + centres[:, ::-1] * [1, -1],
    }[change]
    one, two = measured(groups, centres), measured(groups, np.asarray(other))
    for column in ("spots", "class", "neighbours", "confidence"):
        assert (one[column] == two[column]).all()
    # Cells whose centre lies as far from two spots belong to either: a cell's width of doubt along a border.
    assert two["area_um2"].to_numpy() == pytest.approx(one["area_um2"].to_numpy(), rel=0.05)
    assert two["perimeter_um"].to_numpy() == pytest.approx(one["perimeter_um"].to_numpy(), rel=0.06)


def test_area_perimeter_neighbours_class_and_confidence_of_a_known_division():
    grid = np.zeros((6, 6), int)
    grid[:, 3:] = 1
    grid[0, 5] = -1
    centres, groups = lattice(grid.shape), grid.ravel()
    p = np.where(groups[:, None] == [0, 1], 0.8, 0.1)
    corners = centres - 50
    nuclei = np.concatenate([centres, centres[:18] + 20, [[1e5, 0]]])
    table = components(groups, centres).table(centres, p, ("x", "y"), nuclei, corners, 100.0)
    assert table["spots"].tolist() == [18, 17]
    assert table["neighbours"].tolist() == ["2", "1"]
    assert table["class"].tolist() == ["x", "y"]
    assert table["confidence"].to_numpy() == pytest.approx(0.8)
    assert table["share unassigned"].to_numpy() == pytest.approx(0.1)
    in_first = int((groups == 0).sum() + (groups[:18] == 0).sum())
    assert table["nuclei"].tolist() == [in_first, 17 + int((groups[:18] == 1).sum())]
    # Patches show a quarter of the tissue: the density is of what they show.
    assert table["nuclei_per_mm2"].to_numpy() == pytest.approx(
        table["nuclei"] / table["spots"] / 0.01, rel=0.1
    )
    # 18 cells of 200 µm; at the array's rim discs of a cell's area stand for cells.
    assert table["area_um2"][1] == pytest.approx(18 * PITCH**2, rel=0.04)
    assert table["perimeter_um"][1] == pytest.approx(2 * (3 + 6) * PITCH, rel=0.1)


def test_a_ring_of_spots_has_a_hole_where_the_others_are():
    grid = np.zeros((5, 5), int)
    grid[2, 2] = 1
    centres = lattice(grid.shape)
    ring = components(grid.ravel(), centres)
    outline = ring.outline(1)
    assert [len(polygon) for polygon in outline] == [2]
    assert contains(outline, centres).tolist() == (grid.ravel() == 0).tolist()
    area = ring.table(centres, np.ones((25, 1)), ("x",))["area_um2"][1]
    assert area_of(outline) == pytest.approx(area, rel=0.02)


def test_a_map_knows_whose_place_it_is():
    centres = lattice((3, 3))
    grid = SpotMap.of(centres)
    assert grid.spot_at(centres).tolist() == list(range(9))
    assert grid.spot_at(np.array([[-9e9, 0.0], [300.0, 300.0 + 0.9 * PITCH]])).tolist() == [-1, 1]
    assert SpotMap.of(centres[:1]).mask(np.array([True])).any()


def test_no_spot_in_any_group_is_no_component():
    centres = lattice((2, 2))
    empty = components(np.full(4, -1), centres)
    assert len(empty) == 0
    table = empty.table(centres, np.zeros((4, 1)), ("x",), np.zeros((0, 2)), centres, 100.0)
    assert table.empty
    some = components(np.zeros(4, int), centres)
    full = some.table(centres, np.zeros((4, 1)), ("x",), np.zeros((0, 2)), centres, 100.0)
    assert table.columns.tolist() == full.columns.tolist()
    assert touching(empty.of_spot, empty.links) == {}


def test_mean_expression_is_the_mean_over_the_spots():
    groups, centres = np.array([0, 0, 1, 1]), lattice((2, 2))
    found = components(groups, centres).mean_of(np.arange(8.0).reshape(4, 2), ("g", "h"))
    assert found.loc[1].tolist() == [1.0, 2.0]


def test_thresholds():
    values = np.concatenate([np.zeros(60), np.ones(40)]) + np.linspace(0, 0.1, 100)
    threshold = signal_threshold(values)
    assert (values > threshold).mean() == pytest.approx(0.4, abs=0.02)
    assert above(np.array([0.0, 2.0, np.nan]), 1.0).tolist() == [0, 1, -1]
    read = 0.1 * values + 5  # a reading shrunk to the mean: its own threshold passes as many
    assert (read > same_share(values, threshold, read)).mean() == pytest.approx(0.4, abs=0.02)
    assert not (above(np.full(5, 3.0), signal_threshold(np.full(5, 3.0))) == 1).any()
