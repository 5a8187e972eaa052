"""Counts that come without a picture."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from stainglass.errors import StainglassError
from stainglass.sections.expression import read_expression
from stainglass.sections.st import st_section_ids


def st_folder(folder: Path) -> Path:
    """Two sections, of which A1 has an image."""
    for name in ("counts", "spots", "images"):
        (folder / name).mkdir(parents=True)
    for section in ("A1", "B2"):
        table = pd.DataFrame([[1, 0, 3], [0, 0, 0], [2, 5, 1]], index=["1x1", "1x2", "2x2"])
        table.columns = ["CD3E", "KRT5", "NOTAGENE"]
        table.to_csv(folder / "counts" / f"{section}.tsv.gz", sep="\t")
        (folder / "spots" / f"{section}.tsv").write_text("x\ty\tpixel_x\tpixel_y\n")
    (folder / "images" / "A1.jpg").write_bytes(b"")
    return folder


def test_sections_of_an_st_folder_without_an_image_are_found(tmp_path: Path) -> None:
    (found,) = read_expression(st_folder(tmp_path / "st"))
    assert (found.id, found.patient) == ("B2", "B")
    assert list(found.spots.obs_names) == ["1x1", "2x2"]  # a spot without counts says nothing
    assert list(found.spots.var["symbol"]) == ["CD3E", "KRT5", "NOTAGENE"]
    assert found.spots.var_names[0] == "ENSG00000198851"
    np.testing.assert_array_equal(found.spots.X.toarray(), [[1, 0, 3], [2, 5, 1]])


def test_a_folder_of_h5ad_files_is_read_too(tmp_path: Path) -> None:
    for name, patient in (("one", "P1"), ("two", "P2")):
        write(tmp_path / f"{name}.h5ad", patient)
    found = read_expression(tmp_path)
    assert [(one.id, one.patient) for one in found] == [("one", "P1"), ("two", "P2")]


def write(path: Path, patient: str | list[str] | None, value: float = 1.0) -> None:
    spots = anndata.AnnData(np.full((2, 2), value, np.float32), var=pd.DataFrame(index=["CD3E", "KRT5"]))
    if patient is not None:
        spots.obs["patient"] = patient
    spots.write_h5ad(path)


@pytest.mark.parametrize("patient", [None, ["P1", "P2"]])
def test_a_file_must_tell_its_one_patient(tmp_path: Path, patient: list[str] | None) -> None:
    write(tmp_path / "atlas.h5ad", patient)
    with pytest.raises(StainglassError, match="does not name one patient"):
        read_expression(tmp_path)


def test_names_keep_their_dots(tmp_path: Path) -> None:
    for name in ("one.v1", "one.v2"):
        write(tmp_path / f"{name}.h5ad", "P1")
    assert [one.id for one in read_expression(tmp_path)] == ["one.v1", "one.v2"]


def test_what_holds_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="no counts without a picture"):
        read_expression(tmp_path)
    with pytest.raises(StainglassError, match="no such file"):
        read_expression(tmp_path / "nowhere")


def test_normalised_values_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "log.h5ad", "P1", 0.5)
    with pytest.raises(StainglassError, match="fraction"):
        read_expression(tmp_path)


def test_a_broken_file_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "cut.h5ad"
    write(path, "P1")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(b"\0" * 3000)
    with pytest.raises(StainglassError, match="cut"):
        read_expression(path)


def test_the_published_arrays_give_thirty_sections(shared: Path) -> None:
    folder = shared / "data" / "her2st"
    found = read_expression(folder)
    assert len(found) == 30
    assert {one.patient for one in found} == set("ABCDEFGH")
    assert not {one.id for one in found} & set(st_section_ids(folder))
