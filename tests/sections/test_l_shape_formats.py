"""The L through every reader and every slide format."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from l_shape_files import IDS, MARKER, SYMBOLS, in_l

from stainglass.sections import open_slide, read_section, read_sections

SLIDES = ["pyramid", "ome", "ome-planar", "plain", "planar", "strips", "bigtiff", "imagej", "16bit", "12bit", "rgba", "png", "rgba-png", "jpeg"]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("flavour", SLIDES)
def test_slides(spaceranger, slide_file, assert_upright, flavour):
    section = read_section(spaceranger(), slide=slide_file(flavour))
    assert section.slide_scale == 1.0
    assert section.mpp == pytest.approx(1.0, rel=0.002)
    claims = section.slide.mpp_claim
    assert claims is None if flavour in ("png", "rgba-png", "jpeg") else claims == pytest.approx(1.0)
    assert_upright(section, 12)


@pytest.mark.parametrize("matrix", ["h5", "mtx", "mtx.gz", "genes mtx", "genes mtx.gz", "raw mtx"])
def test_matrices(spaceranger, assert_upright, matrix):
    section = read_section(spaceranger(matrix=matrix))
    assert section.id == section.patient == "sample"
    assert section.slide_scale == 0.5
    assert section.slide_mpp == pytest.approx(2.0, rel=0.002)
    assert "hires" in section.notices[0]
    assert_upright(section)


@pytest.mark.parametrize("positions", ["list", "list.gz", "header", "header under the old name", "parquet"])
def test_positions(spaceranger, assert_upright, positions):
    assert_upright(read_section(spaceranger(positions=positions)))


def test_outs_prefixes_and_lowres(spaceranger, assert_upright):
    folder = spaceranger(images=("lowres",))
    outs = folder / "outs"
    for file in [*outs.glob("*.h5"), *(outs / "spatial").iterdir()]:
        file.rename(file.with_name(f"GSM123_{file.name}"))
    section = read_section(outs)
    assert section.slide_scale == 0.25
    assert "lowres" in section.notices[0]
    assert_upright(section)


def test_aligned_fiducials_stand_in_for_hires(spaceranger, assert_upright):
    folder = spaceranger(images=("hires",))
    hires = folder / "outs/spatial/tissue_hires_image.png"
    hires.rename(hires.with_name("aligned_fiducials.png"))
    section = read_section(folder)
    assert section.slide_scale == 0.5
    assert "marks" in section.notices[0]
    assert_upright(section)


def test_antibodies_are_left_out(spaceranger):
    kinds = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    section = read_section(spaceranger(matrix="mtx", kinds=kinds))
    assert list(section.spots.var_names) == [IDS[0], MARKER]
    assert any("1 features that are no genes" in notice for notice in section.notices)


def test_visium_hd_bins(l_shape, spaceranger, slide_file):
    import json

    folder = spaceranger(positions="parquet")
    spatial = folder / "outs/spatial"
    table = l_shape.positions.assign(
        array_row=l_shape.positions["array_row"], array_col=l_shape.positions["array_col"]
    )
    table["array_row"] = np.arange(len(table)) // 11
    table["array_col"] = np.arange(len(table)) % 11
    table["pxl_row_in_fullres"] = 20 + table["array_row"] * 16.0
    table["pxl_col_in_fullres"] = 20 + table["array_col"] * 16.0
    table.to_parquet(spatial / "tissue_positions.parquet")
    factors = {
        "bin_size_um": 8.0,
        "microns_per_pixel": 0.5,
        "tissue_hires_scalef": 0.5,
        "spot_diameter_fullres": 16.0,
    }
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    section = read_section(folder)
    assert section.mpp == pytest.approx(0.5)
    assert section.spot_diameter_um == section.spot_pitch_um == 8.0


def test_st(st_folder):
    folder = st_folder()
    section = read_section(folder)
    assert (section.id, section.patient) == ("Q1", "Q")
    assert section.mpp == pytest.approx(2.0)
    assert (section.spot_diameter_um, section.spot_pitch_um) == (100.0, 200.0)
    marked = np.asarray(section.spots[:, MARKER].X.todense()).ravel() > 0
    x, y = section.spots.obsm["spatial"].T
    assert np.array_equal(marked, in_l(y, x))
    for (cx, cy), dark in zip(section.spots.obsm["spatial"], marked, strict=True):
        assert (section.slide.read(round(cy), round(cx), 1, 1).mean() < 130) == dark
    types = section.spots.obsm["cell_types"]
    assert types.isna().any(axis=1).sum() == 5
    assert types["Epithelial"].dropna().eq(0.75).all()
    assert section.spots_um_yx[0] == pytest.approx([220.0, 220.0])
    assert {path.rpartition("/")[2] for path in section.inputs} == {"Q1.tsv.gz", "Q1.tsv", "Q1.jpg"}


def test_st_folder_lists_its_imaged_sections(st_folder):
    st_folder("Q1")
    folder = st_folder("R2")
    (folder / "images" / "R2.jpg").unlink()
    st_folder("Q3")
    assert [(source.id, source.patient) for source in read_sections(folder)] == [("Q1", "Q"), ("Q3", "Q")]


def spots_of(l_shape, **layers):
    obs = l_shape.positions.set_index("barcode")[["in_tissue", "array_row", "array_col"]]
    spots = anndata.AnnData(
        l_shape.counts.astype(np.float32), obs, pd.DataFrame({"gene_ids": IDS}, index=SYMBOLS)
    )
    spots.obsm["spatial"] = l_shape.positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(
        np.float64
    )
    return spots


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding", "ignore:Consolidated metadata")
@pytest.mark.parametrize("store", ["memory", "h5ad", "zarr"])
@pytest.mark.parametrize("where", ["X", "layer", "raw"])
def test_anndata(l_shape, tmp_path, slide_file, assert_upright, store, where):
    spots = spots_of(l_shape)
    if where == "raw":
        spots.raw = spots.copy()
    if where == "layer":
        spots.layers["counts"] = spots.X.copy()
    if where != "X":
        spots.X = spots.X * 0.37
    path = tmp_path / f"cells.{store}"
    if store == "h5ad":
        spots.write_h5ad(path)
    elif store == "zarr":
        with anndata.settings.override(zarr_write_format=3):
            spots.write_zarr(path)
    section = read_section(spots if store == "memory" else path, slide=slide_file("pyramid"))
    assert section.mpp == pytest.approx(1.0, rel=0.002)
    assert_upright(section, 12)


def test_anndata_with_its_own_image(l_shape, assert_upright):
    spots = spots_of(l_shape)
    spots.uns["spatial"] = {
        "lib": {
            "images": {"hires": l_shape.image[::2, ::2] / np.float32(255)},
            "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 65.0},
        }
    }
    assert_upright(read_section(spots, id="in memory"))


def test_manifest(spaceranger, slide_file, tmp_path, assert_upright):
    spaceranger()
    slide_file("pyramid")
    (tmp_path / "m.csv").write_text(
        "id,patient,path,slide,mpp,site\na,Anna,sample,l.tif,,face\nb,Bert,sample,,1.0,back\n"
    )
    sources = read_sections(tmp_path / "m.csv")
    assert [(s.id, s.patient, s.groups) for s in sources] == [
        ("a", "Anna", {"site": "face"}),
        ("b", "Bert", {"site": "back"}),
    ]
    first, second = (source.read() for source in sources)
    assert_upright(first, 12)
    assert_upright(second)
    assert (first.slide_scale, second.slide_scale) == (1.0, 0.5)
    assert (second.id, second.patient, second.mpp, second.groups) == ("b", "Bert", 1.0, {"site": "back"})


def test_a_folder_of_sections(spaceranger, tmp_path):
    sample = spaceranger()
    shutil.copytree(sample, tmp_path / "other")
    (tmp_path / "notes").mkdir()
    assert [source.id for source in read_sections(tmp_path)] == ["other", "sample"]


@pytest.mark.parametrize("flavour", SLIDES)
def test_regions_and_thumbnails(l_shape, slide_file, flavour):
    tolerance = 40 if flavour in ("pyramid", "jpeg") else 1
    with open_slide(slide_file(flavour)) as slide:
        assert slide.size_px_yx == l_shape.image.shape[:2]
        region = slide.read(-10, -20, 300, 400).astype(int)
        assert (region[:10] == 255).all()
        assert (region[:, :20] == 255).all()
        assert np.abs(region[10:, 20:] - l_shape.image[:290, :380]).max() <= tolerance
        assert (slide.read(5000, 5000, 8, 8) == 255).all()
        for level in range(1, len(slide.levels)):
            factor = 2**level
            coarse = slide.read(0, 0, 100, 100, level).astype(int)
            assert np.abs(coarse[50, 50] - l_shape.image[50 * factor, 50 * factor]).max() <= tolerance
        thumbnail = slide.thumbnail(114)
        assert thumbnail.shape == (90, 114, 3)
        assert thumbnail[70, 60].mean() < 110 < thumbnail[30, 60].mean()
    levels = {"pyramid": 3, "ome": 3}.get(flavour, 1)
    assert len(slide.levels) == levels


def test_tifffile_reads_the_generic_pyramid_too(l_shape, slide_file):
    from stainglass.sections.backends.tifffile_ import TifffileSlide

    path = slide_file("pyramid")
    with open_slide(path) as theirs, TifffileSlide(path) as ours:
        assert theirs.backend == "openslide"
        assert ours.levels == theirs.levels
        for level in range(len(ours.levels)):
            difference = ours.read(30, 40, 60, 80, level).astype(int) - theirs.read(30, 40, 60, 80, level)
            assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("flavour", ["pyramid", "ome", "jpeg"])
def test_a_slide_travels_to_a_worker(slide_file, flavour):
    import pickle

    with open_slide(slide_file(flavour)) as slide, pickle.loads(pickle.dumps(slide)) as other:
        assert np.array_equal(slide.read(90, 140, 30, 30), other.read(90, 140, 30, 30))
        # What a forked worker does at its first read:
        other._pid = -1
        assert np.array_equal(slide.read(90, 140, 30, 30), other.read(90, 140, 30, 30))


def test_importing_the_room_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, stainglass.sections, stainglass.genes; print([m for m in ('anndata','torch','zarr','h5py','pandas') if m in sys.modules])"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
