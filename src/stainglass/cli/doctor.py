"""``stainglass doctor``: is this machine, or this cohort, fit for work?"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from stainglass.progress import console

PACKAGES = (
    "torch",
    "diffusers",
    "accelerate",
    "anndata",
    "zarr",
    "openslide-python",
    "tifffile",
    "imagecodecs",
)


def doctor(
    target: Annotated[
        Path | None, Parameter(help="A cohort, a run or a section's folder to look at.")
    ] = None,
) -> None:
    """Check this machine, or a cohort, and say what to do.

    For instance::

        stainglass doctor cohort
    """
    table = Table("what", "found", "to do", title="stainglass doctor", title_justify="left")
    findings = _machine() + ([] if target is None else _target(target))
    for what, found, todo in findings:
        table.add_row(what, found, todo or "[green]ok[/green]")
    console.print(table)
    if any(todo for *_, todo in findings):
        raise SystemExit(1)


def _machine() -> list[tuple[str, str, str]]:
    import os

    import torch

    free = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else 0.0
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: networks run on the CPU"
    rows = [
        ("Python", platform.python_version(), ""),
        ("cores", f"{os.cpu_count()} ({torch.get_num_threads()} threads for torch)", ""),
        ("GPU", gpu, ""),
        ("memory", f"{memory:.0f} GB", "" if memory > 5 else "the demo needs 6 GB"),
        (
            "disk here",
            f"{free:.0f} GB free",
            "" if free > 5 else "free some space: a section takes 0.1 to 1 GB",
        ),
    ]
    for name in PACKAGES:
        try:
            rows.append((name, version(name), ""))
        except PackageNotFoundError:
            rows.append((name, "missing", f"pip install {name}"))
    return rows


def _target(target: Path) -> list[tuple[str, str, str]]:
    from stainglass.cohort.cohort import Cohort
    from stainglass.errors import StainglassError

    try:
        folder = target / "cohort" if (target / "cohort" / "cohort.json").is_file() else target
        if (folder / "cohort.json").is_file():
            return _cohort_rows(Cohort.open(folder))
        from stainglass.sections import read_section

        section = read_section(target)
        notices = "; ".join(section.notices) or "no notices"
        with section.slide:
            return [
                (
                    f"section {section.id}",
                    f"{section.slide_mpp:.3f} µm/px by {section.mpp_source}; {notices}",
                    "",
                )
            ]
    except StainglassError as error:
        return [(str(target), error.finding, error.remedy)]


def _cohort_rows(cohort: object) -> list[tuple[str, str, str]]:
    from stainglass.cohort.cohort import Cohort
    from stainglass.errors import StainglassError

    assert isinstance(cohort, Cohort)
    rows = []
    for section in cohort.sections.values():
        r = section.record
        found = f"patient {r.patient}, {r.used} of {r.spots} spots used, "
        found += f"median {r.median_counts:.0f} counts, {r.tissue_mm2:.1f} mm²"
        rows.append(
            (f"section {r.id}", found, "" if section.path.is_dir() else "its data are missing: prepare again")
        )
    splits = sorted((cohort.path / "splits").glob("*.json"))
    if not splits:
        rows.append(
            ("splits", "none", "name sections under split.* in a recipe and run 'stainglass prepare' again")
        )
    for path in splits:
        try:
            split = cohort.split(path.stem)
            shared = (
                f"; patient {', '.join(split.shared_patients)} on both sides, allowed"
                if split.shared_patients
                else ""
            )
            rows.append(
                (
                    f"split {path.stem}",
                    f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test{shared}",
                    "",
                )
            )
        except StainglassError as error:
            rows.append((f"split {path.stem}", error.finding, error.remedy))
    return rows
