import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stainglass.errors import StainglassError
from stainglass.fetch.unpack import unpack


def tar_of(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_arrives_whole(tmp_path: Path, mode: str) -> None:
    archive = tar_of(tmp_path / "a", ("spatial/a.csv", b"1"), ("spatial/deep/b", b"22"), mode=mode)
    assert unpack(archive, tmp_path / "out") == {"spatial/a.csv": 1, "spatial/deep/b": 2}
    assert everything(tmp_path / "out") == {"spatial/a.csv", "spatial/deep/b"}


def test_a_zip_is_known_by_its_content_and_paths_may_be_chosen(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.tar", ("top/data/A1.tsv", b"1"), ("top/README", b"no"))
    assert unpack(archive, tmp_path / "out", keep=[(r"[^/]+/data/(\w+)\.tsv", r"counts/\1.tsv")]) == {
        "counts/A1.tsv": 1
    }
    with pytest.raises(StainglassError, match="nothing of what is wanted"):
        unpack(archive, tmp_path / "out", keep=[("x", "y")])


EVIL: dict[str, Callable[[Path], Path]] = {
    "absolute": lambda p: tar_of(p, ("/etc/evil", b"1")),
    "above": lambda p: tar_of(p, ("ok", b"1"), ("a/../../evil", b"1")),
    "symlink": lambda p: tar_of(p, special("l", tarfile.SYMTYPE, "/etc"), ("l/evil", b"1")),
    "hard link": lambda p: tar_of(p, special("l", tarfile.LNKTYPE, "../evil")),
    "device": lambda p: tar_of(p, special("l", tarfile.CHRTYPE)),
    "fifo": lambda p: tar_of(p, special("l", tarfile.FIFOTYPE)),
    "twice": lambda p: tar_of(p, ("a", b"1"), ("./a", b"2")),
    "zip above": lambda p: zip_of(p, ("../evil", b"1")),
    "zip drive": lambda p: zip_of(p, ("C:/evil", b"1")),
    "zip backslash": lambda p: zip_of(p, ("..\\evil", b"1")),
    "zip symlink": lambda p: zip_of(p, (_zip_symlink(), b"/etc")),
}


def _zip_symlink() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("l")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_archive_unpacks_to_nothing(tmp_path: Path, kind: str) -> None:
    archive = EVIL[kind](tmp_path / "archive")
    with pytest.raises(StainglassError, match="do not trust this archive"):
        unpack(archive, tmp_path / "in" / "out")
    assert everything(tmp_path) == {"archive"}


def test_renaming_cannot_lead_outside(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "archive", ("a", b"1"))
    with pytest.raises(StainglassError, match="leads outside"):
        unpack(archive, tmp_path / "out", keep=[("a", "../b")])


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_bomb_is_stopped(tmp_path: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "archive", ("a", bytes(600_000)), ("b", bytes(600_000)))
    assert archive.stat().st_size < 10_000
    with pytest.raises(StainglassError, match=r"grows beyond the 0\.0 GB"):
        unpack(archive, tmp_path / "out", 1_000_000)
    assert everything(tmp_path) == {"archive"}
    assert sum(unpack(archive, tmp_path / "out", 1_200_000).values()) == 1_200_000


def test_a_zip_that_lies_about_a_size_is_stopped(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "archive", ("a", bytes(2_000_000)))
    raw, size = archive.read_bytes(), (2_000_000).to_bytes(4, "little")
    assert raw.count(size) == 2
    archive.write_bytes(raw.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(StainglassError):
        unpack(archive, tmp_path / "out", 1_000_000)
    assert everything(tmp_path) == {"archive"}


@pytest.mark.parametrize("cut", [0, 40, 2000])
def test_a_broken_archive_is_said(tmp_path: Path, cut: int) -> None:
    archive = tar_of(tmp_path / "archive", ("a", np.random.default_rng(0).bytes(100_000)))
    archive.write_bytes(archive.read_bytes()[:cut] if cut else b"no archive at all")
    with pytest.raises(StainglassError, match="is no whole archive"):
        unpack(archive, tmp_path / "out")
    assert everything(tmp_path) == {"archive"}


def test_an_encrypted_zip_is_said(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "archive", ("a", b"1"))
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(raw)
    with pytest.raises(StainglassError, match="is encrypted"):
        unpack(archive, tmp_path / "out")


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "archive", ("a", b"11"), ("b", b"2"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_bytes(b"mine, and longer")
    with pytest.raises(StainglassError, match="another file lies here"):
        unpack(archive, out)
    assert everything(out) == {"b"}
    (out / "b").unlink()
    (out / "a").write_bytes(b"11")  # as an unpacking that was cut short leaves it
    assert unpack(archive, out) == {"a": 2, "b": 1}
