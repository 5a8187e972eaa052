"""Counts without pictures beside a cohort's sections."""

import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.expression import add_expression, kept_expression, learnable
from stainglass.cohort.splits import Split
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis


@pytest.fixture
def counted(cohort: Cohort, tmp_path: Path) -> Path:
    """A cohort's folder with two sections of counts alone."""
    source, folder = tmp_path / "source", tmp_path / "cohort"
    source.mkdir()
    shutil.copytree(cohort.path, folder, ignore=shutil.ignore_patterns("latent"))
    for name, patient in (("more-1", "new"), ("more-2", next(iter(cohort.patients.values())))):
        spots = anndata.AnnData(
            np.array([[1, 2], [3, 0]], np.float32), var=pd.DataFrame(index=["CD3E", "KRT5"])
        )
        spots.obs["patient"] = patient
        spots.write_h5ad(source / f"{name}.h5ad")
    add_expression(source, folder)
    return folder


def test_counts_are_kept_and_put_on_any_axis(counted: Path) -> None:
    found = kept_expression(counted)
    assert [one.id for one in found] == ["more-1", "more-2"]
    assert found[0].patient == "new"
    axis = GeneAxis(("ENSG00000186081", "ENSG00000000003"), ("KRT5", "TSPAN6"))
    counts, measured = found[0].counts_on(axis)
    np.testing.assert_array_equal(counts, [[2, 0], [0, 0]])
    np.testing.assert_array_equal(measured, [True, False])


def test_the_cohort_itself_is_as_it_was(counted: Path, cohort: Cohort) -> None:
    again = Cohort.open(counted)
    assert again.patients == cohort.patients
    assert again.axis == cohort.axis


def test_what_is_there_is_not_written_again(counted: Path, tmp_path: Path) -> None:
    path = counted / "expression" / "more-1.h5ad"
    before = path.stat().st_mtime_ns
    add_expression(tmp_path / "source", counted)
    assert path.stat().st_mtime_ns == before


def test_nothing_of_a_patient_who_does_not_train_is_learnt_from(counted: Path) -> None:
    found = kept_expression(counted)
    patients = {"train": "new", "test": found[1].patient, "other": "new"}
    apart = Split("apart", ("train",), (), ("test",))
    assert [one.id for one in learnable(found, apart, patients)] == ["more-1"]
    # In no part of this split, but it may be judged another time.
    idle = Split("idle", ("train",), (), ("other",))
    assert [one.id for one in learnable(found, idle, patients)] == ["more-1"]
    # Of a patient who also trains only the held-out section itself is hidden.
    shared = Split("shared", ("train",), ("more-1",), ())
    assert not learnable(found[:1], shared, {**patients, "more-1": "new"})
    # A section that is divided into blocks is both of them.
    blocks = {"more-1.train": "new", "more-1.test": "new"}
    assert not learnable(found[:1], Split("blocks", ("more-1.train",), (), ("more-1.test",)), blocks)


def test_other_counts_under_a_known_name_are_refused(counted: Path, tmp_path: Path) -> None:
    spots = anndata.AnnData(np.array([[9, 9]], np.float32), var=pd.DataFrame(index=["CD3E", "KRT5"]))
    spots.obs["patient"] = "new"
    spots.write_h5ad(tmp_path / "source" / "more-1.h5ad")
    with pytest.raises(StainglassError, match="holds other counts than"):
        add_expression(tmp_path / "source", counted)


def test_a_section_with_a_picture_is_refused(counted: Path, tmp_path: Path) -> None:
    name = next(iter(Cohort.open(counted).sections))
    shutil.copy(tmp_path / "source" / "more-1.h5ad", tmp_path / "source" / f"{name}.h5ad")
    with pytest.raises(StainglassError, match=f"{name} is a section of this cohort"):
        add_expression(tmp_path / "source", counted)


def test_a_foreign_file_is_refused(counted: Path) -> None:
    (counted / "expression" / "more-1.h5ad").write_bytes(b"nothing")
    with pytest.raises(StainglassError, match="not counts that a cohort keeps"):
        kept_expression(counted)
