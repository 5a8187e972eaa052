"""Fixtures: the L in every format."""

import numpy as np
import pandas as pd
import pytest
from l_shape_files import HEIGHT, MARKER, WIDTH, LShape, in_l, write_matrix, write_slide, write_spatial
from PIL import Image
from scipy.sparse import csr_matrix


@pytest.fixture(scope="session")
def l_shape():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), (230, 200, 220), dtype=np.uint8)
    image[in_l(y, x)] = (90, 40, 110)
    rows, columns = np.arange(10), np.arange(22)
    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    kept = (row + column) % 2 == 0
    row, column = row[kept], column[kept]
    spot_y, spot_x = np.rint(50 + row * 50 * np.sqrt(3)).astype(int), 50 + column * 50
    marker = np.where(in_l(spot_y, spot_x), 50, 0)
    counts = np.stack([np.full(len(row), 5), np.arange(len(row)) % 3, marker], axis=1)
    letters = np.random.default_rng(0).choice(list("ACGT"), (len(row), 16))
    positions = pd.DataFrame(
        {
            "barcode": ["".join(word) + "-1" for word in letters],
            "in_tissue": 1,
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": spot_y,
            "pxl_col_in_fullres": spot_x,
        }
    )
    return LShape(image, positions, csr_matrix(counts.astype(np.int32)))


@pytest.fixture
def assert_upright(l_shape):
    """The check: round every spot the slide is dark exactly when the spot has the marker."""

    def check(section, colour_tolerance=40):
        used = section.spots[section.spots.obs["used"].to_numpy()]
        assert len(used) == len(l_shape.positions)
        has = np.asarray(used[:, MARKER].X.todense()).ravel() > 0
        checked = 0
        for (x, y), marked in zip(used.obsm["spatial"], has, strict=True):
            if in_l(y - 16, x - 16) != in_l(y + 16, x + 16) or in_l(y - 16, x + 16) != in_l(y + 16, x - 16):
                continue  # on the edge
            s = section.slide_scale
            patch = section.slide.read(round(y * s) - 2, round(x * s) - 2, 5, 5)
            expected = (90, 40, 110) if marked else (230, 200, 220)
            assert np.abs(patch.reshape(-1, 3).mean(axis=0) - expected).max() < colour_tolerance, (
                x,
                y,
                marked,
            )
            checked += 1
        assert checked > 60
        assert 10 < has.sum() < 60

    return check


@pytest.fixture
def spaceranger(l_shape, tmp_path):
    """A function that writes a Space Ranger folder and returns it."""

    def make(matrix="h5", positions="list", images=("hires", "lowres"), **extra):
        outs = tmp_path / "sample" / "outs"
        outs.mkdir(parents=True)
        write_matrix(l_shape, outs, matrix, **extra)
        write_spatial(l_shape, outs, positions, images)
        return tmp_path / "sample"

    return make


@pytest.fixture
def slide_file(l_shape, tmp_path):
    return lambda flavour: write_slide(l_shape.image, tmp_path, flavour)


@pytest.fixture
def st_folder(l_shape, tmp_path):
    """The same L as an ST array: a square lattice 200 µm apart at 0.5 µm per px would be 400 px; here
    2 µm/px.
    """

    def make(section="Q1"):
        folder = tmp_path / "st"
        for name in ("counts", "spots", "images", "celltypes"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        x, y = (grid.ravel() for grid in np.meshgrid(np.arange(1, 11), np.arange(1, 9)))
        px, py = x * 100.0 + 10, y * 100.0 + 10
        names = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
        marker = np.where(in_l(py, px), 50, 0)
        table = pd.DataFrame({"TP53": 5, "KRT5": marker}, index=names).sample(frac=1, random_state=0)
        table.to_csv(folder / "counts" / f"{section}.tsv.gz", sep="\t")
        spots = {"x": x, "y": y, "new_x": x, "new_y": y, "pixel_x": px, "pixel_y": py, "selected": 1}
        pd.DataFrame(spots).to_csv(folder / "spots" / f"{section}.tsv", sep="\t", index=False)
        types = pd.DataFrame({"Epithelial": 0.75, "T-cells": 0.25}, index=names)
        types.iloc[5:].to_csv(folder / "celltypes" / f"{section}.tsv", sep="\t")
        Image.fromarray(l_shape.image).save(folder / "images" / f"{section}.jpg", quality=92)
        return folder

    return make
