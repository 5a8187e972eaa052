"""A pathologist's labels, joined to spots: by name and checked by place, or by the region a spot lies in."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stainglass.analysis.labels import _files, read_labels
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.sections import read_sections

SIDE = 6


@pytest.fixture(scope="module")
def st_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One section of an original ST array: spots named XxY, 2 µm/px."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("st")
    for name in ("counts", "spots", "images"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    x, y = (grid.ravel() + 3 for grid in np.indices((SIDE, SIDE)))
    names = [f"{a}x{b}" for a, b in zip(x, y)]
    counts = pd.DataFrame(
        rng.poisson(5, (len(names), 4)), index=names, columns=["COL1A1", "CD3E", "KRT5", "EPCAM"]
    )
    counts.to_csv(folder / "counts" / "C9.tsv", sep="\t")
    places = pd.DataFrame({"x": x, "y": y, "pixel_x": x * 100.0, "pixel_y": y * 100.0 + 7, "selected": 1})
    places.to_csv(folder / "spots" / "C9.tsv", sep="\t", index=False)
    image = rng.integers(120, 200, (1000, 1000, 3)).astype(np.uint8)
    Image.fromarray(image).save(folder / "images" / "C9.png")
    return prepare_cohort(read_sections(folder), tmp_path_factory.mktemp("c"), Prepare(mpp=2.0))


def table(cohort: Cohort) -> pd.DataFrame:
    """Labels as HER2ST gives them, in another order than the spots."""
    spots = cohort.sections["C9"].spots
    xy = np.array([[int(part) for part in name.split("x")] for name in spots.obs_names])
    label = np.where(xy[:, 0] < 6, "invasive cancer", "connective tissue")
    found = pd.DataFrame(
        {"Row.names": "r", "x": xy[:, 0] + 0.02, "y": xy[:, 1] - 0.01, "pixel_x": spots.obsm["spatial"][:, 0] + 2,
         "pixel_y": spots.obsm["spatial"][:, 1] - 3, "label": label}
    )  # fmt: skip
    return found.sample(frac=1, random_state=0)


def write(labels: pd.DataFrame, path: Path) -> Path:
    labels.to_csv(path, sep="\t", index=False)
    return path


def test_a_table_per_spot_is_joined_by_array_position(st_cohort: Cohort, tmp_path: Path):
    write(table(st_cohort), tmp_path / "C9_labeled_coordinates.tsv")
    (tmp_path / "C91.tsv").write_text("another section's")
    found = read_labels(tmp_path, st_cohort, ["C9"])
    assert found.notes == ()
    assert found.of("C9", ["3x3", "8x8", "99x1"]) == ["invasive cancer", "connective tissue", None]
    assert found.of("other", ["3x3"]) == [None]
    assert len(found.of_section["C9"]) == SIDE * SIDE


def test_lost_missing_and_contradicting_labels_are_told(st_cohort: Cohort, tmp_path: Path):
    labels = table(st_cohort).sort_values(["x", "y"])
    labels.iloc[0, labels.columns.get_loc("label")] = "undetermined"
    labels.iloc[1, labels.columns.get_loc("label")] = np.nan
    labels.iloc[2, labels.columns.get_loc("x")] = 40.0
    twice = labels.iloc[[5]].assign(label="something else")
    found = read_labels(write(pd.concat([labels, twice]), tmp_path / "C9.tsv"), st_cohort, ["C9"])
    assert len(found.of_section["C9"]) == SIDE * SIDE - 4
    told = " ".join(found.notes)
    assert "1 of 35 labels match no spot" in told
    assert "1 spots have two different labels" in told


def test_barcodes_and_a_section_column(st_cohort: Cohort, tmp_path: Path):
    path = tmp_path / "all.csv"
    pd.DataFrame(
        {"section": ["C9", "C9", "X"], "barcode": ["3x3", "4x3", "3x3"], "label": ["a", "b", "c"]}
    ).to_csv(path, index=False)
    assert read_labels(path, st_cohort, ["C9"]).of_section["C9"].to_dict() == {"3x3": "a", "4x3": "b"}


def test_labels_of_another_section_are_refused(st_cohort: Cohort, tmp_path: Path):
    labels = table(st_cohort)
    far = labels.assign(x=labels["x"] + 50)
    with pytest.raises(StainglassError, match=r"none of its 36 labels .* matches a spot of section C9"):
        read_labels(write(far, tmp_path / "C9.tsv"), st_cohort, ["C9"])
    shifted = labels.assign(pixel_x=labels["pixel_x"] + 400)
    with pytest.raises(StainglassError, match=r"36 of its 36 labels lie .* µm \(median\) from the spots"):
        read_labels(write(shifted, tmp_path / "C9.tsv"), st_cohort, ["C9"])


def test_files_that_are_no_labels(st_cohort: Cohort, tmp_path: Path):
    with pytest.raises(StainglassError, match="no such file"):
        read_labels(tmp_path / "none.tsv", st_cohort, ["C9"])
    with pytest.raises(StainglassError, match="labels of none of the sections C9"):
        read_labels(tmp_path, st_cohort, ["C9"])
    with pytest.raises(StainglassError, match="has the columns x, y"):
        read_labels(write(table(st_cohort)[["x", "y"]], tmp_path / "C9.tsv"), st_cohort, ["C9"])
    with pytest.raises(StainglassError, match="is no number"):
        read_labels(
            write(table(st_cohort).astype({"x": str}).assign(x="one"), tmp_path / "C9.tsv"), st_cohort, ["C9"]
        )
    (tmp_path / "C9.tsv").write_bytes(b"\xff\xfe\x00 broken")
    with pytest.raises(StainglassError, match="not a readable table"):
        read_labels(tmp_path / "C9.tsv", st_cohort, ["C9"])


def square(
    name: str, x: tuple[float, float], y: tuple[float, float], *holes: list[list[float]]
) -> dict[str, object]:
    ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, *holes]},
            "properties": {"classification": {"name": name}}}  # fmt: skip


def regions(path: Path, *features: dict[str, object]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_regions_from_qupath_name_the_spots_inside_them(st_cohort: Cohort, tmp_path: Path):
    hole = [[550, 550], [650, 550], [650, 650], [550, 650], [550, 550]]  # round spot 6x6
    path = regions(
        tmp_path / "C9.geojson",
        square("inner", (350, 450), (350, 450)),  # drawn first, lies inside the other
        square("Tumor", (250, 750), (250, 750), hole),
        square("Ignore*", (650, 750), (650, 750)),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [3, 3]}, "properties": {}},
    )
    found = read_labels(path, st_cohort, ["C9"])
    assert found.of("C9", ["4x4", "3x3", "6x6", "7x7", "8x8"]) == ["inner", "Tumor", None, None, None]
    assert "1 features without a class" in found.notes[0]


def test_regions_beside_the_tissue_are_refused(st_cohort: Cohort, tmp_path: Path):
    path = regions(tmp_path / "C9.geojson", square("Tumor", (5000, 6000), (0, 9)))
    with pytest.raises(StainglassError, match=r"no spot of section C9 lies in its regions \(x 5000 to 6000"):
        read_labels(path, st_cohort, ["C9"])


def test_labels_drawn_on_a_smaller_mirrored_picture_are_followed_and_told(st_cohort: Cohort, tmp_path: Path):
    labels = table(st_cohort)
    labels = labels.assign(pixel_x=labels["pixel_x"] / 2.33, pixel_y=(9869 - labels["pixel_y"]) / 2.33)
    found = read_labels(write(labels, tmp_path / "C9.tsv"), st_cohort, ["C9"])
    assert found.of("C9", ["3x3", "8x8"]) == ["invasive cancer", "connective tissue"]
    assert "0.43 ×, mirrored" in found.notes[0]
    mixed = labels.assign(pixel_x=labels["pixel_x"].sample(frac=1, random_state=1).to_numpy())
    with pytest.raises(StainglassError, match="from the spots they are named after"):
        read_labels(write(mixed, tmp_path / "C9.tsv"), st_cohort, ["C9"])


def test_the_published_labels_name_their_spots(shared: Path):
    """HER2ST's own files: array positions agree with the deconvolved share of epithelium; mirrored ones would not."""
    of = shared / "data/her2st"
    for section in ("A1", "E1", "G2"):
        labels = pd.read_csv(of / f"labels/{section}_labeled_coordinates.tsv", sep="\t").dropna()
        share = pd.read_csv(of / f"celltypes/{section}.tsv", sep="\t", index_col=0)["Epithelial"]
        names = [f"{x:.0f}x{y:.0f}" for x, y in labels[["x", "y"]].round().to_numpy()]
        known = np.array([name in share.index for name in names])
        assert known.mean() > 0.98
        cancer = labels["label"].str.contains("cancer").to_numpy()[known]
        assert np.corrcoef(cancer, share[np.array(names)[known]])[0, 1] > 0.4


def test_a_file_is_of_the_longest_name_it_begins_with(tmp_path: Path):
    for name in ("P3.tsv", "P3_rep2.tsv"):
        (tmp_path / name).write_text("label")
    sections = {"P3": "P3", "P3_rep2": "P3_rep2"}
    names = tuple(sections)
    assert [(s, f.name) for s, f in _files(tmp_path, sections, names)] == [
        ("P3", "P3.tsv"),
        ("P3_rep2", "P3_rep2.tsv"),
    ]
    assert [f.name for _, f in _files(tmp_path, {"P3": "P3"}, names)] == ["P3.tsv"]
    (tmp_path / "P3_again.tsv").write_text("label")
    with pytest.raises(StainglassError, match=r"P3.tsv and P3_again.tsv, both of section P3"):
        _files(tmp_path, sections, names)


def test_a_file_of_a_whole_section_is_of_its_blocks(tmp_path: Path):
    (tmp_path / "P3.tsv").write_text("label\tbarcode")
    blocks, names = {"P3.train": "P3", "P3.test": "P3"}, ("P3.train", "P3.test", "P3")
    both = [("P3.train", tmp_path / "P3.tsv"), ("P3.test", tmp_path / "P3.tsv")]
    assert _files(tmp_path, blocks, names) == both
    assert _files(tmp_path / "P3.tsv", blocks, names) == both
    (tmp_path / "P3.test.tsv").write_text("label\tbarcode")
    with pytest.raises(StainglassError, match=r"both of section P3\.test"):
        _files(tmp_path, blocks, names)


def test_the_file_of_another_section_is_not_taken_for_this_one(tmp_path: Path):
    (tmp_path / "P3_rep2.tsv").write_text("label")
    (tmp_path / "mine.tsv").write_text("label\tbarcode")
    assert _files(tmp_path / "P3_rep2.tsv", {"P3": "P3"}, ["P3", "P3_rep2"]) == []
    assert _files(tmp_path / "mine.tsv", {"P3": "P3"}, ["P3", "P3_rep2"]) == [("P3", tmp_path / "mine.tsv")]
