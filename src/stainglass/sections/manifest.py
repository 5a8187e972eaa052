"""A cohort's manifest: one row a section."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from stainglass.errors import StainglassError
from stainglass.sections.names import place_of
from stainglass.sections.read import SectionSource, read_section

if TYPE_CHECKING:
    from stainglass.sections.section import Section

NEEDED = ("id", "patient", "path")
KNOWN = (*NEEDED, "slide", "mpp", "kind", "section")


def read_manifest(path: Path) -> list[SectionSource]:
    """Read a CSV (or TSV) with columns ``id``, ``patient``, ``path`` and optionally ``slide``, ``mpp``,
    ``kind``, ``section``.

    Any other column is a group of the section. Relative paths are taken from the manifest's folder.

    Raises
    ------
    StainglassError
        For missing columns, empty cells, an id that stands twice, files that are not there, a wrong mpp.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            columns = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StainglassError(
            path, f"not a readable manifest ({error})", "Write it as CSV in UTF-8"
        ) from error
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        raise StainglassError(
            path, f"no column {', '.join(missing)}", f"Give the columns {', '.join(NEEDED)}"
        )
    if not rows:
        raise StainglassError(path, "the manifest has no rows", "Give one row a section")
    seen: dict[str, int] = {}
    sources = []
    for number, row in enumerate(rows, start=2):
        source = _source(path, number, row)
        if source.id in seen:
            raise StainglassError(
                path,
                f"id {source.id} stands twice (lines {seen[source.id]} and {number})",
                "Give every section its own id",
            )
        seen[source.id] = number
        sources.append(source)
    return sources


def _source(manifest: Path, number: int, row: dict[str, str]) -> SectionSource:
    where = f"{manifest}, line {number}"
    empty = [column for column in NEEDED if not row.get(column)]
    if empty:
        raise StainglassError(where, f"no {', '.join(empty)}", "Fill the cell")
    if "/" in row["id"] or row["id"].startswith("."):
        raise StainglassError(where, f"id {row['id']!r} cannot name a folder", "Use letters, digits, - and _")
    data = _resolved(manifest, row["path"], where)
    slide = _resolved(manifest, row["slide"], where) if row.get("slide") else None
    mpp = _mpp(row.get("mpp", ""), where)

    def read() -> Section:
        return read_section(
            data,
            id=row["id"],
            patient=row["patient"],
            slide=slide,
            mpp=mpp,
            kind=row.get("kind") or None,
            section=row.get("section") or None,
        )

    groups = {column: value for column, value in row.items() if column not in KNOWN and value}
    told = {"path": place_of(data)}
    if slide is not None:
        told["slide"] = place_of(slide)
    if mpp is not None:
        told["mpp"] = f"{mpp:g}"
    if row.get("section"):
        told["section"] = row["section"]
    return SectionSource(row["id"], row["patient"], groups, read, told)


def _resolved(manifest: Path, text: str, where: str) -> Path:
    path = manifest.parent / Path(text).expanduser()
    if not path.exists():
        raise StainglassError(
            where, f"{path} does not exist", "Give the path from the manifest's folder, or in full"
        )
    return path


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value > 0:
        raise StainglassError(
            where,
            f"mpp {text!r} is not a number above zero",
            "Give µm per full-resolution px, or leave it empty",
        )
    return value
