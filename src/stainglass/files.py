"""Atomic writes, free space, hashes: nothing half-written is ever left under a final name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stainglass.errors import StainglassError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``final`` to write (a file or a folder), renamed when the block succeeds.

    On any error the temporary is removed and ``final`` is untouched. An existing ``final`` is replaced.
    A full disk is reported as such.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}.tmp{final.suffix}"
    try:
        yield temporary
        _sync(temporary)
        _replace(temporary, final)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise disk_full(final) from error
        raise
    finally:
        _remove(temporary)


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())


def _replace(temporary: Path, final: Path) -> None:
    if temporary.is_dir() and final.exists():
        old = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}.old"
        final.rename(old)
        try:
            temporary.rename(final)
        except OSError:
            old.rename(final)
            raise
        _remove(old)
    else:
        temporary.replace(final)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed run left behind under temporary names; what it had moved aside and not replaced comes back."""
    for old in folder.glob(".*.old"):
        final = folder / old.name[1:].rsplit(".", 2)[0]
        if final.exists():
            _remove(old)
        else:
            old.rename(final)
    for leftover in folder.glob(".*.tmp*"):
        _remove(leftover)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, two-space indented, UTF-8, NaN refused."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_json(path: Path, what: str) -> Any:
    """Read JSON; a missing or broken file is a `StainglassError` that says what it should have been."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StainglassError(
            path, f"no {what} here", "Check the path, or run the step that writes it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StainglassError(
            path, f"not a readable {what} ({error})", "Restore it, or run the step that writes it"
        ) from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def disk_full(path: Path) -> StainglassError:
    """The error for a disk without room at ``path``."""
    return StainglassError(
        path,
        "the disk is full",
        "Free some space or choose another --out; what was finished is kept, run the same command again",
    )


def require_free_space(folder: Path, need_bytes: int) -> None:
    """Refuse early when the disk under ``folder`` has less than ``need_bytes`` free."""
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < need_bytes:
        raise StainglassError(
            folder,
            f"needs about {need_bytes / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free",
            "Free some space or choose another --out",
        )
