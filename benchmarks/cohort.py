"""A cohort of many patients with slides of real size: time and memory a slide, which must not grow.

    python -m benchmarks.cohort [--patients 41] [--workers 2] [--out cohort.json]

One section of 13,000 × 13,000 px at 0.5 µm/px with 4,032 spots and 18,085 genes is made on the spot (simulated colon,
laid side by side; counts of the depth of a Visium FFPE section), and hard-linked as that many patients. They are prepared
at 0.5 µm/px, none skipped, in one process, or with ``--workers`` by Dask. As soon as a section is measured its image
is deleted again, unless ``--keep``: 41 of them would take some 20 GB. Eight patients by default.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from benchmarks.common import arguments, emit, target
from stainglass.cohort.crew import Crew, Done, crew_of
from stainglass.config import Prepare
from stainglass.genes.table import symbol_of_id
from stainglass.sections import open_slide, read_sections, simulate_cohort
from stainglass.sections.simulate.write import write_pyramid, write_spaceranger

SIDE_PX, MPP, LAID = 13_000, 0.5, 4
ARRAY_ROWS, ARRAY_COLUMNS, PITCH_UM, GENES, UMIS = 63, 64, 100.0, 18_085, 12_000
WARM = 2
"""First and last slides whose memory is compared."""


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Make the slide, measure in a fresh process, tell."""
    parser = arguments(__doc__)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the images of the cohort")
    parser.add_argument(
        "--work", type=Path, help="folder to work in, left as it is; by default a temporary one"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return child(options.work, options.workers, options.keep)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        made = make_section(work / "one", options.seed)
        link(work, options.patients)
        command = [sys.executable, "-m", "benchmarks.cohort", "--child", "--work", str(work)]
        command += ["--workers", str(options.workers), *(["--keep"] if options.keep else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    return emit("cohort", {**made, **measured, **growth(measured)}, options.out)


def growth(measured: dict[str, Any]) -> dict[str, Any]:
    """Memory and time of the last slides over those after the first few."""
    peak, seconds = measured["peak_gb_each"], measured["cpu_seconds_each"] or measured["seconds_each"]
    if len(seconds) < 2 * WARM:
        return {}
    early, late = np.median(seconds[: len(seconds) // 2]), np.median(seconds[len(seconds) // 2 :])
    found = {"time_growth": target(float(late / early), 1.2, at_least=False)}
    if peak:  # of Dask's workers nobody knows the peak
        # The first few are prepared while sections of the first look are still held.
        found["memory_growth"] = target(max(peak[-WARM:]) / max(peak[:WARM]), 1.1, at_least=False)
    return found


def make_section(folder: Path, seed: int) -> dict[str, object]:
    """Write the section, unless it is there; facts about it."""
    slide = folder / "slide.tif"
    if not slide.is_file():
        rng = np.random.default_rng(seed)
        simulate_cohort(folder / "tile", "colon", 1, size_um=SIDE_PX / LAID * MPP, mpp=MPP, seed=seed)
        with open_slide(folder / "tile" / "P1" / "slide.tif") as small:
            tile = small.read(0, 0, *small.size_px_yx)
        image = np.tile(tile, (LAID, LAID, 1))[:SIDE_PX, :SIDE_PX]
        positions = spots()
        names = list(symbol_of_id().items())[:GENES]
        ids, symbols = zip(*names)
        write_spaceranger(folder / "outs", image, MPP, positions, counts(len(positions), rng), ids, symbols)
        write_pyramid(image, MPP, slide)
    return {
        "slide_px": [SIDE_PX, SIDE_PX],
        "slide_mb": round(slide.stat().st_size / 1e6),
        "spots": len(spots()),
        "genes": GENES,
    }


def spots() -> pd.DataFrame:
    """A Visium lattice over the whole slide, in Space Ranger's columns."""
    row, column = (
        g.ravel() for g in np.meshgrid(np.arange(ARRAY_ROWS), np.arange(2 * ARRAY_COLUMNS), indexing="ij")
    )
    on = (row + column) % 2 == 0
    row, column = row[on], column[on]
    y, x = 30 + row * PITCH_UM * np.sqrt(3) / 2, 30 + column * PITCH_UM / 2
    inside = (y < SIDE_PX * MPP - 30) & (x < SIDE_PX * MPP - 30)
    return pd.DataFrame(
        {
            "barcode": [f"{i:016d}-1" for i in range(int(inside.sum()))],
            "in_tissue": 1,
            "array_row": row[inside],
            "array_col": column[inside],
            "pxl_row_in_fullres": np.rint(y[inside] / MPP).astype(int),
            "pxl_col_in_fullres": np.rint(x[inside] / MPP).astype(int),
        }
    )


def counts(number: int, rng: np.random.Generator) -> csr_matrix:
    """Poisson counts of genes whose means are log-normal, as many zeros as a real section has."""
    share = rng.lognormal(0.0, 2.0, GENES)
    mean = share / share.sum() * UMIS
    return csr_matrix(vstack([csr_matrix(rng.poisson(mean).astype(np.float32)) for _ in range(number)]))


def link(work: Path, patients: int) -> None:
    """The same files again and again, as patients P1, P2, …"""
    shutil.rmtree(work / "cohort", ignore_errors=True)
    lines = ["id,patient,path,slide,site"]
    for i in range(1, patients + 1):
        for file in [p for part in ("outs", "slide.tif") for p in walk(work / "one" / part)]:
            place = work / "patients" / f"P{i}" / file.relative_to(work / "one")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.link(file, place)
        lines.append(f"P{i},P{i},patients/P{i}/outs,patients/P{i}/slide.tif,site{i % 3}")
    (work / "manifest.csv").write_text("\n".join(lines) + "\n")


def walk(path: Path) -> list[Path]:
    """The file, or the files below a folder."""
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]


class Measured(Crew):
    """A crew that is watched: time and peak memory of each section, whose image is then deleted."""

    def __init__(self, crew: Crew, out: Path, keep: bool) -> None:
        self.crew, self.here, self.out, self.keep = crew, crew.here, out, keep
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.peaks: list[float] = []

    def each(
        self, work: Callable[[Any], Any], items: Sequence[Any], where: Sequence[str], retries: int
    ) -> Iterator[Done[Any]]:
        """As the crew does."""
        worked = time.process_time()
        for done in self.crew.each(work, items, where, retries):
            section = self.out / "sections" / f"{where[done.at]}.zarr"
            if section.is_dir():
                self.seconds.append(round(done.seconds, 2))
                self.cpu.append(round(time.process_time() - worked, 2))
                self.peaks.append(round(peak_gb(), 3))
                if not self.keep:
                    shutil.rmtree(section / "he" / "0" / "c")
            worked = time.process_time()
            yield done


def peak_gb() -> float:
    """Largest resident memory since the last call where Linux lets it be reset; elsewhere, so far."""
    status = Path("/proc/self/status")
    try:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")
        return int(line.split()[1]) * 1024 / 1e9
    except (OSError, StopIteration):
        # Linux gives KiB, macOS bytes.
        return (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e9
        )


def child(work: Path, workers: int, keep: bool) -> dict[str, object]:
    """What the fresh process does."""
    from stainglass.cohort.prepare_many import prepare_many

    sources = read_sections(work / "manifest.csv")
    began = time.perf_counter()
    with crew_of(workers) as crew:
        watched = Measured(crew, work / "cohort", keep)
        cohort, outcomes = prepare_many(sources, work / "cohort", Prepare(mpp=MPP), watched)
    assert cohort is not None
    assert all(one.state == "prepared" for one in outcomes)
    seconds = time.perf_counter() - began
    record: dict[str, object] = {
        "patients": len(sources),
        "workers": workers,
        "seconds": round(seconds, 1),
        "seconds_a_slide": round(float(np.median(watched.seconds)), 2),
        "cpu_seconds_a_slide": round(float(np.median(watched.cpu)), 2) if workers == 1 else None,
        "seconds_of_the_rest": round(seconds - sum(watched.seconds), 1) if workers == 1 else None,
        "peak_gb": max(watched.peaks) if workers == 1 else None,
        "peak_gb_of_indexing": round(peak_gb(), 3) if workers == 1 else None,
        "seconds_each": watched.seconds,
        "cpu_seconds_each": watched.cpu if workers == 1 else [],
        "peak_gb_each": watched.peaks if workers == 1 else [],
        "cohort_json_mb": round((work / "cohort" / "cohort.json").stat().st_size / 1e6, 2),
        "images_kept": keep,
    }
    print(json.dumps(record), flush=True)
    return record


if __name__ == "__main__":
    main(sys.argv[1:])
