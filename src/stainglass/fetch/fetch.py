"""A set of the catalogue, or one address, into a folder: downloaded, checked, unpacked, with its terms beside it."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stainglass.errors import StainglassError
from stainglass.fetch.catalogue import GIGABYTE, Entry, RemoteFile
from stainglass.fetch.download import download
from stainglass.fetch.hub import fetch_hub
from stainglass.fetch.unpack import unpack
from stainglass.files import atomic_path, read_json, require_free_space, sha256_of, write_json
from stainglass.progress import console

FORMAT = 1
RECORD, TERMS, MANIFEST = "fetched.json", "TERMS.md", "manifest.csv"


def fetch(
    entry: Entry,
    out: Path,
    *,
    only: Sequence[str] = (),
    keep_archives: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring a set into ``out``; what is there and whole is not fetched again.

    ``fetched.json`` records every file with its address, hash and size; ``TERMS.md`` the terms and the citation; sets that
    say how they are to be read get a ``manifest.csv``.

    Parameters
    ----------
    entry
        By `stainglass.fetch.catalogue.read_catalogue`, or made of one address by `of_address`.
    out
        Folder; may hold what an interrupted call left.
    only
        Ids, of sets on a hub.
    keep_archives
        Leave archives beside what was unpacked.

    Returns
    -------
    The manifest, or the folder when there is none.

    Raises
    ------
    StainglassError
        When a transfer fails or does not match, or an archive is refused; what was whole before stays.
    """
    if only and entry.hub is None:
        raise StainglassError(entry.name, "is fetched whole", "Leave --only out")
    out.mkdir(parents=True, exist_ok=True)
    record = _read_record(out, entry)
    _write_terms(entry, out)
    for file in entry.files:
        if _is_whole(record["files"].get(file.url), file, out):
            console.print(f"  {file.save_as}: already there", highlight=False)
            continue
        _refuse_to_overwrite(file, out, record["files"])
        record["files"].setdefault(file.url, {"began": True})  # whatever lies there from here on is ours
        write_json(out / RECORD, record)

        def came(sha256: str, known: dict[str, Any] = record["files"][file.url]) -> None:
            known["sha256"] = sha256  # whatever becomes of unpacking, it need not come again
            write_json(out / RECORD, record)

        record["files"][file.url] = _fetch_file(
            file, out, keep_archives, sleep, record["files"][file.url], came
        )
        write_json(out / RECORD, record)
    rows: Sequence[dict[str, str]] = entry.manifest
    if entry.hub is not None:
        record["hub"], rows = fetch_hub(entry.hub, entry.page, out, only)
        write_json(out / RECORD, record)
    if not rows:
        return out
    _write_manifest(rows, out)
    return out / MANIFEST


def of_address(file: RemoteFile) -> Entry:
    """One address as a set of its own; its terms are the user's to know."""
    return Entry(
        file.save_as, file.save_as, file.url, "Not known here: look where it comes from.", "", files=(file,)
    )


def _fetch_file(
    file: RemoteFile,
    out: Path,
    keep_archives: bool,
    sleep: Callable[[float], None],
    known: Mapping[str, Any],
    came: Callable[[str], None],
) -> dict[str, Any]:
    """Bring a file and unpack it; one that lies there as ``known`` says is only unpacked. ``came`` is told its hash."""
    folder = out / file.into
    folder.mkdir(parents=True, exist_ok=True)
    if file.gigabytes is not None:
        require_free_space(folder, int(file.gigabytes * GIGABYTE))
    final = folder / file.save_as
    if final.is_symlink() or final.is_dir():
        raise StainglassError(final, "something else lies here", "Move it away, or choose another --out")
    found = known.get("sha256")
    if found is None or not final.is_file() or sha256_of(final) != found:
        found = download(file.url, final, file.sha256, sleep=sleep)
        came(found)
    size = final.stat().st_size
    if file.sha256 is None:
        console.print(f"  {file.save_as}: no hash is known; what came has SHA-256 {found}", highlight=False)
    contents = {file.save_as: size}
    if file.unpack:
        most = file.unpacked_gigabytes
        contents = unpack(final, folder, None if most is None else int(most * GIGABYTE), file.keep)
        if not keep_archives:
            final.unlink()
    return {
        "sha256": found,
        "checked": file.sha256 is not None,
        "bytes": size,
        "into": file.into,
        "contents": contents,
    }


def _refuse_to_overwrite(file: RemoteFile, out: Path, known: Mapping[str, Any]) -> None:
    """Whatever has this name and did not come from this address is not ours to replace."""
    final = out / file.into / file.save_as
    ours = file.url in known or (
        file.sha256 is not None and final.is_file() and sha256_of(final) == file.sha256.lower()
    )
    if final.exists() and not ours:
        raise StainglassError(
            final,
            f"is here already, and did not come from {file.url}",
            "Move it away, or choose another --out",
        )


def _is_whole(known: dict[str, Any] | None, file: RemoteFile, out: Path) -> bool:
    """Whether everything that came of this file is still there, at its size."""
    if (
        known is None
        or "contents" not in known
        or (file.sha256 is not None and known["sha256"] != file.sha256.lower())
    ):
        return False
    folder = out / known["into"]
    return all(
        (folder / place).is_file() and (folder / place).stat().st_size == size
        for place, size in known["contents"].items()
    )


def _read_record(out: Path, entry: Entry) -> dict[str, Any]:
    path = out / RECORD
    if not path.is_file():
        return {"format": FORMAT, "name": entry.name, "files": {}}
    record: dict[str, Any] = read_json(path, "record of what was fetched")
    if record.get("format") != FORMAT or record.get("name") != entry.name:
        raise StainglassError(out, f"holds {record.get('name', 'something else')}", "Choose another --out")
    return record


def _write_terms(entry: Entry, out: Path) -> None:
    lines = [f"# {entry.title}", "", f"From: {entry.page}", "", f"Terms: {entry.terms}"]
    lines += ["", f"Cite: {entry.citation}"] if entry.citation else []
    lines += ["", entry.note] if entry.note else []
    with atomic_path(out / TERMS) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_manifest(rows: Sequence[dict[str, str]], out: Path) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(out / MANIFEST) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
