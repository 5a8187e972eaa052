"""What the benchmarks share: timing in turns, a simulated cohort, one JSON record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.config import Prepare, Recipe
from stainglass.files import write_json
from stainglass.sections import read_sections, simulate_cohort


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that takes its help from the file's docstring; every benchmark has ``--out`` and ``--seed``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def simulated(folder: Path, size_um: float, slide_mpp: float, mpp: float, patients: int = 1) -> Cohort:
    """Skin of a few patients, prepared at ``mpp`` and, when there are two or more, split."""
    manifest = simulate_cohort(folder / "simulated", "skin", patients, size_um=size_um, mpp=slide_mpp)
    cohort = prepare_cohort(read_sections(manifest), folder / "cohort", Prepare(mpp=mpp))
    if patients > 1:
        prepare_split(cohort, Recipe(name="benchmark").split, seed=0)
    return cohort


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, warmed up once.

    The ways take turns, round after round, so that whatever else the machine does falls on all of them.
    """
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(all_of)) for name, all_of in seconds.items()}


def target(value: float, bound: float, at_least: bool = True) -> dict[str, Any]:
    """A ratio beside what it should be."""
    met = value >= bound if at_least else value <= bound
    return {
        "value": round(value, 3),
        "target": bound,
        "is": "at least" if at_least else "at most",
        "met": met,
    }


def emit(name: str, figures: Mapping[str, Any], out: Path | None) -> dict[str, Any]:
    """Print the record as JSON, and write it where asked."""
    record = {"benchmark": name, "machine": machine(), **figures}
    print(json.dumps(record, indent=2), flush=True)
    if out is not None:
        write_json(out, record)
    return record


def machine() -> dict[str, Any]:
    """What the absolute numbers depend on; the load tells how far to trust them."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def missed(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the targets that were not met."""
    return [
        f"{record['benchmark']}.{key}"
        for record in records
        for key, value in record.items()
        if isinstance(value, dict) and value.get("met") is False
    ]
