"""Every bad input is refused with words that say what was found and what to do."""

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
from l_shape_files import IDS, SYMBOLS, write_matrix, write_slide
from PIL import Image
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.sections import open_slide, read_section, read_sections
from stainglass.sections.spots import NoSlide, read_spots


def spots_of(l_shape, counts=None):
    obs = l_shape.positions.set_index("barcode")[["in_tissue", "array_row", "array_col"]]
    matrix = csr_matrix(l_shape.counts.astype(np.float32)) if counts is None else counts
    spots = anndata.AnnData(matrix, obs, pd.DataFrame({"gene_ids": IDS}, index=SYMBOLS))
    spots.obsm["spatial"] = l_shape.positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(
        np.float64
    )
    return spots


@pytest.mark.parametrize(
    ("value", "finding"),
    [(-1.0, "negative"), (np.nan, "NaN"), (np.inf, "infinite"), (0.5, "not raw counts.*fractions")],
)
def test_counts_that_are_no_counts(l_shape, slide_file, value, finding):
    spots = spots_of(l_shape)
    spots.X[0, 0] = value
    with pytest.raises(StainglassError, match=finding):
        read_section(spots, slide=slide_file("pyramid"))


def test_normalised_counts(l_shape, slide_file):
    with pytest.raises(StainglassError, match=r"seems normalised.*Give the raw counts"):
        read_section(
            spots_of(l_shape, csr_matrix(np.log1p(l_shape.counts.toarray()))), slide=slide_file("pyramid")
        )


def test_text_instead_of_counts(st_folder):
    folder = st_folder()
    table = pd.read_csv(folder / "counts/Q1.tsv.gz", sep="\t", index_col=0).astype(object)
    table.iloc[3, 1] = "many"
    table.to_csv(folder / "counts/Q1.tsv.gz", sep="\t")
    with pytest.raises(StainglassError, match="gene KRT5 holds text"):
        read_section(folder)


def test_barcodes_that_match_nothing(l_shape, spaceranger):
    with pytest.raises(StainglassError, match=r"no barcode of the counts .* has a position"):
        read_section(spaceranger(barcodes=[f"{i}-9-OTHER" for i in range(110)]))


def test_barcodes_without_suffix_match(l_shape, spaceranger, assert_upright):
    assert_upright(read_section(spaceranger(barcodes=[barcode[:-2] for barcode in l_shape.barcodes])))


def test_some_barcodes_without_position(l_shape, spaceranger):
    section = read_section(spaceranger(barcodes=["LOST-1", *l_shape.barcodes[1:]]))
    assert any("1 of 110 rows of counts have no position" in notice for notice in section.notices)
    dropped = section.spots.obs[~section.spots.obs["used"]]
    assert dropped["why_dropped"].tolist() == ["no counts"]


def test_a_barcode_twice(l_shape, spaceranger):
    with pytest.raises(StainglassError, match="stands twice in the matrix"):
        read_section(spaceranger(barcodes=[l_shape.barcodes[1], *l_shape.barcodes[1:]]))


def rewrite_positions(folder, change):
    file = folder / "outs/spatial/tissue_positions.csv"
    table = pd.read_csv(file)
    change(table)
    table.to_csv(file, index=False)


def test_no_spot_on_tissue(spaceranger):
    folder = spaceranger(positions="header")
    rewrite_positions(folder, lambda table: table.__setitem__("in_tissue", 0))
    with pytest.raises(StainglassError, match=r"no spot lies on tissue.*110 outside tissue"):
        read_section(folder)


def test_every_spot_stays_and_says_why_it_is_dropped(spaceranger, l_shape):
    folder = spaceranger(positions="header")

    def change(table):
        table.loc[0, "in_tissue"] = 0
        table.loc[1, "pxl_col_in_fullres"] = 5000

    rewrite_positions(folder, change)
    section = read_section(folder)
    obs = section.spots.obs
    assert len(obs) == 110
    assert obs["why_dropped"].tolist()[:3] == ["outside tissue", "outside the image", ""]
    assert obs["used"].tolist() == [False, False] + [True] * 108
    assert any("1 of 110 spots are not used: outside the image" in notice for notice in section.notices)


def test_a_slide_of_another_resolution(spaceranger):
    folder = spaceranger()
    with pytest.raises(
        StainglassError, match=r"are 0.25 times the slide that the positions.*given to Space Ranger"
    ):
        read_section(folder, slide=folder / "outs/spatial/tissue_lowres_image.png")


def test_positions_of_another_section(spaceranger):
    folder = spaceranger(positions="header")

    def shuffle(table):
        order = np.random.default_rng(1).permutation(len(table))
        table["pxl_row_in_fullres"] = table["pxl_row_in_fullres"].to_numpy()[order]

    rewrite_positions(folder, shuffle)
    with pytest.raises(StainglassError, match="do not lie on the array's lattice"):
        read_section(folder)


def test_a_position_that_is_missing(spaceranger):
    folder = spaceranger(positions="header")
    rewrite_positions(folder, lambda table: table.__setitem__("pxl_row_in_fullres", np.nan))
    with pytest.raises(StainglassError, match="have no position"):
        read_section(folder)


def test_lattice_and_metadata_that_disagree(l_shape, spaceranger, tmp_path):
    path = tmp_path / "wrong.tif"
    tifffile.imwrite(
        path, l_shape.image, photometric="rgb", resolution=(2e4, 2e4), resolutionunit=3, metadata=None
    )
    folder = spaceranger()
    with pytest.raises(
        StainglassError,
        match=r"the spot lattice gives 1 µm/px but the image's metadata gives 0.5.*: 1 or 0.5, whichever",
    ):
        read_section(folder, slide=path)
    section = read_section(folder, slide=path, mpp=1.0)
    assert section.mpp == 1.0
    assert any("metadata gives 0.5; what was given was taken" in notice for notice in section.notices)


def test_a_spot_diameter_that_cannot_be(spaceranger):
    folder = spaceranger()
    file = folder / "outs/spatial/scalefactors_json.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spot_diameter_fullres": 200.0}))
    with pytest.raises(StainglassError, match=r"the spot diameter allows 0.275 to 0.375"):
        read_section(folder)
    assert any("allows 0.275" in notice for notice in read_section(folder, mpp=1.0).notices)


def test_no_scale_at_all(l_shape, slide_file):
    spots = spots_of(l_shape)
    del spots.obs["array_row"]
    with pytest.raises(
        StainglassError, match=r"nothing says how many µm a pixel is.*column mpp of a manifest"
    ):
        read_section(spots, slide=slide_file("jpeg"))
    assert read_section(spots, slide=slide_file("jpeg"), mpp=0.8).mpp == 0.8


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none(spaceranger, wrong):
    with pytest.raises(StainglassError, match="is no scale"):
        read_section(spaceranger(), mpp=wrong)


@pytest.mark.parametrize("flavour", ["pyramid", "ome", "plain", "strips", "png", "jpeg"])
def test_truncated_slides(l_shape, tmp_path, flavour):
    path = write_slide(l_shape.image, tmp_path, flavour)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StainglassError, match="cut short or damaged"):
        open_slide(path).thumbnail(200)


@pytest.mark.parametrize("backend", ["openslide", "tifffile"])
def test_a_damaged_tile_does_not_poison_the_slide(l_shape, tmp_path, backend):
    path = write_slide(l_shape.image, tmp_path, "pyramid" if backend == "openslide" else "ome")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, length = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert slide.backend == backend
        with pytest.raises(StainglassError, match=r"cannot read it|cut short or damaged"):
            slide.read(0, 260, 100, 100)
        assert slide.read(600, 600, 4, 4).mean() == pytest.approx(
            l_shape.image[600:604, 600:604].mean(), abs=20
        )


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"II*\0" + bytes(40), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"]
)
def test_files_that_are_no_slides(tmp_path, content):
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    with pytest.raises(StainglassError, match=r"slide\.svs"):
        open_slide(path).read(0, 0, 10, 10)


def test_stacks_and_float_images(tmp_path):
    stack, floats, many = tmp_path / "s.tif", tmp_path / "f.tif", tmp_path / "m.ome.tif"
    tifffile.imwrite(stack, np.zeros((4, 64, 64), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(floats, np.zeros((64, 64), np.float32))
    tifffile.imwrite(many, np.zeros((5, 64, 64), np.uint16), ome=True, metadata={"axes": "CYX"})
    with pytest.raises(StainglassError, match="a stack of planes"):
        open_slide(stack)
    with pytest.raises(StainglassError, match="float32"):
        open_slide(floats)
    with pytest.raises(StainglassError, match="5 channels, not an H&E picture"):
        open_slide(many)


def test_no_slide_file(tmp_path):
    with pytest.raises(StainglassError, match="no such slide file"):
        open_slide(tmp_path / "nothing.tif")


def test_folders_that_hold_no_section(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StainglassError, match="no section found"):
        read_section(tmp_path / "empty")
    with pytest.raises(StainglassError, match="no such file or folder"):
        read_section(tmp_path / "nowhere")
    with pytest.raises(StainglassError, match="no section in this folder"):
        read_sections(tmp_path)
    with pytest.raises(StainglassError, match="unknown kind 'tarot'"):
        read_section(tmp_path / "empty", kind="tarot")


@pytest.mark.parametrize(
    ("lost", "finding"),
    [
        ("spatial/tissue_hires_image.png", "no image of the section"),
        ("spatial/scalefactors_json.json", "no tissue_hires_scalef says how it was scaled"),
    ],
)
def test_missing_parts(spaceranger, lost, finding):
    folder = spaceranger(images=("hires",))
    (folder / "outs" / lost).unlink()
    with pytest.raises(StainglassError, match=finding):
        read_section(folder)


@pytest.mark.parametrize("file", ["barcodes.tsv", "features.tsv"])
def test_missing_parts_of_a_matrix_folder(spaceranger, file):
    folder = spaceranger(matrix="mtx")
    (folder / "outs/filtered_feature_bc_matrix" / file).unlink()
    with pytest.raises(StainglassError, match=r"beside matrix.mtx"):
        read_section(folder)


@pytest.mark.parametrize("matrix", ["h5", "mtx.gz"])
def test_truncated_matrices(spaceranger, matrix):
    folder = spaceranger(matrix=matrix)
    name = "filtered_feature_bc_matrix.h5" if matrix == "h5" else "filtered_feature_bc_matrix/matrix.mtx.gz"
    file = folder / "outs" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StainglassError, match=r"cut short or damaged|no section found"):
        read_section(folder)


def test_matrix_and_barcodes_that_differ_in_number(l_shape, spaceranger):
    with pytest.raises(StainglassError, match="barcodes"):
        read_section(spaceranger(matrix="mtx", barcodes=l_shape.barcodes[:-3]))


def test_two_samples_in_one_folder(l_shape, spaceranger):
    folder = spaceranger()
    matrix = folder / "outs/filtered_feature_bc_matrix.h5"
    (folder / "outs/B_filtered_feature_bc_matrix.h5").write_bytes(matrix.read_bytes())
    with pytest.raises(StainglassError, match="files of several samples"):
        read_section(folder)


def test_anndata_without_places_or_slide(l_shape, slide_file, tmp_path):
    spots = spots_of(l_shape)
    with pytest.raises(StainglassError, match="no slide, and no image"):
        read_section(spots)
    del spots.obsm["spatial"]
    with pytest.raises(StainglassError, match=r'no obsm\["spatial"\]'):
        read_section(spots, slide=slide_file("pyramid"))
    broken = tmp_path / "broken.h5ad"
    spots.write_h5ad(broken)
    broken.write_bytes(broken.read_bytes()[:3000])
    with pytest.raises(StainglassError, match=r"broken.h5ad"):
        read_section(broken, slide=slide_file("pyramid"))


def test_a_section_that_the_st_folder_has_not(st_folder):
    with pytest.raises(StainglassError, match="no counts of section Z9"):
        read_section(st_folder(), section="Z9")
    st_folder("Q2")
    with pytest.raises(StainglassError, match="2 sections with an image"):
        read_section(st_folder())


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("id,path\na,sample\n", "no column patient"),
        ("id,patient,path\n", "no rows"),
        ("id,patient,path\na,p,sample\na,q,sample\n", r"id a stands twice \(lines 2 and 3\)"),
        ("id,patient,path\na,,sample\n", "line 2: no patient"),
        ("id,patient,path\na,p,elsewhere\n", "elsewhere does not exist"),
        ("id,patient,path,slide\na,p,sample,none.tif\n", "none.tif does not exist"),
        ("id,patient,path,mpp\na,p,sample,fine\n", "mpp 'fine' is not a number above zero"),
        ("id,patient,path,mpp\na,p,sample,-1\n", "not a number above zero"),
        ("id,patient,path\n../a,p,sample\n", "cannot name a folder"),
    ],
)
def test_manifests(spaceranger, tmp_path, text, finding):
    spaceranger()
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(StainglassError, match=finding):
        read_sections(tmp_path / "manifest.csv")


def test_a_dark_png_of_16_bit_is_read(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((40, 50), 65535, np.uint16)).save(path)
    assert (open_slide(path).read(0, 0, 40, 50) == 255).all()


def test_raw_matrix_alone(l_shape, spaceranger, assert_upright):
    folder = spaceranger(matrix="raw mtx")
    write_matrix(l_shape, folder / "outs", "h5")
    assert_upright(read_section(folder))


def test_samples_put_flat_into_one_folder(spaceranger, tmp_path):
    """As in GEO: the counts of one would be put on the image of another."""
    outs = spaceranger(matrix="v3") / "outs"
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in sorted(outs.rglob("*")):
        for sample in ("GSM1_a", "GSM2_b"):
            if file.is_file():
                (flat / f"{sample}_{file.name}").write_bytes(file.read_bytes())
    with pytest.raises(StainglassError, match=r"of several samples \(GSM1_a, GSM2_b\).*folder of its own"):
        read_section(flat)


def test_a_folder_whose_folders_are_sections(spaceranger, tmp_path):
    outs = spaceranger() / "outs"
    for sample in ("s.1", "s.2"):
        flat = tmp_path / "both" / sample
        flat.mkdir(parents=True)
        for file in outs.rglob("*"):
            if file.is_file():
                (flat / file.name).write_bytes(file.read_bytes())
    assert [source.id for source in read_sections(tmp_path / "both")] == ["s.1", "s.2"]
    with pytest.raises(StainglassError, match=r"several samples \(s.1, s.2\)"):
        read_section(tmp_path / "both")


def test_bins_of_one_tissue_are_no_two_sections(spaceranger, tmp_path):
    run = tmp_path / "run"
    outs = spaceranger() / "outs"
    for size in ("008", "016"):
        (run / "outs" / "binned_outputs").mkdir(parents=True, exist_ok=True)
        shutil.copytree(outs, run / "outs" / "binned_outputs" / f"square_{size}um")
    for given in (run, run / "outs", run / "outs" / "binned_outputs"):
        with pytest.raises(StainglassError, match=r"one tissue in bins of 8, 16 µm.*square_008um"):
            read_sections(given)
    one = run / "outs" / "binned_outputs" / "square_008um"
    assert [source.id for source in read_sections(one)] == ["run"]
    assert read_section(one).id == "run"


def test_files_that_would_share_a_name(l_shape, tmp_path):
    for name in ("P1.rep1.h5ad", "P1.rep2.h5ad"):
        spots_of(l_shape).write_h5ad(tmp_path / name)
    assert [source.id for source in read_sections(tmp_path)] == ["P1.rep1", "P1.rep2"]
    (tmp_path / "P1.rep1").mkdir()
    spots_of(l_shape).write_h5ad(tmp_path / "P1.rep1.zarr.h5ad")
    with pytest.raises(StainglassError, match=r"two sections are called P1.rep1"):
        read_sections(tmp_path)


def test_an_anndata_of_several_sections(l_shape, slide_file):
    one, other = spots_of(l_shape), spots_of(l_shape)
    for spots, name in ((one, "lib1"), (other, "lib2")):
        image = l_shape.image[::2, ::2] // (1 if name == "lib1" else 2)
        spots.uns["spatial"] = {
            name: {"images": {"hires": image}, "scalefactors": {"tissue_hires_scalef": 0.5}}
        }
    both = anndata.concat(
        [one, other], label="library_id", keys=["lib1", "lib2"], uns_merge="unique", index_unique="_"
    )
    with pytest.raises(
        StainglassError, match=r"holds 2 sections \(lib1, lib2\).*obs\['library_id'\] == 'lib1'"
    ):
        read_section(both)
    second = read_section(both[both.obs["library_id"] == "lib2"].copy())
    np.testing.assert_array_equal(second.slide.read(0, 0, 40, 40), l_shape.image[::2, ::2][:40, :40] // 2)
    del both.obs["library_id"]
    with pytest.raises(StainglassError, match="holds 2 libraries"):
        read_section(both)
    both.uns.clear()
    with pytest.raises(StainglassError, match="stand at one place of the array"):
        read_section(both, slide=slide_file("pyramid"))
    one.obs["patient"] = ["A", "B"] * 55
    with pytest.raises(StainglassError, match=r"holds 2 patients \(A, B\)"):
        read_section(one)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_images_of_other_depths(l_shape, kind):
    spots = spots_of(l_shape)
    wide = l_shape.image.astype(kind) * (257 if kind is np.uint16 else 1)
    spots.uns["spatial"] = {"lib": {"images": {"hires": wide}, "scalefactors": {"tissue_hires_scalef": 1.0}}}
    height, width = l_shape.image.shape[:2]
    np.testing.assert_array_equal(read_section(spots).slide.read(0, 0, height, width), l_shape.image)


def test_bins_in_an_anndata_are_as_wide_as_they_are(l_shape, slide_file):
    spots = spots_of(l_shape)
    del spots.obs["array_row"], spots.obs["array_col"]
    spots.uns["spatial"] = {"lib": {"scalefactors": {"bin_size_um": 8.0, "microns_per_pixel": 1.0}}}
    assert read_section(spots, slide=slide_file("pyramid")).spot_diameter_um == 8.0
    spots.uns["spatial"] = {
        "lib": {"scalefactors": {"spot_diameter_fullres": 30.0, "microns_per_pixel": 1.0}}
    }
    assert read_section(spots, slide=slide_file("pyramid")).spot_diameter_um == 30.0


@pytest.mark.parametrize("factor", [0.75, 2.0])
def test_a_slide_of_another_magnification(l_shape, spaceranger, tmp_path, factor):
    height, width = l_shape.image.shape[:2]
    path = tmp_path / "other.png"
    Image.fromarray(l_shape.image).resize((round(width * factor), round(height * factor))).save(path)
    with pytest.raises(StainglassError, match=f"are {factor:.3g} times the slide"):
        read_section(spaceranger(), slide=path)
    spots = spots_of(l_shape)
    spots.uns["spatial"] = {
        "lib": {"images": {"hires": l_shape.image[::2, ::2]}, "scalefactors": {"tissue_hires_scalef": 0.5}}
    }
    with pytest.raises(StainglassError, match=f"are {factor:.3g} times the slide"):
        read_section(spots, slide=path)


def test_spots_need_no_slide_and_no_bounds(l_shape, spaceranger):
    folder = spaceranger(images=())
    with pytest.raises(StainglassError, match="no image of the section"):
        read_section(folder)
    assert read_section(folder, slide=NoSlide()).spots.obs["used"].all()
    spots = spots_of(l_shape)
    spots.obsm["spatial"][:, 1] *= -1  # as R has it
    read = read_spots(spots)
    assert read.spots.obs["used"].all()
    assert (read.spots_um_yx[:, 0] < 0).all()
    spots.obsm["spatial_um_yx"] = read.spots_um_yx
    assert not any(notice.startswith("µm/px") for notice in read_spots(spots).notices)


def test_a_manifest_beside_the_sections_is_read(spaceranger, tmp_path):
    sample = spaceranger()
    for name in ("a", "b"):
        shutil.copytree(sample, tmp_path / "all" / name)
    (tmp_path / "all" / "manifest.csv").write_text("id,patient,path,site\nx,Anna,a,leg\ny,Anna,b,arm\n")
    found = read_sections(tmp_path / "all")
    assert [(s.id, s.patient, s.groups) for s in found] == [
        ("x", "Anna", {"site": "leg"}),
        ("y", "Anna", {"site": "arm"}),
    ]


def test_a_folder_of_sections_of_several_kinds(l_shape, spaceranger, tmp_path):
    sample = spaceranger()
    folder = tmp_path / "all"
    for name in ("a", "b"):
        shutil.copytree(sample, folder / name)
    shutil.copytree(sample / "outs", folder / "hd" / "outs" / "binned_outputs" / "square_008um")
    spots_of(l_shape).write_h5ad(folder / "c.h5ad")
    assert [source.id for source in read_sections(folder)] == ["a", "b", "c", "hd"]


@pytest.mark.parametrize("layout", ["filtered and raw", "mtx beside h5", "one renamed", "matrix twice"])
def test_files_of_one_sample_under_several_names(spaceranger, layout):
    outs = spaceranger() / "outs"
    h5 = outs / "filtered_feature_bc_matrix.h5"
    if layout == "one renamed":
        shutil.copy(h5, outs / "S1_raw_feature_bc_matrix.h5")
    elif layout == "matrix twice":
        (outs / "filtered_feature_bc_matrix").mkdir()
        shutil.copy(h5, outs / "filtered_feature_bc_matrix" / h5.name)
    else:
        for name in ("filtered", "raw") if layout == "filtered and raw" else ("mtx",):
            (outs / name).mkdir()
            (outs / name / "matrix.mtx").write_text(
                "%%MatrixMarket matrix coordinate integer general\n1 1 0\n"
            )
    (outs / "spatial_backup").mkdir()
    shutil.copy(outs / "spatial" / "scalefactors_json.json", outs / "spatial_backup")
    assert read_section(outs.parent).spots.n_obs == 110


def test_what_a_subset_keeps_of_others_is_no_library_of_its_own(l_shape):
    spots = spots_of(l_shape)
    image = {"images": {"hires": l_shape.image[::2, ::2]}, "scalefactors": {"tissue_hires_scalef": 0.5}}
    spots.uns["spatial"] = {"A": image, "B": {**image, "images": {"hires": l_shape.image[::2, ::2] // 2}}}
    assert read_spots(spots).spots.n_obs == 110  # no image is needed
    spots.obs["sample"] = "B"
    np.testing.assert_array_equal(
        read_section(spots).slide.read(0, 0, 9, 9), l_shape.image[::2, ::2][:9, :9] // 2
    )
    spots.obs["patient"] = ["X", None] * 55
    assert read_section(spots).patient == "X"
    spots.obs["patient"] = 7
    assert read_section(spots).patient == "7"
    spots.obs["patient"] = ["X", "Y"] * 55
    assert read_spots(spots).spots.n_obs == 110  # whose they are makes no difference to what is painted
    assert read_section(spots, patient="X").patient == "X"


def test_array_places_that_say_nothing_are_let_be(l_shape, slide_file):
    spots = spots_of(l_shape)
    spots.obs["array_row"] = spots.obs["array_col"] = 0
    assert read_section(spots, slide=slide_file("pyramid"), mpp=1.0).spots.n_obs == 110


def test_padding_is_no_other_magnification(l_shape, spaceranger, tmp_path):
    padded = np.pad(l_shape.image, ((0, 24), (0, 30), (0, 0)), constant_values=255)
    Image.fromarray(padded).save(tmp_path / "padded.png")
    assert read_section(spaceranger(), slide=tmp_path / "padded.png").spots.obs["used"].all()
