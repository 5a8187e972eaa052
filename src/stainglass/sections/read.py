"""Read a section, or list a cohort's, from a path: what it is is seen from its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stainglass.errors import StainglassError
from stainglass.sections.names import name_of, place_of

if TYPE_CHECKING:
    from anndata import AnnData

    from stainglass.sections.section import Section
    from stainglass.sections.slides import Slide

KINDS = ("spaceranger", "st", "anndata")


@dataclass(frozen=True)
class SectionSource:
    """A section that can be read: its names are known, nothing is opened yet.

    Attributes
    ----------
    id, patient
        As the section will have them.
    groups
        Further properties from a manifest; None without one.
    reader
        Reads it.
    told
        What it is read from and how, shortly.
    """

    id: str
    patient: str
    groups: dict[str, str] | None
    reader: Callable[[], Section]
    told: dict[str, str] = field(default_factory=dict)

    def read(self) -> Section:
        """Read and check the section."""
        return replace(self.reader(), groups=dict(self.groups or {}))


def kind_of(path: Path) -> str:
    """``spaceranger``, ``st`` or ``anndata``, by content.

    Raises
    ------
    StainglassError
        When it is none of them, with what was looked for.
    """
    from stainglass.sections.anndata_ import is_anndata
    from stainglass.sections.spaceranger import is_spaceranger, only_bins
    from stainglass.sections.st import is_st_folder

    if not path.exists():
        raise StainglassError(path, "no such file or folder", "Check the path")
    if path.is_dir() and is_st_folder(path):
        return "st"
    if is_anndata(path):
        return "anndata"
    if path.is_dir() and (only_bins(path) is not None or is_spaceranger(path)):
        return "spaceranger"
    raise StainglassError(
        path,
        "no section found: neither a Space Ranger folder (a matrix and a positions file), "
        "nor counts/ and spots/ of "
        "an ST array, nor an AnnData",
        "Give the folder that Space Ranger wrote (or its outs/), an ST folder, or an .h5ad or .zarr file",
    )


def read_section(
    path: str | Path | AnnData,
    *,
    id: str | None = None,
    patient: str | None = None,
    slide: str | Path | Slide | None = None,
    mpp: float | None = None,
    kind: str | None = None,
    section: str | None = None,
) -> Section:
    """Read one section.

    Parameters
    ----------
    path
        A Space Ranger folder (or its ``outs``), an ST folder, an ``.h5ad`` or ``.zarr`` file, or an AnnData
        in memory.
    id
        Name of the section; by default the name of the folder or file.
    patient
        The patient; by default the section's id (for ST arrays its leading letters).
    slide
        The full-resolution slide, when it lies elsewhere; opened or not (`stainglass.sections.spots.NoSlide`: none is needed).
    mpp
        µm per full-resolution px; wins over what is found, and is held against it.
    kind
        ``spaceranger``, ``st`` or ``anndata``; by default seen from the content.
    section
        Which section of a folder that holds several.

    Raises
    ------
    StainglassError
        When it cannot be read or does not pass the checks.
    """
    from stainglass.sections.anndata_ import read_anndata, read_anndata_file

    slide = Path(slide) if isinstance(slide, str) else slide
    if not isinstance(path, str | Path):
        return read_anndata(path, id=id or "section", patient=patient, slide=slide, mpp=mpp)
    path = Path(path)
    kind = kind or kind_of(path)
    if kind == "anndata":
        return read_anndata_file(path, id=id, patient=patient, slide=slide, mpp=mpp)
    if kind == "st":
        from stainglass.sections.st import read_st

        return read_st(path, _only(path, section), id=id, patient=patient, slide=slide, mpp=mpp)
    if kind == "spaceranger":
        from stainglass.sections.spaceranger import only_bins, read_spaceranger

        return read_spaceranger(only_bins(path) or path, id=id, patient=patient, slide=slide, mpp=mpp)
    raise StainglassError(path, f"unknown kind {kind!r}", f"Choose one of {', '.join(KINDS)}")


def _only(folder: Path, section: str | None) -> str:
    from stainglass.sections.st import st_section_ids

    if section is not None:
        return section
    ids = st_section_ids(folder)
    if len(ids) == 1:
        return ids[0]
    raise StainglassError(
        folder,
        f"{len(ids)} sections with an image ({', '.join(ids[:8])})",
        "Say which one with section= (--section of generate), or read them all",
    )


def read_sections(path: str | Path) -> list[SectionSource]:
    """List the sections of a manifest (CSV), an ST folder, or a folder of Space Ranger folders and AnnData
    files.

    Nothing is opened until a source's ``read()`` is called.

    Raises
    ------
    StainglassError
        When there is nothing to read, or the manifest is wrong.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        from stainglass.sections.manifest import read_manifest

        return read_manifest(path)
    if not path.exists():
        raise StainglassError(path, "no such file or folder", "Check the path")
    sources = _sources_of_folder(path) if path.is_dir() else [_source(path)]
    if not sources:
        raise StainglassError(
            path, "no section in this folder", "Give a manifest.csv or the folder of a section"
        )
    names = [source.id for source in sources]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise StainglassError(
            path, f"two sections are called {twice}", "Rename one, or give a manifest with an id for each"
        )
    return sources


def _sources_of_folder(path: Path) -> list[SectionSource]:
    from stainglass.sections.spaceranger import only_bins, sections_within

    if (path / "manifest.csv").is_file():
        return read_sections(path / "manifest.csv")
    if (bins := only_bins(path)) is not None:
        return [_source(bins)]
    try:
        kind = "folder" if len(sections_within(path)) > 1 else kind_of(path)
    except StainglassError:
        kind = "folder"
    if kind == "st":
        return [_st_source(path, section) for section in _st_ids(path)]
    if kind != "folder":
        return [_source(path)]
    children = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
    return [_source(only_bins(child) or child) for child in children if only_bins(child) or _readable(child)]


def _st_ids(path: Path) -> list[str]:
    from stainglass.sections.st import st_section_ids

    return st_section_ids(path)


def _readable(path: Path) -> bool:
    try:
        return kind_of(path) in ("spaceranger", "anndata")
    except StainglassError:
        return False


def _st_source(folder: Path, section: str) -> SectionSource:
    from stainglass.sections.st import patient_of

    return SectionSource(
        section,
        patient_of(section),
        None,
        lambda: read_section(folder, kind="st", section=section),
        {"path": place_of(folder), "section": section},
    )


def _source(path: Path) -> SectionSource:
    name = name_of(path)
    return SectionSource(name, name, None, lambda: read_section(path, id=name), {"path": place_of(path)})
