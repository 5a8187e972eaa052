"""Sections of the original Spatial Transcriptomics arrays, in the layout of the HER2ST publication.

    counts/ID.tsv[.gz]   spots × genes, rows named XxY          images/ID.jpg    the H&E slide, full
    resolution
    spots/ID.tsv         x y new_x new_y pixel_x pixel_y selected       celltypes/ID.tsv   optional shares

Spots are 100 µm wide, 200 µm apart. ``pixel_x`` and ``pixel_y`` are the centre, in px of the slide.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.sections.assemble import Counts, Raw, assemble
from stainglass.sections.section import Section
from stainglass.sections.slides import Slide, open_slide

SPOT_DIAMETER_UM = 100.0
SPOT_PITCH_UM = 200.0
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def is_st_folder(path: Path) -> bool:
    """Whether ``path`` has the layout."""
    return (path / "counts").is_dir() and (path / "spots").is_dir()


def st_section_ids(folder: Path) -> list[str]:
    """Ids of the sections that have an image, in order."""
    images = folder / "images"
    found = (
        {image.stem for image in images.iterdir() if image.suffix.lower() in IMAGE_ENDINGS}
        if images.is_dir()
        else set()
    )
    return sorted(section for section in found if (folder / "spots" / f"{section}.tsv").is_file())


def st_expression_ids(folder: Path) -> list[str]:
    """Ids of the sections that have counts and no image, in order."""
    counted = {path.name.split(".")[0] for path in (folder / "counts").glob("*.tsv*")}
    return sorted(counted - set(st_section_ids(folder)))


def st_counts(folder: Path, section: str) -> Counts:
    """The count matrix of one section."""
    return _counts(_one_of(folder / "counts", section, (".tsv.gz", ".tsv"), "counts"))


def patient_of(section_id: str) -> str:
    """The leading letters of the section's id."""
    found = re.match(r"[A-Za-z]+", section_id)
    return found.group(0) if found else section_id


def read_st(
    folder: Path,
    section: str,
    *,
    id: str | None = None,
    patient: str | None = None,
    slide: Path | Slide | None = None,
    mpp: float | None = None,
) -> Section:
    """Read one section of such a folder.

    Parameters
    ----------
    folder
        The folder with ``counts/``, ``spots/`` and ``images/``.
    section
        Its id there.
    id, patient
        Names to give; by default the id, and its leading letters.
    slide
        Another full-resolution image of the section.
    mpp
        µm/px, when the lattice is not to be believed.
    """
    counts_file = _one_of(folder / "counts", section, (".tsv.gz", ".tsv"), "counts")
    places_file = _one_of(folder / "spots", section, (".tsv",), "spots")
    image = slide or _one_of(folder / "images", section, IMAGE_ENDINGS, "image")
    types_file = folder / "celltypes" / f"{section}.tsv"
    return assemble(
        Raw(
            where=f"{folder}/{section}",
            id=id or section,
            patient=patient or patient_of(section),
            counts=_counts(counts_file),
            places=_places(places_file),
            slide=image if isinstance(image, Slide) else open_slide(image),
            slide_scale=1.0,
            spot_diameter_um=SPOT_DIAMETER_UM,
            spot_pitch_um=SPOT_PITCH_UM,
            scale={"explicit": mpp},
            cell_types=pd.read_csv(types_file, sep="\t", index_col=0) if types_file.is_file() else None,
            files=[file for file in (counts_file, places_file, types_file) if file.is_file()],
        )
    )


def _one_of(folder: Path, section: str, endings: tuple[str, ...], what: str) -> Path:
    for ending in endings:
        if (folder / f"{section}{ending}").is_file():
            return folder / f"{section}{ending}"
    raise StainglassError(
        folder,
        f"no {what} of section {section} ({section}{endings[0]})",
        "Check the section's id and the folder",
    )


def _counts(path: Path) -> Counts:
    try:
        table = pd.read_csv(path, sep="\t", index_col=0)
    except (OSError, EOFError, ValueError) as error:
        raise StainglassError(
            path, f"not a readable table of counts ({error})", "Restore the file"
        ) from error
    text = [str(name) for name, kind in table.dtypes.items() if kind.kind not in "buif"]
    if text:
        raise StainglassError(path, f"gene {text[0]} holds text, not counts", "Restore the file")
    return Counts(
        csr_matrix(table.to_numpy()),
        [str(name) for name in table.index],
        [str(name) for name in table.columns],
    )


def _places(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t")
    missing = {"x", "y", "pixel_x", "pixel_y"} - set(table.columns)
    if missing:
        raise StainglassError(
            path, f"no column {', '.join(sorted(missing))}", "Give x, y, pixel_x and pixel_y"
        )
    barcodes = [f"{x}x{y}" for x, y in zip(table["x"], table["y"], strict=True)]
    selected = table["selected"] if "selected" in table else np.ones(len(table))
    return pd.DataFrame(
        {
            "x_px": table["pixel_x"].to_numpy(),
            "y_px": table["pixel_y"].to_numpy(),
            "array_row": table["y"].to_numpy(),
            "array_col": table["x"].to_numpy(),
            "in_tissue": np.asarray(selected) == 1,
        },
        index=barcodes,
    )
