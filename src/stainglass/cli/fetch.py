"""``stainglass fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next
from stainglass.progress import console

if TYPE_CHECKING:
    from stainglass.fetch.catalogue import Entry


def fetch(
    name: str | None = None,
    *,
    out: Path | None = None,
    sha256: Annotated[str | None, Parameter(help="What a URL's file must hash to.")] = None,
    only: Annotated[
        tuple[str, ...], Parameter(help="Sections of a set on a hub.", negative="", consume_multiple=True)
    ] = (),
    keep_archives: Annotated[
        bool, Parameter(help="Leave archives beside what was unpacked.", negative="")
    ] = False,
    catalogue: Annotated[Path | None, Parameter(help="Another catalogue (YAML).")] = None,
) -> None:
    """List public data sets, or bring one: resumed, checked, unpacked, with its terms beside it.

    For instance::

        stainglass fetch
        stainglass fetch her2st --out her2st
        stainglass fetch https://example.org/slide.zip --sha256 9f86d0… --out data

    Parameters
    ----------
    name
        A set of the catalogue, or the address of a file; without it the catalogue is listed.
    out
        Folder; what is there and whole is not fetched again.
    """
    from stainglass.errors import StainglassError
    from stainglass.fetch.catalogue import CATALOGUE, read_catalogue

    entries = read_catalogue(catalogue or CATALOGUE)
    if name is None:
        _list(entries)
        return
    entry = _entry(name, sha256, entries)
    if out is None:
        raise StainglassError(name, "there is no folder to bring it to", "Pass --out DIR")
    from stainglass.fetch.fetch import fetch as bring

    console.print(f"{entry.title}\n  terms: {entry.terms}", highlight=False, soft_wrap=True)
    found = bring(entry, out, only=only, keep_archives=keep_archives)
    if found.suffix == ".csv":
        say_next(f"stainglass prepare {found} --out cohort")
    print_result(found)


def _entry(name: str, sha256: str | None, entries: dict[str, Entry]) -> Entry:
    from stainglass.errors import StainglassError
    from stainglass.fetch.catalogue import remote_file
    from stainglass.fetch.fetch import of_address

    if "://" in name:
        if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
            raise StainglassError("--sha256", f"{sha256!r} is no SHA-256", "Give 64 hexadecimal digits")
        return of_address(remote_file(name, sha256=sha256))
    if sha256 is not None:
        raise StainglassError("--sha256", "is for addresses; a set has its own", "Leave it out")
    if name not in entries:
        raise StainglassError(
            name, "is not in the catalogue", f"Choose one of {', '.join(entries)}, or a URL"
        )
    return entries[name]


def _list(entries: dict[str, Entry]) -> None:
    """The catalogue, on stdout: it is what was asked for."""
    for entry in entries.values():
        hashed = sum(file.sha256 is not None for file in entry.files)
        known = "hashes of the hub" if entry.hub else f"{hashed} of {len(entry.files)} hashes known"
        tried = "downloaded in a test" if entry.downloaded_in_a_test else "never downloaded in a test"
        print(f"{entry.name}\n  {entry.title}\n  {entry.page}\n  terms: {entry.terms}\n  {known}; {tried}")
        for file in entry.files:
            size = "size not known" if file.gigabytes is None else f"about {file.gigabytes:g} GB"
            print(f"  {file.url} ({size})")
        if entry.note:
            print(f"  {entry.note}")
    say_next("stainglass fetch NAME --out DIR")
