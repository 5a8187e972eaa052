"""One file from the web: resumed where it stopped, never glued together from two versions, whole or not at all.

Written for this because no library we know (pooch, requests, httpx) resumes a transfer; HTTP's own means are enough: a
Range for what is missing, an If-Range with the validator of what is here (RFC 9110, 13.1.5 and 14.2).
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stainglass.errors import StainglassError
from stainglass.files import disk_full, read_json, require_free_space, sha256_of, write_json
from stainglass.progress import progress_bar

BLOCK = 1 << 20
MEGABYTE = 10**6
TIMEOUT_SECONDS = 60
LONGEST_WAIT_SECONDS = 60.0
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be another one in a moment."""
AGENT = "stainglass (research software; resumable download)"


@dataclass(frozen=True)
class Version:
    """Which version of a file the server has: its strong ETag or its date, and its size in bytes."""

    url: str
    validator: str | None
    total: int | None


class _Interrupted(Exception):
    """The transfer stopped early; what came is kept."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class _OnTheWeb(urllib.request.HTTPRedirectHandler):
    """Follow redirects within the web, never from https down to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise StainglassError(req.full_url, f"is redirected to {newurl}", "Give a safer address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    final: Path,
    sha256: str | None = None,
    *,
    retries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Bring ``url`` to ``final``; a transfer that was cut short, now or yesterday, goes on where it stopped.

    What came so far lies in ``<final>.part``, its version in ``<final>.part.json``; both are gone when the file is whole.

    Parameters
    ----------
    url
        http or https.
    final
        The file's place; an existing one is replaced.
    sha256
        What the whole must hash to; another is refused and nothing of it kept.
    retries
        Attempts in a row that bring nothing before it gives up; waits grow twofold from one second.

    Returns
    -------
    The SHA-256 of what lies there now, in hex.

    Raises
    ------
    StainglassError
        When the server refuses, the connection does not last, the disk is full, or the hash is another.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    resumed = part.is_file() and part.stat().st_size > 0
    _until_whole(url, part, sha256 is not None, retries, sleep)
    found = sha256_of(part)
    if sha256 is not None and found != sha256.lower():
        _forget(part)
        if resumed:  # perhaps what lay here was of another file: once more, from nothing
            return download(url, final, sha256, retries=retries, sleep=sleep)
        raise StainglassError(
            url,
            f"does not match: its SHA-256 is {found}, expected {sha256.lower()}",
            "Nothing was kept; ask the publisher which is right before trusting either",
        )
    part.replace(final)
    _forget(part)
    return found


def _until_whole(url: str, part: Path, hashed: bool, retries: int, sleep: Callable[[float], None]) -> None:
    left, most = retries, part.stat().st_size if part.is_file() else 0
    while True:
        try:
            _transfer(url, part, hashed)
            return
        except (_Interrupted, OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == 28:
                raise disk_full(part) from error
            if getattr(error, "filename", None) and not isinstance(error, urllib.error.URLError):
                raise  # of a file here, not of the web
            came = part.stat().st_size if part.is_file() else 0
            left, most = (retries, came) if came > most else (left - 1, most)
            if left <= 0:
                raise StainglassError(
                    url,
                    f"the transfer does not last ({_told(error)})",
                    "Check the connection and run the same command again: it goes on where it stopped",
                ) from None
            wait = max(2.0 ** (retries - left), getattr(error, "wait_seconds", 0.0))
            sleep(min(wait, LONGEST_WAIT_SECONDS))


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)


def _transfer(url: str, part: Path, hashed: bool) -> None:
    """One attempt: ask for what is missing, append it, or begin anew when the server has another version."""
    here = part.stat().st_size if part.is_file() else 0
    known = _known(part, url)
    if here and (known is None or not (known.validator or hashed)):
        here = 0  # nothing says that the rest would be of the same file
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if here and known is not None:
        if known.total == here:
            return
        headers["Range"] = f"bytes={here}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        answer = _opened(url, headers)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # what is here is longer than what is there
                _forget(part)
                raise _Interrupted("the file has changed") from None
            raise _refusal(url, error) from None
    with answer:
        try:
            here = _place_of(answer, here, known)
        except _Interrupted:
            _forget(part)
            raise
        version = _version(url, answer, here)
        if (
            here
            and known is not None
            and version.validator
            and known.validator not in (None, version.validator)
        ):
            _forget(part)  # a range of another version: the server passes over If-Range
            raise _Interrupted("the file has changed")
        if version.total is not None:
            require_free_space(part.parent, version.total - here)
        if not here:
            part.unlink(missing_ok=True)  # or, killed now, old bytes would stand under the new version's name
        write_json(part.with_name(part.name + ".json"), asdict(version))
        _append(answer, part, here, version)


def _opened(url: str, headers: dict[str, str]) -> Any:
    opener = urllib.request.build_opener(_OnTheWeb)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)  # noqa: S310


def _place_of(answer: Any, here: int, known: Version | None) -> int:
    """Where the answer's bytes belong: after what is here when it is the range that was asked for, else at the start."""
    if answer.status != 206:
        return 0
    told = str(answer.headers.get("Content-Range", ""))
    first, _, total = told.removeprefix("bytes ").replace("-", "/").partition("/")
    total = total.rpartition("/")[2]
    changed = known is not None and known.total is not None and total.isdigit() and int(total) != known.total
    if first != str(here) or changed:
        raise _Interrupted(f"the server sent another range than asked for ({told or 'none'})")
    return here


def _version(url: str, answer: Any, here: int) -> Version:
    etag = str(answer.headers.get("ETag") or "")
    # Only a strong tag promises the same bytes (RFC 9110, 8.8.1).
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified")
    length = str(answer.headers.get("Content-Length") or "")
    return Version(url, validator, int(length) + here if length.isdigit() else None)


def _append(answer: Any, part: Path, here: int, version: Version) -> None:
    title = f"{part.name.removesuffix('.part')} (MB{', resumed' if here else ''})"
    whole, came = None if version.total is None else version.total // MEGABYTE, here
    with (
        part.open("r+b" if here else "wb") as handle,
        progress_bar(title, whole, here // MEGABYTE) as advance,
    ):
        handle.seek(here)
        handle.truncate()
        while block := answer.read(BLOCK):
            handle.write(block)
            advance((came + len(block)) // MEGABYTE - came // MEGABYTE)
            came += len(block)
        handle.flush()
        os.fsync(handle.fileno())
    if version.total is not None and came != version.total:
        raise _Interrupted(f"{came} of {version.total} bytes came")


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in PASSING:
        wait = str(error.headers.get("Retry-After") or "")
        return _Interrupted(f"the server answers {error.code}", float(wait) if wait.isdigit() else 0.0)
    remedies = {
        401: "It wants a login: fetch it by hand from its page",
        403: "It is not given to programs: fetch it by hand from its page",
        404: "It has moved: look on its page, and fetch the new address with --sha256",
        410: "It is gone: look on its page",
    }
    remedy = remedies.get(error.code, "Look at its page")
    return StainglassError(url, f"the server answers {error.code} {error.reason}", remedy)


def _known(part: Path, url: str) -> Version | None:
    """The version that ``part`` is of; None when it is not known, or was another address's."""
    path = part.with_name(part.name + ".json")
    if not path.is_file():
        return None
    try:
        known = Version(**read_json(path, "version of a download"))
    except (StainglassError, TypeError):
        return None
    return known if known.url == url else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
