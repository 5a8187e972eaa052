"""`stainglass doctor`: what was found of a section is said in the units a manifest takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stainglass.cli.doctor import _section_row, _target
from stainglass.cohort.cohort import Cohort
from stainglass.sections import read_sections, simulate_cohort


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_cohort(tmp_path_factory.mktemp("sections"), "skin", 2, size_um=500.0, mpp=0.5, seed=1)


def test_the_scale_is_that_of_full_resolution_px(manifest: Path) -> None:
    """A smaller image that stands in for the slide has another scale, which is no answer to a manifest's `mpp`."""
    (source,) = read_sections(manifest.parent / "P1" / "outs")
    smaller = replace(source, reader=lambda: replace(source.reader(), slide_scale=0.25))
    name, found, todo = _section_row(smaller)
    assert name == "section P1"
    assert re.search(r"0\.500\d* µm a full-resolution px by the spot lattice", found)
    assert re.search(r"the image that was found has 2(\.00\d*)?\)", found)
    assert todo == ""


def test_every_row_of_a_manifest_is_looked_at(manifest: Path) -> None:
    table = pd.read_csv(manifest).astype({"patient": str})
    table["mpp"] = [0.5, 0.5]
    table.loc[1, "path"] = "P1/truth"
    other = manifest.parent / "other.csv"
    table.to_csv(other, index=False)
    first, second = _target(other)
    assert "patient P1" in first[1]
    assert first[2] == ""
    assert second[0] == "section P2"
    assert "no section found" in second[1]
    assert second[2]


def test_a_cohort_tells_the_scale_of_its_images(cohort: Cohort) -> None:
    rows = _target(cohort.path)
    found = [told for name, told, _ in rows if name.startswith("section")]
    assert len(found) == 3
    assert all(re.search(r"image of 0\.(49|5)\d* µm/px by", told) for told in found)
