import hashlib
import json
import urllib.request
from pathlib import Path

import pytest
from local_web import Web

from stainglass.errors import StainglassError
from stainglass.fetch.download import _OnTheWeb, download

CONTENT = bytes(range(256)) * 4000
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def waits() -> list[float]:
    """Seconds that would have been slept."""
    return []


def bring(
    served: Web, tmp_path: Path, waits: list[float], sha256: str | None = None, retries: int = 5
) -> str:
    return download(served.url("f"), tmp_path / "f", sha256, retries=retries, sleep=waits.append)


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir() if p.name != "f")


def test_a_file_comes_whole_with_its_hash(served: Web, tmp_path: Path, waits: list[float]) -> None:
    served.serve("f", CONTENT)
    assert bring(served, tmp_path, waits, HASH.upper()) == HASH
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert not leftovers(tmp_path)
    assert not waits


def test_a_broken_transfer_goes_on_where_it_stopped(served: Web, tmp_path: Path, waits: list[float]) -> None:
    file = served.serve("f", CONTENT, break_after=[300_000, 200_000])
    assert bring(served, tmp_path, waits) == HASH
    assert file.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_what_yesterday_brought_is_not_fetched_again(served: Web, tmp_path: Path, waits: list[float]) -> None:
    file = served.serve("f", CONTENT, break_after=[400_000, 0, 0])
    with pytest.raises(StainglassError, match=r"does not last.*goes on where it stopped"):
        bring(served, tmp_path, waits, retries=2)
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "f.part").stat().st_size == 400_000
    file.break_after.clear()
    assert bring(served, tmp_path, waits) == HASH
    assert file.asked[-1] == "bytes=400000-"


def test_waits_grow_and_retry_after_is_heeded(served: Web, tmp_path: Path, waits: list[float]) -> None:
    served.serve("f", CONTENT, answers=[503, 429, 500])
    assert bring(served, tmp_path, waits) == HASH
    assert waits == [2.0, 4.0, 8.0]


@pytest.mark.parametrize("etag", ['"2"', 'W/"1"', None])
def test_a_file_that_changed_meanwhile_is_not_glued(
    served: Web, tmp_path: Path, waits: list[float], etag: str | None
) -> None:
    served.serve("f", b"x" * 500_000, break_after=[300_000, 0], etag='"1"' if etag == '"2"' else etag)
    with pytest.raises(StainglassError, match="does not last"):
        bring(served, tmp_path, waits, retries=1)
    served.serve("f", CONTENT, etag=etag)
    assert bring(served, tmp_path, waits) == HASH


def test_a_server_that_passes_over_if_range_does_not_glue_either(
    served: Web, tmp_path: Path, waits: list[float]
) -> None:
    old = bytes(len(CONTENT))
    served.serve("f", old, break_after=[300_000, 0])
    with pytest.raises(StainglassError, match="does not last"):
        bring(served, tmp_path, waits, retries=1)
    served.serve("f", CONTENT, etag='"2"', passes_over_if_range=True)
    assert bring(served, tmp_path, waits) == HASH


def test_killed_between_note_and_first_byte_of_a_new_version(
    served: Web, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    served.serve("f", bytes(len(CONTENT)), break_after=[300_000, 0])
    with pytest.raises(StainglassError, match="does not last"):
        bring(served, tmp_path, waits, retries=1)
    served.serve("f", CONTENT, etag='"2"')

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("stainglass.fetch.download._append", killed)
        with pytest.raises(KeyboardInterrupt):
            bring(served, tmp_path, waits)
    assert bring(served, tmp_path, waits) == HASH


def test_a_file_that_shrank_is_fetched_anew(served: Web, tmp_path: Path, waits: list[float]) -> None:
    served.serve("f", CONTENT, break_after=[300_000, 0])
    with pytest.raises(StainglassError):
        bring(served, tmp_path, waits, retries=1)
    served.serve("f", b"short")  # the same ETag: a server that keeps no promise
    bring(served, tmp_path, waits)
    assert (tmp_path / "f").read_bytes() == b"short"


def test_a_server_without_ranges_sends_all_again(served: Web, tmp_path: Path, waits: list[float]) -> None:
    file = served.serve("f", CONTENT, ranges=False, break_after=[300_000])
    assert bring(served, tmp_path, waits) == HASH
    assert file.asked == [None, "bytes=300000-"]


def test_a_server_that_tells_no_length_is_believed_at_its_end(
    served: Web, tmp_path: Path, waits: list[float]
) -> None:
    served.serve("f", CONTENT, length=False)
    assert bring(served, tmp_path, waits, HASH) == HASH


def test_a_wrong_hash_keeps_nothing(served: Web, tmp_path: Path, waits: list[float]) -> None:
    served.serve("f", CONTENT)
    with pytest.raises(StainglassError, match=f"does not match: its SHA-256 is {HASH}"):
        bring(served, tmp_path, waits, "0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_spoilt_part_is_fetched_once_more_from_nothing(
    served: Web, tmp_path: Path, waits: list[float]
) -> None:
    file = served.serve("f", CONTENT)
    (tmp_path / "f.part").write_bytes(b"z" * 1000)
    version = {"url": served.url("f"), "validator": '"1"', "total": len(CONTENT)}
    (tmp_path / "f.part.json").write_text(json.dumps(version))
    assert bring(served, tmp_path, waits, HASH) == HASH
    assert file.asked == ["bytes=1000-", None]


def test_a_part_of_another_address_is_not_used(served: Web, tmp_path: Path, waits: list[float]) -> None:
    file = served.serve("f", CONTENT)
    (tmp_path / "f.part").write_bytes(b"z" * 1000)
    (tmp_path / "f.part.json").write_text(
        json.dumps({"url": "http://b/f", "validator": '"1"', "total": None})
    )
    assert bring(served, tmp_path, waits) == HASH
    assert file.asked == [None]


def test_a_refusal_is_said_at_once(served: Web, tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(StainglassError, match=r"404 .*It has moved"):
        bring(served, tmp_path, waits)
    served.serve("f", CONTENT, answers=[403])
    with pytest.raises(StainglassError, match=r"403 .*by hand"):
        bring(served, tmp_path, waits)
    assert not waits
    assert not list(tmp_path.iterdir())


def test_redirects_stay_on_the_web(served: Web, tmp_path: Path, waits: list[float]) -> None:
    served.serve("f", b"", moved_to=served.url("g"))
    served.serve("g", CONTENT)
    assert bring(served, tmp_path, waits) == HASH
    served.serve("f", b"", moved_to="file:///etc/hostname")
    with pytest.raises(StainglassError, match=r"302 .*not allowed"):
        bring(served, tmp_path, waits)
    safe = urllib.request.Request("https://example.org/f")
    with pytest.raises(StainglassError, match="redirected to http:"):
        _OnTheWeb().redirect_request(safe, None, 302, "Found", {}, "http://example.org/f")


def test_nobody_there_is_said_after_the_retries(tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(StainglassError, match="does not last"):
        download("http://127.0.0.1:9/f", tmp_path / "f", retries=3, sleep=waits.append)
    assert waits == [2.0, 4.0]
