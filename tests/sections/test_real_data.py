"""Real folders, where they lie beside the project; they are not part of it."""

from pathlib import Path

import numpy as np
import pytest

from stainglass.sections import read_section, read_sections

SHARED = Path(__file__).parents[2].parent / "shared"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder ../shared with real sections is not here"
)


def test_her2st():
    folder = SHARED / "data/her2st"
    assert [source.id for source in read_sections(folder)] == ["B4", "C2", "C3", "C4", "C5"]
    section = read_section(folder, section="C5")
    # 6.4 × 6.8 mm of array on 9,272 × 9,901 px. The nearest neighbour would say 0.73: spots lie off the
    # lattice
    # by some 15 µm, and the smallest of several distances is short.
    assert section.mpp == pytest.approx(0.688, abs=0.006)
    assert section.patient == "C"
    assert section.spots.n_obs == 183
    assert section.spots.obs["why_dropped"].value_counts().to_dict() == {"": 181, "no counts": 2}
    assert len(section.genes_unmapped) < 0.012 * section.spots.n_vars
    assert section.spots.obsm["cell_types"].shape[1] == 8
    thumbnail = section.slide.thumbnail(500)
    on = [
        thumbnail[int(y / 9901 * 500), int(x / 9901 * 500)].mean() for x, y in section.spots.obsm["spatial"]
    ]
    assert np.mean(on) < thumbnail.mean() - 20


def test_visium_tiny():
    section = read_section(SHARED / "data/visium_tiny")
    assert section.mpp == pytest.approx(0.725, abs=0.003)
    assert section.slide_mpp == pytest.approx(4.83, abs=0.03)
    assert section.spots.shape == (100, 100)
    assert section.slide.size_px_yx == (2000, 2000)


def test_visium_tiny_spatialexperiment():
    for name, spots in (("section1", 50), ("section2", 49)):
        section = read_section(SHARED / "data/visium_tiny_spatialexperiment" / name)
        assert section.mpp == pytest.approx(0.725, abs=0.003)
        assert section.spots.n_obs == spots
        assert section.spots.obs["used"].sum() == 22
        assert "lowres" in section.notices[0]


def test_visium_mouse_muscle():
    section = read_section(SHARED / "data/visium_mouse_muscle")
    assert "aligned fiducials" in section.notices[0]
    assert section.mpp == pytest.approx(0.36, abs=0.002)
    assert section.spots.n_obs == 4992
    assert section.spots.obs["used"].sum() == 982
    assert all(gene.startswith("ENSMUSG") for gene in section.spots.var_names)
    used = section.spots_um_yx[section.spots.obs["used"].to_numpy()]
    thumbnail = section.slide.thumbnail(400)
    scale = thumbnail.shape[0] / (section.slide.size_px_yx[0] * section.slide_mpp)
    on = np.array([thumbnail[int(y * scale), int(x * scale)].mean() for y, x in used])
    assert on.mean() < thumbnail.mean()
