import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import LocalCluster

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.crew import Crew, crew_of
from stainglass.cohort.prepare_many import prepare_many
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.sections import read_sections
from stainglass.sections.read import SectionSource
from verbs import bad, call

COARSE = Prepare(mpp=2.0)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with two worker threads, in this process."""
    with (
        dask.config.set({"distributed.worker.memory.target": False}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(params=["here", "dask"])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """Both ways of working."""
    address = request.getfixturevalue("scheduler") if request.param == "dask" else None
    with crew_of(1, address) as found:
        yield found


def broken(source: SectionSource, error: Exception, times: int = 99) -> SectionSource:
    """A section that cannot be read the first few times."""
    left = [times]

    def read() -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return source.reader()

    return replace(source, reader=read)


def test_both_ways_give_the_same_cohort(simulated: Path, tmp_path: Path, crew: Crew) -> None:
    sources = read_sections(simulated)[:2]
    one, outcomes = prepare_many(sources, tmp_path / "many", COARSE, crew)
    assert one is not None
    assert [o.state for o in outcomes] == ["prepared"] * 2
    other, _ = prepare_many(sources, tmp_path / "plain", COARSE)
    assert other is not None
    assert list(one.sections) == list(other.sections)
    assert one.axis == other.axis
    for name in one.sections:
        assert one.sections[name].record == other.sections[name].record
        np.testing.assert_array_equal(one.sections[name].raster[:], other.sections[name].raster[:])


def test_a_failing_section_is_skipped_and_only_it_is_done_again(
    simulated: Path, tmp_path: Path, crew: Crew
) -> None:
    good = read_sections(simulated)
    error = StainglassError("slide.tif", "is torn", "Scan it again")
    sources = [good[0], broken(good[1], error), good[2]]
    cohort, outcomes = prepare_many(sources, tmp_path, COARSE, crew)
    assert cohort is not None
    assert list(cohort.sections) == ["P1", "P3"]
    assert [o.state for o in outcomes] == ["prepared", "failed", "prepared"]
    assert str(outcomes[1].error) == str(error)
    assert outcomes[1].attempts == 2
    before = (tmp_path / "sections" / "P1.zarr" / "record.json").stat().st_mtime_ns
    cohort, outcomes = prepare_many(good, tmp_path, COARSE, crew)
    assert cohort is not None
    assert list(cohort.sections) == ["P1", "P2", "P3"]
    assert [o.state for o in outcomes] == ["kept", "prepared", "kept"]
    assert (tmp_path / "sections" / "P1.zarr" / "record.json").stat().st_mtime_ns == before


def test_what_failed_once_is_tried_again(simulated: Path, tmp_path: Path) -> None:
    source = read_sections(simulated)[0]
    shaky = OSError("stale file handle")
    cohort, outcomes = prepare_many([broken(source, shaky, 1)], tmp_path / "a", COARSE, retries=1)
    assert cohort is not None
    assert outcomes[0].state == "prepared"
    cohort, outcomes = prepare_many([broken(source, shaky, 1)], tmp_path / "b", COARSE, retries=0)
    assert cohort is None
    assert "OSError: stale file handle" in str(outcomes[0].error)


def test_where_nothing_can_be_used_no_cohort_is_left(simulated: Path, tmp_path: Path) -> None:
    cohort, outcomes = prepare_many(read_sections(simulated), tmp_path, Prepare(mpp=0.25))
    assert cohort is None
    assert all("would need upsampling" in str(o.error) for o in outcomes)
    assert not (tmp_path / "cohort.json").exists()
    assert prepare_many(read_sections(simulated)[:1], tmp_path, COARSE)[0] is not None


@pytest.mark.slow
def test_a_dying_worker_costs_its_section_alone(simulated: Path, tmp_path: Path) -> None:
    good = read_sections(simulated)
    deadly = replace(good[1], reader=lambda: os._exit(1))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        crew_of(2) as crew,
    ):
        cohort, outcomes = prepare_many([good[0], deadly], tmp_path, COARSE, crew)
    assert cohort is not None
    assert list(cohort.sections) == ["P1"]
    assert "worker was lost (KilledWorker)" in str(outcomes[1].error)


def test_the_axis_of_a_cohort_is_read_without_its_counts(cohort: Cohort) -> None:
    section = Cohort.open(cohort.path).sections["P1"]
    assert section.genes.ids == tuple(cohort.sections["P1"].spots.var_names)
    assert "spots" not in vars(section)


@pytest.fixture
def torn(simulated: Path, tmp_path: Path) -> Path:
    """A manifest whose second section's slide is cut short."""
    folder = tmp_path / "torn"
    shutil.copytree(simulated.parent, folder)
    slide = next((folder / "P2").rglob("slide.tif"))
    slide.write_bytes(slide.read_bytes()[:5000])
    return folder / "manifest.csv"


def test_the_verb_tells_what_became_of_every_section(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, torn: Path, tmp_path: Path, scheduler: str
) -> None:
    words = ("prepare", torn, "--out", tmp_path / "c", "--mpp", "2.0", "--dask", scheduler)
    line = bad(monkeypatch, capsys, *words)
    assert "1 of 3 sections failed, P2 for one:" in line
    assert "slide.tif" in line
    code, out, err = call(monkeypatch, capsys, *words, "--skip-failed")
    assert code == 0, err
    assert "3 sections: 0 prepared, 2 kept, 1 failed" in err
    assert "P2 failed (tried 2 times)" in err
    assert Path(out.splitlines()[-1]) == tmp_path / "c"
    assert set(Cohort.open(tmp_path / "c").split().train) < {"P1", "P3"}


def test_no_scheduler_and_no_dask_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, simulated: Path, tmp_path: Path
) -> None:
    words: Callable[..., tuple[object, ...]] = lambda *more: ("prepare", simulated, "--out", tmp_path, *more)  # noqa: E731
    monkeypatch.setattr("stainglass.cohort.crew.CONNECT_SECONDS", 0.2)
    assert "no Dask scheduler answers" in bad(monkeypatch, capsys, *words("--dask", "tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'stainglass[dask]'" in bad(monkeypatch, capsys, *words("--workers", "2"))
