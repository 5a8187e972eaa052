import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.raster import halved, raster_size_px, resampled_strips
from stainglass.cohort.tissue import TISSUE_MPP, grown, tissue_mask
from stainglass.cohort.windows import Window
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.sections import open_slide, read_section, read_sections


def test_a_cohort_holds_what_the_section_held(cohort: Cohort, simulated: Path) -> None:
    source = read_sections(simulated)[0].read()
    section = cohort.sections[source.id]
    assert section.spots.n_obs == source.spots.n_obs
    np.testing.assert_allclose(section.spots.obsm["spatial_um_yx"], source.spots_um_yx)
    np.testing.assert_array_equal(section.spots.X.toarray(), source.spots.X.toarray())
    assert section.record.patient == source.patient
    assert (cohort.path / "proofs" / f"{source.id}.png").is_file()


def test_the_raster_is_the_slide_at_the_cohorts_mpp(cohort: Cohort, simulated: Path) -> None:
    source = read_sections(simulated)[0].read()
    section = cohort.sections[source.id]
    window = cohort.patches([source.id], 64)[5]
    # At twice the slide's mpp the pyramid's next level is the raster.
    expected = source.slide.read(window.top_px, window.left_px, 64, 64, level=1)
    assert expected.std() > 10
    np.testing.assert_array_equal(section.pixels(window), expected)


def test_far_from_tissue_is_white_and_outside_too(cohort: Cohort) -> None:
    section = next(iter(cohort.sections.values()))
    outside = section.pixels(Window(section.id, -64, -64, 64))
    assert (outside == 255).all()


def test_strips_join_without_a_seam(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(301), np.arange(257))[..., None] * np.ones(3) / 3
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "ramp.png")
    with open_slide(tmp_path / "ramp.png") as slide:
        whole = np.concatenate([s for _, s in resampled_strips(slide, 0.5, 0.61, rows=1000)])
        strips = np.concatenate([s for _, s in resampled_strips(slide, 0.5, 0.61, rows=16)])
        assert whole.shape[:2] == raster_size_px(slide, 0.5, 0.61)
        # The last row is squeezed by less than a px in one strip or the other.
        assert np.abs(whole[:-1].astype(int) - strips[:-1].astype(int)).max() <= 2
        with pytest.raises(StainglassError, match="upsampling"):
            next(resampled_strips(slide, 0.5, 0.4))


def test_the_pyramid_halves_by_means() -> None:
    image = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    small = halved(image)
    assert small.shape == (3, 2, 3)
    assert small[0, 0, 0] == (int(image[0, 0, 0]) + image[1, 0, 0] + image[0, 1, 0] + image[1, 1, 0] + 2) // 4


def test_the_raster_opens_as_ome_zarr(cohort: Cohort) -> None:
    section = next(iter(cohort.sections.values()))
    ome = section.root["he"].attrs["ome"]
    assert ome["version"] == "0.5"
    datasets = ome["multiscales"][0]["datasets"]
    assert datasets[0]["coordinateTransformations"][0]["scale"][:2] == [cohort.mpp, cohort.mpp]
    for dataset in datasets:
        assert section.root[f"he/{dataset['path']}"].shape[2] == 3


def test_tissue_is_found_on_glass_of_any_hue() -> None:
    rng = np.random.default_rng(0)
    for glass in ([245, 243, 244], [228, 215, 226], [235, 240, 250]):
        image = np.clip(rng.normal(glass, 2, (120, 160, 3)), 0, 255)
        image[30:90, 40:140] = np.clip(rng.normal([190, 120, 170], 15, (60, 100, 3)), 0, 255)
        mask = tissue_mask(image.astype(np.uint8))
        assert mask[32:88, 42:138].mean() > 0.97
        assert mask[:26].mean() < 0.02
    assert not tissue_mask(np.full((50, 50, 3), 240, np.uint8)).any()
    one = np.zeros((21, 21), bool)
    one[10, 10] = True
    assert grown(one, 2 * TISSUE_MPP).sum() == 13


def rotated(image: np.ndarray, fill: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).rotate(20, expand=True, fillcolor=(fill,) * 3))


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("how", ["rotated", "padded"])
def test_what_an_image_was_filled_up_with_is_neither_glass_nor_tissue(fill: int, how: str) -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal([228, 215, 226], 2, (220, 260, 3)), 0, 255)
    image[60:160, 60:200] = np.clip(rng.normal([190, 120, 170], 15, (100, 140, 3)), 0, 255)
    image = image.astype(np.uint8)
    truth = np.zeros(image.shape[:2], np.uint8)
    truth[60:160, 60:200] = 255
    if how == "rotated":
        image = rotated(image, fill)
        truth = np.asarray(Image.fromarray(truth).rotate(20, expand=True))
    else:
        image = np.pad(image, ((80, 80), (80, 80), (0, 0)), constant_values=fill)
        truth = np.pad(truth, 80)
    mask, tissue = tissue_mask(image), truth > 127
    assert mask[tissue].mean() > 0.95
    assert mask[~tissue].mean() < 0.03


def test_an_image_that_is_all_black_has_no_tissue() -> None:
    assert not tissue_mask(np.zeros((50, 50, 3), np.uint8)).any()


def test_pale_even_stroma_on_white_is_no_glass() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300]
    density = np.zeros((300, 300, 3))
    density[np.hypot(y - 150, x - 150) < 100] = (0.08, 0.35, 0.2)
    for cy, cx in rng.uniform(90, 210, (40, 2)):
        density[np.hypot(y - cy, x - cx) < 4] = (0.7, 0.9, 0.5)
    image = np.exp(-density * (1 + 0.04 * rng.normal(size=(300, 300, 1)))) * 255
    mask = tissue_mask(np.rint(image).clip(0, 255).astype(np.uint8))
    assert mask[np.hypot(y - 150, x - 150) < 95].mean() > 0.97
    assert mask[np.hypot(y - 150, x - 150) > 106].mean() < 0.02


def test_saturated_glass_is_glass() -> None:
    rng = np.random.default_rng(0)
    image = np.full((200, 200, 3), 255, np.uint8)
    image[50:150, 50:150] = np.clip(rng.normal([215, 160, 200], 25, (100, 100, 3)), 0, 255)
    mask = tissue_mask(image)
    assert mask[52:148, 52:148].mean() > 0.97
    assert mask[:44].mean() < 0.02


def test_what_a_manifest_corrects_is_not_kept_as_it_was(simulated: Path, tmp_path: Path) -> None:
    source = replace(read_sections(simulated)[0], groups={"site": "arm"})
    prepare_cohort([source], tmp_path, Prepare(mpp=1.0, margin_um=100))
    corrected = prepare_cohort([replace(source, groups={"site": "back"})], tmp_path)
    assert corrected.sections[source.id].record.groups == {"site": "back"}
    assert json.loads((tmp_path / "cohort.json").read_text())["prepare"]["margin_um"] == 100
    unnamed = replace(source, groups=None, told=source.told | {"path": "moved/elsewhere"})
    assert prepare_cohort([unnamed], tmp_path).sections[source.id].record.groups == {"site": "back"}
    other = replace(read_sections(simulated)[1], id=source.id, patient=source.patient, groups=None)
    with pytest.raises(StainglassError, match=r"was prepared with path .*, now it is .*Delete"):
        prepare_cohort([other], tmp_path)
    with pytest.raises(StainglassError, match=r"was prepared with mpp .*, now it is 0.25.*Delete"):
        prepare_cohort([replace(source, told=source.told | {"mpp": "0.25"})], tmp_path)
    twin = replace(source, id="twin", patient="twin", reader=lambda: replace(source.read(), id="twin"))
    with pytest.raises(StainglassError, match=f"in the cohort as {source.id} already"):
        prepare_cohort([twin], tmp_path)
    with pytest.raises(StainglassError, match="prepared with margin_um=100, not 10"):
        prepare_cohort([source], tmp_path, Prepare(margin_um=10))


def test_a_section_that_is_there_is_not_done_again_and_a_new_one_is_added(
    simulated: Path, tmp_path: Path
) -> None:
    sources = read_sections(simulated)
    prepare_cohort(sources[:1], tmp_path, Prepare(mpp=1.0))
    first = tmp_path / "sections" / f"{sources[0].id}.zarr" / "record.json"
    before = first.stat().st_mtime_ns
    (tmp_path / "sections" / f".{sources[1].id}.zarr.0.tmp.zarr").mkdir()  # what a kill leaves
    cohort = prepare_cohort(sources[:2], tmp_path, Prepare(mpp=1.0))
    assert list(cohort.sections) == [s.id for s in sources[:2]]
    assert first.stat().st_mtime_ns == before
    assert not list((tmp_path / "sections").glob(".*"))


def test_a_bad_section_loses_nothing_that_was_prepared(simulated: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(simulated.parent, bad)
    slide = next(p for p in (bad / "P2").rglob("slide.tif"))
    slide.write_bytes(slide.read_bytes()[:5000])
    out = tmp_path / "cohort"
    prepare_cohort(read_sections(bad / "manifest.csv")[:1], out, Prepare(mpp=1.0))
    with pytest.raises(StainglassError, match=r"slide\.tif"):
        prepare_cohort(read_sections(bad / "manifest.csv"), out, Prepare(mpp=1.0))
    assert list(Cohort.open(out).sections) == ["P1"]


def test_a_finer_mpp_than_the_source_is_refused_when_asked_for(simulated: Path, tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="upsampling"):
        prepare_cohort(read_sections(simulated)[:1], tmp_path, Prepare(mpp=0.25))


def test_no_cohort_and_another_format_are_said(tmp_path: Path, cohort: Cohort) -> None:
    with pytest.raises(StainglassError, match="stainglass prepare"):
        Cohort.open(tmp_path)
    tree = json.loads((cohort.path / "cohort.json").read_text())
    (tmp_path / "cohort.json").write_text(json.dumps({**tree, "format": 99}))
    with pytest.raises(StainglassError, match="format 1"):
        Cohort.open(tmp_path)


def test_hires_stands_in_for_a_missing_slide_with_a_notice(shared: Path, tmp_path: Path) -> None:
    section = read_section(shared / "data" / "visium_tiny")
    assert any("hires" in notice for notice in section.notices)
    with pytest.raises(StainglassError, match="upsampling"):
        prepare_cohort(read_sections(shared / "data" / "visium_tiny"), tmp_path, Prepare(mpp=0.5))
