"""``stainglass doctor``: is this machine, or this cohort, fit for work?"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from stainglass.progress import console

if TYPE_CHECKING:
    from stainglass.sections.read import SectionSource

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
        Path | None, Parameter(help="A cohort, a run, a manifest, or a section's folder or file to look at.")
    ] = None,
) -> None:
    """Check this machine, and sections or a cohort where they are named; say what to do. Exit code 1 when there is something.

    For instance::

        stainglass doctor samples.csv
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
    from stainglass.cohort.of_run import cohort_folder
    from stainglass.errors import StainglassError
    from stainglass.sections import read_sections

    try:
        for folder in (target, cohort_folder(target)):
            if (folder / "cohort.json").is_file():
                return _cohort_rows(Cohort.open(folder))
        return [_section_row(source) for source in read_sections(target)]
    except StainglassError as error:
        return [(str(target), error.finding, error.remedy)]


def _section_row(source: SectionSource) -> tuple[str, str, str]:
    from stainglass.errors import StainglassError

    try:
        section = source.read()
    except StainglassError as error:
        return (f"section {source.id}", str(error.finding), error.remedy)
    with section.slide:
        used = int(section.spots.obs["used"].sum())
        found = f"patient {section.patient}, {used} of {section.spots.n_obs} spots used, "
        found += f"{section.mpp:.4g} µm a full-resolution px by {section.mpp_source}"
        if section.slide_scale != 1:
            found += f" (the image that was found has {section.slide_mpp:.4g})"
        return f"section {section.id}", "; ".join([found, *section.notices]), ""


def _cohort_rows(cohort: object) -> list[tuple[str, str, str]]:
    from stainglass.cohort.cohort import Cohort
    from stainglass.errors import StainglassError

    assert isinstance(cohort, Cohort)
    rows = []
    for section in cohort.sections.values():
        r = section.record
        found = f"patient {r.patient}, {r.used} of {r.spots} spots used, "
        found += f"median {r.median_counts:.0f} counts, {r.tissue_mm2:.1f} mm², "
        found += f"image of {r.source_mpp:.4g} µm/px by {r.mpp_source}"
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
