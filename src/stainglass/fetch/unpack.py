"""Archives from strangers: files and folders only, inside the folder, no larger than stated."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from stainglass.errors import StainglassError
from stainglass.files import require_free_space
from stainglass.progress import progress_bar

BLOCK = 1 << 20
MEGABYTE = 10**6
MOST_FILES = 200_000
LEAST_ALLOWED = 10**9
GROWTH = 20
"""An archive of which nothing was stated may grow this many times, or to LEAST_ALLOWED bytes; text shrinks tenfold."""
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class _Member(NamedTuple):
    """A regular file of an archive; ``size`` is what its header claims."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, folder: Path, most_bytes: int | None = None, keep: Sequence[tuple[str, str]] = ()
) -> dict[str, int]:
    """Unpack a tar (plain, gz, bz2, xz) or zip into ``folder``; nothing reaches it before all of it is unpacked.

    Parameters
    ----------
    archive
        The file; what it is is seen from its content.
    folder
        Where to; it may hold other files.
    most_bytes
        The most it may grow to.
    keep
        (pattern of a whole path, where it goes): what matches none is left out; empty keeps everything.

    Returns
    -------
    Path below ``folder`` → bytes.

    Raises
    ------
    StainglassError
        For paths that lead outside, links, devices, encrypted or broken archives, more bytes or files than allowed, or
        when another file lies in the way.
    """
    allowed = most_bytes or max(LEAST_ALLOWED, GROWTH * archive.stat().st_size)
    staging = folder / f".{archive.name}.unpacked"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        written = _unpack_all(archive, staging, allowed, keep)
        if not written:
            raise StainglassError(
                archive, "holds nothing of what is wanted", "Look at its page: it has changed"
            )
        _into_place(staging, folder, written)
    except BROKEN as error:
        raise StainglassError(
            archive, f"is no whole archive ({error})", "Delete it and fetch it again"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return written


def _unpack_all(
    archive: Path, staging: Path, allowed: int, keep: Sequence[tuple[str, str]]
) -> dict[str, int]:
    written: dict[str, int] = {}
    total = 0
    with progress_bar(f"unpacking {archive.name} (MB)", None) as advance:
        for member in _members(archive):
            place = _place(archive, member.name, keep)
            if place is None:
                continue
            if place in written or len(written) >= MOST_FILES:
                raise _refused(
                    archive, f"holds {place} twice" if place in written else "holds too many files"
                )
            if total + member.size > allowed:
                raise _too_large(archive, allowed)
            require_free_space(staging, member.size)
            target = staging / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, target.open("xb") as out:
                written[place] = _copy(archive, source, out, allowed - total, allowed)
            total += written[place]
            advance(total // MEGABYTE - (total - written[place]) // MEGABYTE, place)
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if info.is_dir():
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    raise _refused(archive, f"holds {info.filename}, which is no regular file")
                if info.flag_bits & 1:
                    raise StainglassError(archive, "is encrypted", "Unpack it by hand with its password")
                yield _Member(info.filename, info.file_size, lambda info=info: packed.open(info))  # type: ignore[misc]
        return
    with tarfile.open(archive, "r:*") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            if not entry.isreg():
                raise _refused(archive, f"holds {entry.name}, a link or a device")
            yield _Member(entry.name, entry.size, lambda entry=entry: _extracted(tar, entry))  # type: ignore[misc]


def _extracted(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(entry)
    if found is None:
        raise tarfile.ReadError(f"{entry.name} cannot be read")
    return found


def _place(archive: Path, name: str, keep: Sequence[tuple[str, str]]) -> str | None:
    """Where a member goes, below the folder; None leaves it out. The path is judged before and after renaming."""
    inside = _safe(archive, name)
    if not keep:
        return inside
    for pattern, where in keep:
        if found := re.fullmatch(pattern, inside):
            return _safe(archive, found.expand(where))
    return None


def _safe(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    drive = re.match(r"[A-Za-z]:", name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive:
        raise _refused(archive, f"holds the path {name!r}, which leads outside")
    return str(path)


def _copy(archive: Path, source: IO[bytes], out: IO[bytes], room: int, allowed: int) -> int:
    """Copy at most ``room`` bytes: a header may lie about its size."""
    came = 0
    while block := source.read(BLOCK):
        came += len(block)
        if came > room:
            raise _too_large(archive, allowed)
        out.write(block)
    return came


def _into_place(staging: Path, folder: Path, written: dict[str, int]) -> None:
    """Rename file by file. A file of the same size may be of an unpacking that was cut short; another is not touched."""
    for place, size in written.items():
        target = folder / place
        if target.is_symlink() or (
            target.exists() and not (target.is_file() and target.stat().st_size == size)
        ):
            raise StainglassError(
                target, "another file lies here already", "Move it away, or choose another --out"
            )
    for place in written:
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / place).replace(target)


def _refused(archive: Path, finding: str) -> StainglassError:
    return StainglassError(archive, finding, "Nothing of it was unpacked; do not trust this archive")


def _too_large(archive: Path, allowed: int) -> StainglassError:
    return StainglassError(
        archive,
        f"grows beyond the {allowed / 1e9:.1f} GB that were stated",
        "Nothing of it was unpacked; do not trust this archive, or unpack it by hand",
    )
