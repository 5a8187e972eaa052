import hashlib

import numpy as np
import pandas as pd
import pytest
import tifffile

from stainglass.errors import StainglassError
from stainglass.genes.markers import marker_ids
from stainglass.sections import read_sections, simulate_cohort
from stainglass.sections.simulate.expression import expression_of
from stainglass.sections.simulate.tissues import TISSUES
from stainglass.sections.simulate.truth import load_truth


@pytest.fixture(scope="module", params=["skin", "colon"])
def simulated(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    manifest = simulate_cohort(out, request.param, patients=2, size_um=900, mpp=0.75, seed=7)
    sources = read_sections(manifest)
    return request.param, out, [(source.read(), load_truth(out / source.id / "truth")) for source in sources]


def digest(folder):
    """Hash of every file's content but the HDF5 container's, which is compared by value below."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix not in (".h5", ".npz")
    }


def test_the_ordinary_reader_finds_no_fault(simulated):
    tissue, _, sections = simulated
    for section, _ in sections:
        assert section.mpp == pytest.approx(0.75, rel=0.002)
        assert section.slide.mpp_claim == pytest.approx(0.75)
        assert section.slide.backend == "openslide"
        assert len(section.slide.levels) > 1
        assert section.notices == ()
        assert section.genes_unmapped == ()
        assert section.groups == {"tissue": tissue}
        assert section.spots.n_vars > 700
        depth = np.asarray(section.spots[section.spots.obs["used"].to_numpy()].X.sum(axis=1)).ravel()
        assert 1500 < depth.mean() < 15000
        assert depth.std() / depth.mean() > 0.2
    assert sections[0][0].patient != sections[1][0].patient


def test_the_same_seed_gives_the_same_cohort(simulated, tmp_path):
    tissue, out, sections = simulated
    again = simulate_cohort(tmp_path, tissue, patients=1, size_um=900, mpp=0.75, seed=7)
    other = simulate_cohort(tmp_path / "other", tissue, patients=1, size_um=900, mpp=0.75, seed=8)
    assert digest(tmp_path / "P1") == digest(out / "P1")
    section = read_sections(again)[0].read()
    assert (section.spots.X != sections[0][0].spots.X).nnz == 0
    assert digest(other.parent / "P1")["slide.tif"] != digest(out / "P1")["slide.tif"]


def test_truth_of_spots_is_what_is_written(simulated):
    _, out, sections = simulated
    for section, truth in sections:
        table = pd.read_csv(out / section.id / "truth/cell_types.csv", index_col="barcode")
        assert list(table.index) == list(section.spots.obs_names)
        again = truth.at(section.spots_um_yx, 55.0)
        # The reader's µm come from the fitted lattice, so a spot may fall into the next cell of the map.
        away = np.abs(table[list(truth.classes)].to_numpy() - again[list(truth.classes)].to_numpy())
        assert away.max() < 0.12
        assert away.mean() < 0.01
        total = table.loc[section.spots.obs["used"].to_numpy(), list(truth.classes)].sum(axis=1)
        assert total.between(0.5, 1.01).all()


def test_counts_follow_the_truth(simulated):
    tissue, _, sections = simulated
    for section, truth in sections:
        used = section.spots[section.spots.obs["used"].to_numpy()]
        shares = truth.at(section.spots_um_yx, 55.0)[section.spots.obs["used"].to_numpy()]
        depth = np.asarray(used.X.sum(axis=1)).ravel()
        for one in TISSUES[tissue]:
            if shares[one.name].max() < 0.4:
                continue
            programme = max(one.programmes, key=one.programmes.get)
            genes = [gene for gene in marker_ids(programme) if gene in used.var_names]
            score = np.asarray(used[:, genes].X.sum(axis=1)).ravel() / depth
            assert np.corrcoef(score, shares[one.name])[0, 1] > 0.7, one.name
        if tissue == "colon":
            genes = list(marker_ids("hypoxia"))
            score = np.asarray(used[:, genes].X.sum(axis=1)).ravel() / depth
            assert np.corrcoef(score, shares["hypoxia"])[0, 1] > 0.7


def test_the_picture_follows_the_truth(simulated):
    """Where the truth has many nuclei the slide is dark and blue; where it has none it is not."""
    _, _, sections = simulated
    for section, truth in sections:
        grid = np.stack(np.meshgrid(*[np.arange(60, 840, 40.0)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
        at = truth.at(grid, 40.0)
        on = at[list(truth.classes)].sum(axis=1) > 0.98
        corner = ((grid - 20) / section.slide_mpp).round().astype(int)
        side = round(40 / section.slide_mpp)
        red = np.array(
            [255 - section.slide.read(y, x, side, side)[:, :, 0].mean() for y, x in corner[on.to_numpy()]]
        )
        assert np.corrcoef(red, at.loc[on, "nuclei"])[0, 1] > 0.65
        expected = truth.density_per_mm2(at.loc[on])
        assert np.corrcoef(expected, at.loc[on, "nuclei"])[0, 1] > 0.65


def test_classes_differ_in_colour_and_in_density(simulated):
    tissue, out, sections = simulated
    for section, truth in sections:
        table = pd.read_csv(out / section.id / "truth/classes.csv", index_col="class")
        assert list(table.index) == list(truth.classes)
        fibrous = {"skin": "dermis", "colon": "muscle"}[tissue]
        assert table.loc["immune", "red"] < table.loc[fibrous, "red"] - 15
        share = dict(zip(truth.classes, truth.shares.mean(axis=(1, 2)) * 0.81, strict=True))
        number = truth.nuclei["type"].value_counts()
        for name, wanted in (("immune", 10500), (fibrous, {"skin": 850, "colon": 2100}[tissue])):
            assert number[name] / share[name] == pytest.approx(wanted, rel=0.3)


def test_every_class_is_there_and_patients_differ(simulated):
    _, _, sections = simulated
    (first, truth), (second, other) = sections
    for one in (truth, other):
        assert (one.shares.max(axis=(1, 2)) > 0.8).all()
        assert (one.shares.sum(axis=0) < 1.01).all()
    assert np.abs(truth.shares - other.shares).mean() > 0.02
    white = (first.slide.thumbnail(200) > 235).all(axis=-1).mean()
    assert 0.01 < white < 0.6
    assert (
        np.abs(
            first.slide.thumbnail(100).mean(axis=(0, 1)) - second.slide.thumbnail(100).mean(axis=(0, 1))
        ).max()
        > 2
    )


def test_no_two_nuclei_in_one_place(simulated):
    from scipy.spatial import cKDTree

    for _, truth in simulated[2]:
        nearest = cKDTree(truth.nuclei[["y_um", "x_um"]]).query(truth.nuclei[["y_um", "x_um"]], k=2)[0][:, 1]
        assert np.median(nearest) > 5
        assert (nearest < 2).mean() < 0.03


def test_expression_of_any_programme():
    expression = expression_of("colon")
    assert np.allclose(expression.profile.sum(axis=1), 1)
    assert len(expression.ids) == len(set(expression.ids))
    pure = pd.DataFrame(np.eye(len(expression.classes)), columns=list(expression.classes))
    expected = expression.expected(pure)
    assert np.allclose(expected.sum(axis=1), 1)
    muscle = list(expression.classes).index("muscle")
    assert expected[list(marker_ids("smooth_muscle"))].sum(axis=1).idxmax() == muscle
    lack = expression.expected(pure, 1.0)[list(marker_ids("hypoxia"))].sum(axis=1)
    assert (lack > expected[list(marker_ids("hypoxia"))].sum(axis=1) + 0.08).all()
    assert expression.expected(pure * 0).to_numpy().sum() == 0


def test_any_size_is_taken_to_whole_cells_of_the_truth(tmp_path):
    simulate_cohort(tmp_path, "skin", patients=1, size_um=350, mpp=2, seed=0)
    truth = load_truth(tmp_path / "P1" / "truth")
    with tifffile.TiffFile(tmp_path / "P1" / "slide.tif") as file:
        assert file.pages[0].shape[0] * 2 == truth.hypoxia.shape[0] * truth.grid_um == 352


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"mpp": 0}, "0 µm/px"),
        ({"tissue": "brain"}, "no tissue 'brain'"),
        ({"patients": 0}, "cannot simulate 0"),
        ({"size_um": 50}, "of 50 µm"),
    ],
)
def test_what_cannot_be_simulated(tmp_path, change, finding):
    with pytest.raises(StainglassError, match=finding):
        simulate_cohort(tmp_path, **({"tissue": "skin", "patients": 1, "size_um": 600} | change))


def test_no_truth(tmp_path):
    with pytest.raises(StainglassError, match="no truth of a simulated section"):
        load_truth(tmp_path)
