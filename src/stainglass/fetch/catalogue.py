"""What can be fetched: ``catalogue.yaml``, typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from stainglass.errors import StainglassError

CATALOGUE = Path(__file__).parent / "catalogue.yaml"
GIGABYTE = 10**9
ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address.

    Attributes
    ----------
    url
        http or https.
    save_as
        Its name here.
    into
        Folder below ``--out`` that it, or what it unpacks to, comes to.
    sha256
        Of the whole file, in hex, when known.
    gigabytes, unpacked_gigabytes
        About how large it is, and the most an archive may grow to; None when nothing was stated.
    unpack
        Whether it is an archive that is unpacked.
    keep
        (pattern of a whole path in the archive, where it goes); empty keeps everything where it is.
    """

    url: str
    save_as: str
    into: str = ""
    sha256: str | None = None
    gigabytes: float | None = None
    unpacked_gigabytes: float | None = None
    unpack: bool = False
    keep: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Hub:
    """Files of a dataset on the Hugging Face hub; ``{id}`` in a pattern stands for each section asked for."""

    repository: str
    revision: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One set of the catalogue; its fields are those of ``catalogue.yaml``."""

    name: str
    title: str
    page: str
    terms: str
    citation: str
    note: str = ""
    downloaded_in_a_test: bool = False
    files: tuple[RemoteFile, ...] = ()
    hub: Hub | None = None
    manifest: tuple[dict[str, str], ...] = ()


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Entry]:
    """The catalogue by name.

    Raises
    ------
    StainglassError
        When the file is not one, which only happens to one of your own.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: _entry(name, fields) for name, fields in tree.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise StainglassError(path, f"not a catalogue ({error})", "Mend the YAML") from None


def remote_file(url: str, **fields: Any) -> RemoteFile:
    """A file at ``url``, named as its address ends; archives, known by that name, are unpacked.

    Raises
    ------
    StainglassError
        When the address is not of the web, or names no file.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise StainglassError(url, "not an address of the web", "Give one that begins with https://")
    name = str(fields.pop("save_as", "") or PurePosixPath(unquote(parts.path)).name)
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise StainglassError(url, "names no file", "Give the address of one file")
    keep = tuple((str(a), str(b)) for a, b in fields.pop("keep", ()))
    unpack = bool(fields.pop("unpack", name.lower().endswith(ARCHIVES)))
    return RemoteFile(url, name, unpack=unpack, keep=keep, **fields)


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    fields = dict(fields)
    files = tuple(remote_file(**one) for one in fields.pop("files", ()))
    hub = fields.pop("hub", None)
    if hub is not None:
        hub = Hub(hub["repository"], hub["revision"], tuple(hub["patterns"]))
    manifest = tuple({k: str(v) for k, v in row.items()} for row in fields.pop("manifest", ()))
    return Entry(name, files=files, hub=hub, manifest=manifest, **fields)
