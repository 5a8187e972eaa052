"""The Python interface as its users meet it: every test is also an example."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

import stainglass
from stainglass.cohort.cohort import Cohort
from stainglass.synthesis.generator import Generator, Painted
from stainglass.synthesis.stamp import SENTENCE, Stamp, read_stamp, write_picture

SLIDE_MPP = 0.5
"""Of the simulated slides; the generator paints at 1.0."""
N = 5
QUICK = stainglass.SamplerSettings(steps=2)


@pytest.fixture(scope="module")
def generator(run_folder: Path) -> Generator:
    """A user's first line."""
    return stainglass.Generator.from_pretrained(run_folder / "generator", device="cpu")


@pytest.fixture
def adata(simulated: Path) -> ad.AnnData:
    """Raw counts and pixel positions, as scanpy holds a Visium section: nothing else."""
    section = stainglass.read_section(
        simulated.parent / "P1" / "outs", slide=simulated.parent / "P1" / "slide.tif"
    )
    with section.slide:
        spots = section.spots[section.spots.obs["used"].to_numpy()]
        plain = ad.AnnData(X=spots.X.copy(), obs=spots.obs[[]].copy(), var=spots.var.copy())
        plain.obsm["spatial"] = np.asarray(spots.obsm["spatial"])
    return plain


@pytest.fixture(scope="module")
def painted(generator: Generator, cohort: Cohort) -> Painted:
    """A few patches of a section of the cohort."""
    return generator.generate_cohort(cohort, ["P1"], n=N, settings=QUICK)


def furthest(a: Painted, b: Painted) -> int:
    """Largest difference in grey levels."""
    return int(np.abs(a.pixels.astype(int) - b.pixels.astype(int)).max())


def test_read_a_section(simulated: Path) -> None:
    folder = simulated.parent / "P1"
    section = stainglass.read_section(folder / "outs", slide=folder / "slide.tif", patient="P1")
    with section.slide:
        assert section.mpp == pytest.approx(SLIDE_MPP, rel=0.01)
        assert section.spots.n_obs > 10
        assert section.patient == "P1"


def test_open_a_cohort_and_look_at_its_windows(cohort: Cohort) -> None:
    opened = stainglass.Cohort.open(cohort.path)
    split = opened.split()
    windows = opened.patches(split.train, size_px=64)
    assert opened.pixels(windows[:3]).shape == (3, 64, 64, 3)
    assert not {opened.patients[s] for s in split.train} & {opened.patients[s] for s in split.test}


def test_paint_an_anndata_with_pixel_positions(generator: Generator, adata: ad.AnnData) -> None:
    painted = generator.generate(adata, n=N, mpp=SLIDE_MPP, seed=1, settings=QUICK)
    assert painted.pixels.shape == (N, 64, 64, 3)
    assert painted.pixels.dtype == np.uint8
    assert {w.spot for w in painted.windows} <= set(adata.obs_names)


def test_paint_an_anndata_with_micrometres(generator: Generator, adata: ad.AnnData) -> None:
    in_um = adata.copy()
    in_um.obsm["spatial_um_yx"] = in_um.obsm.pop("spatial")[:, ::-1] * SLIDE_MPP
    from_um = generator.generate(in_um, n=N, seed=1, settings=QUICK)  # no mpp is needed
    from_px = generator.generate(adata, n=N, mpp=SLIDE_MPP, seed=1, settings=QUICK)
    assert from_um.windows == from_px.windows
    assert furthest(from_um, from_px) <= 2


def test_tell_spots_less_exactly(generator: Generator, adata: ad.AnnData) -> None:
    def paint(thinning: float, batch: int = 16) -> Painted:
        how = stainglass.SamplerSettings(steps=2, guidance=1, thinning=thinning)
        return generator.generate(adata, n=N, mpp=SLIDE_MPP, settings=how, batch=batch)

    full, less = paint(0), paint(0.7)
    assert furthest(full, less) > 0
    assert furthest(less, paint(0.7, batch=2)) <= 2


def test_bring_a_section_to_another_depth(generator: Generator, cohort: Cohort) -> None:
    spots = cohort.sections["P1"].used_spots

    def paint(depth: float | None) -> Painted:
        how = stainglass.SamplerSettings(steps=2, guidance=1, depth=depth)
        return generator.generate(spots, n=N, section="P1", settings=how)

    full, less = paint(None), paint(200)
    assert furthest(full, paint(1e9)) == 0
    assert furthest(full, less) > 0
    how = stainglass.SamplerSettings(steps=2, guidance=1, depth=200)
    assert furthest(less, generator.generate_cohort(cohort, ["P1"], n=N, settings=how)) <= 2


def test_paint_the_spots_of_a_cohort(generator: Generator, cohort: Cohort) -> None:
    spots = cohort.sections["P1"].used_spots
    from_spots = generator.generate(spots, n=N, seed=1, settings=QUICK, section="P1")
    from_cohort = generator.generate_cohort(cohort, ["P1"], n=N, seed=1, settings=QUICK)
    assert from_spots.windows == from_cohort.windows
    assert furthest(from_spots, from_cohort) <= 2


def test_paint_an_anndata_with_symbols(generator: Generator, adata: ad.AnnData) -> None:
    by_id = generator.generate(adata, n=N, mpp=SLIDE_MPP, seed=1, settings=QUICK)
    named = adata.copy()
    named.var_names = named.var["symbol"].astype(str).to_numpy()
    named.var = named.var[[]]
    by_symbol = generator.generate(named, n=N, mpp=SLIDE_MPP, seed=1, settings=QUICK)
    assert furthest(by_id, by_symbol) <= 2


def test_batch_and_number_do_not_change_a_picture(generator: Generator, adata: ad.AnnData) -> None:
    at_once = generator.generate(adata, mpp=SLIDE_MPP, n=N, settings=QUICK, batch=N)
    one_by_one = generator.generate(adata, mpp=SLIDE_MPP, n=N, settings=QUICK, batch=1)
    assert furthest(at_once, one_by_one) <= 2


def test_the_seed_changes_it(generator: Generator, adata: ad.AnnData) -> None:
    one, other = (generator.generate(adata, mpp=SLIDE_MPP, n=2, seed=s, settings=QUICK) for s in (1, 2))
    assert furthest(one, other) > 2


def test_the_users_data_are_not_changed(generator: Generator, adata: ad.AnnData) -> None:
    before = adata.copy()
    generator.generate(adata, mpp=SLIDE_MPP, n=1, settings=QUICK)
    assert (adata.X != before.X).nnz == 0
    assert list(adata.var_names) == list(before.var_names)
    assert set(adata.obsm) == set(before.obsm)


def test_too_few_of_the_models_genes_are_refused(generator: Generator, adata: ad.AnnData) -> None:
    lacking = adata[:, ~adata.var_names.isin(generator.facts.gene_ids[5:])].copy()
    with pytest.raises(stainglass.StainglassError, match="genes the model 'small' reads"):
        generator.generate(lacking, mpp=SLIDE_MPP)


def test_normalised_values_are_refused(generator: Generator, adata: ad.AnnData) -> None:
    adata.X = adata.X / 3
    with pytest.raises(stainglass.StainglassError, match="not raw counts"):
        generator.generate(adata, mpp=SLIDE_MPP)


def test_positions_without_a_scale_are_refused(generator: Generator, adata: ad.AnnData) -> None:
    with pytest.raises(stainglass.StainglassError, match="how many µm a pixel is"):
        generator.generate(adata)


def test_no_positions_are_refused(generator: Generator, adata: ad.AnnData) -> None:
    del adata.obsm["spatial"]
    with pytest.raises(stainglass.StainglassError, match="spatial"):
        generator.generate(adata, mpp=SLIDE_MPP)


def test_a_cohort_of_another_scale_is_refused(generator: Generator, cohort: Cohort) -> None:
    other = Cohort(cohort.path, 0.5, cohort.axis, [s.record for s in cohort.sections.values()])
    with pytest.raises(stainglass.StainglassError, match="µm/px"):
        generator.generate_cohort(other, ["P1"])


def test_a_folder_that_is_no_generator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(stainglass.StainglassError):
        stainglass.Generator.from_pretrained(tmp_path / "nothing")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_saved_pictures_say_what_they_are(painted: Painted, tmp_path: Path, suffix: str) -> None:
    table = painted.save(tmp_path, suffix=suffix)
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == N + 1
    for i, row in enumerate(rows[1:]):
        path = tmp_path / row[rows[0].index("file")]
        stamp = read_stamp(path)
        assert stamp == painted.order.stamp(i)
        assert stamp.synthetic
        assert stamp.model == "small"
        assert stamp.mpp == 1.0
        assert " ".join(stamp.spots) == row[rows[0].index("spots")]


def test_a_painting_that_was_stopped_goes_on(
    generator: Generator, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = generator.order_cohort(cohort, ["P1"], 6, settings=QUICK)
    whole = generator.paint(order)
    old = tmp_path / order.file(5, ".png")
    old.write_bytes(b"of a painting before")
    written: list[Path] = []

    def write(pixels: np.ndarray, stamp: Stamp, path: Path) -> Path:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        return write_picture(pixels, stamp, path)

    monkeypatch.setattr("stainglass.synthesis.generator.write_picture", write)
    with pytest.raises(KeyboardInterrupt):
        generator.paint_into(order, tmp_path, batch=3)
    assert not (tmp_path / "patches.csv").is_file()
    first = written.copy()
    written.clear()
    generator.paint_into(order, tmp_path, batch=3)
    assert {path.name for path in written} == {order.file(i, ".png") for i in (4, 5)}
    for i in range(6):
        kept = np.asarray(Image.open(tmp_path / order.file(i, ".png")))
        assert np.abs(kept.astype(int) - whole.pixels[i]).max() <= 2
    assert len(pd.read_csv(tmp_path / "patches.csv")) == 6
    assert not (tmp_path / ".painting.json").exists()
    written.clear()
    another = generator.order_cohort(cohort, ["P1"], 3, seed=9, settings=QUICK)
    generator.paint_into(another, tmp_path)  # finished, so it is painted anew
    assert len(written) == 3
    assert len(first) == 4


def test_a_png_has_its_resolution_and_sentence(painted: Painted, tmp_path: Path) -> None:
    painted.save(tmp_path)
    with Image.open(next(tmp_path.glob("*.png"))) as image:
        assert image.info["dpi"][0] == pytest.approx(25_400, rel=1e-3)  # 1 µm/px
        assert image.info["Description"] == SENTENCE
        assert np.array_equal(np.asarray(image), painted.pixels[_index(painted, image.filename)])


def test_a_tiff_has_its_resolution_and_sentence(painted: Painted, tmp_path: Path) -> None:
    painted.save(tmp_path, suffix=".tif")
    path = next(tmp_path.glob("*.tif"))
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator == pytest.approx(10_000, rel=1e-3)  # px a cm
        assert tags["ResolutionUnit"].value == 3
        assert SENTENCE in tags["ImageDescription"].value
        assert np.array_equal(tiff.asarray(), painted.pixels[_index(painted, str(path))])


def _index(painted: Painted, name: str) -> int:
    spot = Path(name).stem.partition("_")[2]
    return [w.spot for w in painted.windows].index(spot)


def test_a_picture_without_a_stamp_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "plain.png")
    with pytest.raises(stainglass.StainglassError, match="no stamp"):
        read_stamp(tmp_path / "plain.png")


@pytest.mark.parametrize(
    "line", ["import stainglass", "import stainglass.config", "import stainglass.sections"]
)
def test_importing_is_light(line: str) -> None:
    heavy = ("torch", "anndata", "zarr", "diffusers", "skimage")
    code = f"import sys; {line}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in stainglass.__all__:
        assert getattr(stainglass, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = stainglass.Nonsense


def test_the_page_on_recipes_is_up_to_date() -> None:
    script = Path(__file__).parents[1] / "docs" / "make_recipes.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
