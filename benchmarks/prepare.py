"""Preparing a cohort: wall time and peak memory for one, two, … all sections.

    python -m benchmarks.prepare [--data FOLDER_OR_MANIFEST] [--out prepare.json]

Each count runs in a fresh process, whose peak resident memory is the operating system's own figure. Memory
must not grow with the number of sections: a section is written before the next one is opened. Without
``--data`` a cohort is simulated. The targets of time and memory are those for five sections of 92 Mpx.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import arguments, emit, target
from stainglass.sections import read_sections, simulate_cohort

TARGET_SECONDS, TARGET_GB, OF_SECTIONS = 90.0, 3.0, 5


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure every count and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="what 'stainglass prepare' takes")
    parser.add_argument("--mpp", type=float, help="of the cohort; by default as 'stainglass prepare' decides")
    parser.add_argument("--counts", type=int, nargs="*", help="how many sections; by default 1, 2, … all")
    parser.add_argument("--work", type=Path, help="folder for the cohorts; by default a temporary one")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return child(Path(options.child[0]), Path(options.child[1]), int(options.child[2]), options.mpp)
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        data = options.data or simulate_cohort(Path(temporary) / "simulated", "skin", 3, size_um=1200.0)
        number = len(read_sections(data))
        runs = [
            in_fresh_process(data, Path(temporary) / f"cohort-{count}", count, options.mpp)
            for count in options.counts or range(1, number + 1)
        ]
    figures: dict[str, object] = {"sections": number, "simulated": options.data is None, "runs": runs}
    last = runs[-1]
    if options.data is not None and last["sections"] == OF_SECTIONS:
        figures["seconds"] = target(last["seconds"], TARGET_SECONDS, at_least=False)
        figures["peak_gb"] = target(last["peak_gb"], TARGET_GB, at_least=False)
    if len(runs) > 1:
        # Sections differ in size and depth, so the most of all is held against the most of the first two.
        most = max(run["peak_gb"] for run in runs)
        figures["memory_growth"] = target(most / max(r["peak_gb"] for r in runs[:2]), 1.1, at_least=False)
    return emit("prepare", figures, options.out)


def in_fresh_process(data: Path, out: Path, count: int, mpp: float | None) -> dict[str, float]:
    """Prepare ``count`` sections in a process of its own; seconds there, its peak memory."""
    command = [sys.executable, "-m", "benchmarks.prepare", "--child", str(data), str(out), str(count)]
    done = subprocess.run(
        command + ([] if mpp is None else ["--mpp", str(mpp)]), stdout=subprocess.PIPE, check=True, text=True
    )
    record: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(record, file=sys.stderr, flush=True)
    return record


def child(data: Path, out: Path, count: int, mpp: float | None) -> dict[str, object]:
    """What the fresh process does."""
    from stainglass.cohort.prepare import prepare_cohort
    from stainglass.config import Prepare

    sources = read_sections(data)[:count]
    began, worked = time.perf_counter(), time.process_time()
    cohort = prepare_cohort(sources, out, Prepare() if mpp is None else Prepare(mpp=mpp))
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    # Linux gives KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    record: dict[str, object] = {
        "sections": count,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3),
        "raster_mpx": round(
            sum(s.size_px_yx[0] * s.size_px_yx[1] for s in cohort.sections.values()) / 1e6, 1
        ),
    }
    print(json.dumps(record), flush=True)
    return record


if __name__ == "__main__":
    main(sys.argv[1:])
