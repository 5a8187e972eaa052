import errno
from pathlib import Path

import pytest

from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, require_free_space, sweep_temporaries, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    final = tmp_path / "a.json"
    write_json(final, {"a": 1})

    def fail() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert read_json(final, "thing") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_path(final) as temporary:
            temporary.mkdir()
            (temporary / "x").write_text(content)
    assert (final / "x").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "big"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StainglassError, match="disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="GB free"):
        require_free_space(tmp_path / "not" / "yet", 10**18)


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".C5.zarr.1234abcd.tmp.zarr").mkdir()
    (tmp_path / "C5.zarr").mkdir()
    (tmp_path / ".C5.zarr.1234abcd.old").mkdir()
    # Killed between moving the old one aside and moving the new one in: the old one is all there is.
    (tmp_path / ".C4.zarr.5678abcd.old").mkdir()
    sweep_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["C4.zarr", "C5.zarr"]


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StainglassError, match=r"a\.json.*not a readable card"):
        read_json(tmp_path / "a.json", "card")
