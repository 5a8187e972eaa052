"""Space Ranger folders of any version, Visium and Visium HD bins.

Coordinates: ``pxl_row_in_fullres`` (y) and ``pxl_col_in_fullres`` (x) are the centre of the spot in px of the
full-resolution slide, which Space Ranger does not keep; its hires and lowres images are that slide scaled by
``tissue_hires_scalef`` and ``tissue_lowres_scalef``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.sections.assemble import Raw, assemble
from stainglass.sections.matrices import TenxMatrix, is_tenx_h5, read_mtx, read_tenx_h5
from stainglass.sections.names import BINS, name_of
from stainglass.sections.positions import is_positions, read_positions
from stainglass.sections.section import Section
from stainglass.sections.slides import Slide, open_slide

SPOT_DIAMETER_UM = 55.0
SPOT_PITCH_UM = 100.0
DIAMETER_RANGE_UM = (55.0, 75.0)
"""What ``spot_diameter_fullres`` stands for: 65 µm in Space Ranger 1, 70 µm in CytAssist runs, never
quite the spot.
"""

# name in the file, key of its scale, what it is called
IMAGES = (
    ("tissue_hires_image", "tissue_hires_scalef", "the hires image"),
    ("aligned_fiducials", "tissue_hires_scalef", "the image of the aligned fiducials"),
    ("detected_tissue_image", "tissue_hires_scalef", "the image of the detected tissue"),
    ("tissue_lowres_image", "tissue_lowres_scalef", "the lowres image"),
)


@dataclass(frozen=True)
class _Files:
    """What was found in a folder."""

    base: Path
    matrix: Path
    positions: Path
    scale: Path | None
    images: dict[str, Path]


def is_spaceranger(path: Path) -> bool:
    """Whether a folder (or its ``outs``) holds a 10x matrix and spot positions."""
    files = _listing(path)
    return bool(_matrices(files)) and any(is_positions(file) for file in files)


def sections_within(path: Path) -> list[Path]:
    """Folders in a folder that are sections by themselves, each with a matrix and positions."""
    if not path.is_dir():
        return []
    children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [child for child in children if child.name != "outs" and is_spaceranger(child)]


def only_bins(path: Path) -> Path | None:
    """The folder of the one bin size that a Visium HD run wrote; None where there is no such run.

    Raises
    ------
    StainglassError
        When there are several bin sizes: all of them are of the same tissue.
    """
    places = [path, path / "binned_outputs", path / "outs", path / "outs" / "binned_outputs"]
    found = {
        int(size.group(1)): child
        for place in places
        if place.is_dir()
        for child in place.iterdir()
        if (size := BINS.fullmatch(child.name)) and child.is_dir()
    }
    if len(found) > 1:
        sizes = sorted(found)
        raise StainglassError(
            path, f"holds one tissue in bins of {', '.join(map(str, sizes))} µm",
            f"Give the folder of one bin size, such as {found[min(sizes, key=lambda um: abs(um - 8))]}",
        )  # fmt: skip
    return next(iter(found.values()), None)


def _listing(path: Path) -> list[Path]:
    """Files of the folder (or its ``outs``) and of the folders in it; hidden ones are no data."""
    base = path / "outs" if (path / "outs").is_dir() else path
    near = sorted(child for child in base.iterdir() if not child.name.startswith("."))
    inner = [
        file
        for child in near
        if child.is_dir()
        for file in sorted(child.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]
    return [child for child in near if child.is_file()] + inner


def _matrices(files: list[Path]) -> list[Path]:
    """Matrices, the filtered before the raw, HDF5 before Matrix Market."""
    h5 = [file for file in files if file.suffix == ".h5" and is_tenx_h5(file)]
    mtx = [file for file in files if file.name.endswith(("matrix.mtx", "matrix.mtx.gz"))]
    return sorted(
        h5 + mtx, key=lambda file: ("raw" in f"{file.parent.name}/{file.name}", file.suffix != ".h5")
    )


def _find(path: Path) -> _Files:
    files = _listing(path)
    matrices = _matrices(files)
    if not matrices:
        raise StainglassError(
            path, "no *_feature_bc_matrix (h5 or mtx folder) here", "Give the folder Space Ranger wrote"
        )
    positions = [file for file in files if is_positions(file)]
    if not positions:
        raise StainglassError(path, "no spot positions here", "Copy the folder spatial/ as well")
    _refuse_several(path, files)
    positions.sort(key=lambda file: "positions" not in file.name)
    images = {
        key: file
        for key, _, _ in IMAGES
        for file in files
        if file.name.partition(".")[0].endswith(key) and file.suffix.lower() in (".png", ".jpg", ".jpeg")
    }
    scale = next((file for file in files if file.name.endswith("scalefactors_json.json")), None)
    return _Files(path, matrices[0], positions[0], scale, images)


_OWN_NAME = re.compile(r"(.*?)[_.-]*((filtered|raw)_.*|matrix\.mtx.*|tissue_positions.*|scalefactors_json.*)")
"""A sample's name, as in GEO, and Space Ranger's own name of a file."""


def _refuse_several(path: Path, files: list[Path]) -> None:
    """Files of several samples in one folder: counts of one would be put on the image of another.

    Filtered and raw, HDF5 and Matrix Market of one sample may lie beside each other, some with its name before theirs and some
    without; the same file of two samples may not.
    """
    samples: dict[tuple[Path, str], set[str]] = {}
    for file in files:
        if found := _OWN_NAME.fullmatch(file.name):
            samples.setdefault((file.parent, found.group(2)), set()).add(
                found.group(1) or "one without a name"
            )
    several = next((names for names in samples.values() if len(names) > 1), None)
    within = sections_within(path)
    if several is None and len(within) > 1:
        several = {child.name for child in within}
    if several is not None:
        raise StainglassError(
            path, f"holds files of several samples ({', '.join(sorted(several)[:4])})",
            "Put every section into a folder of its own, or name each in a manifest",
        )  # fmt: skip


def read_spaceranger(
    path: Path,
    *,
    id: str | None = None,
    patient: str | None = None,
    slide: Path | Slide | None = None,
    mpp: float | None = None,
) -> Section:
    """Read a Space Ranger folder, or its ``outs``, or one bin size of Visium HD (``square_008um``).

    Parameters
    ----------
    path
        The folder.
    id, patient
        Names; by default the folder's.
    slide
        The full-resolution slide that was given to Space Ranger. Without it the hires image is used, else
        one of
        the same frame, else the lowres image, and a notice says what that cannot show.
    mpp
        µm per full-resolution px.
    """
    files = _find(path)
    matrix = read_tenx_h5(files.matrix) if files.matrix.suffix == ".h5" else read_mtx(files.matrix)
    scale = _scale_file(files)
    opened, slide_scale, notices = _slide(files, scale, slide)
    if matrix.not_genes:
        notices.append(f"{matrix.not_genes} features that are no genes (antibodies, guides, …) were left out")
    name = name_of(path)
    bin_um = scale.get("bin_size_um")
    return assemble(
        Raw(
            where=str(path),
            id=id or name,
            patient=patient or id or name,
            counts=matrix.counts,
            places=read_positions(files.positions),
            slide=opened,
            slide_scale=slide_scale,
            spot_diameter_um=float(bin_um or SPOT_DIAMETER_UM),
            spot_pitch_um=float(bin_um or SPOT_PITCH_UM),
            scale=_scale_sources(scale, mpp, bin_um),
            frame_px_yx=None if slide is None else _frame_px(files, scale),
            files=_input_files(files, matrix),
            notices=notices,
        )
    )


def _input_files(files: _Files, matrix: TenxMatrix) -> list[Path]:
    return [*matrix.files, files.positions, *([files.scale] if files.scale else [])]


def _scale_file(files: _Files) -> dict[str, float]:
    if files.scale is None:
        return {}
    content = read_json(files.scale, "scale file")
    numbers = {key: value for key, value in content.items() if isinstance(value, int | float)}
    wrong = [key for key, value in numbers.items() if not value > 0]
    if wrong:
        raise StainglassError(files.scale, f"{wrong[0]} is {numbers[wrong[0]]}", "Restore the scale file")
    return {key: float(value) for key, value in numbers.items()}


def _scale_sources(scale: dict[str, float], mpp: float | None, bin_um: float | None) -> dict[str, Any]:
    sources: dict[str, Any] = {"explicit": mpp, "stated": scale.get("microns_per_pixel")}
    if bin_um is None and "spot_diameter_fullres" in scale:
        sources["diameter_px"] = scale["spot_diameter_fullres"]
        sources["diameter_range_um"] = DIAMETER_RANGE_UM
    return sources


def _frame_px(files: _Files, scale: dict[str, float]) -> tuple[float, float] | None:
    """(height, width) of the full-resolution slide, by the first smaller image that says how it was scaled."""
    for key, factor, _ in IMAGES:
        if key in files.images and factor in scale:
            with open_slide(files.images[key]) as image:
                height, width = image.size_px_yx
            return height / scale[factor], width / scale[factor]
    return None


def _slide(
    files: _Files, scale: dict[str, float], slide: Path | Slide | None
) -> tuple[Slide, float, list[str]]:
    """The image to use, its px per full-resolution px, and what it cannot show."""
    if slide is not None:
        return (slide if isinstance(slide, Slide) else open_slide(slide)), 1.0, []
    for key, factor, called in IMAGES:
        if key not in files.images:
            continue
        if factor not in scale:
            raise StainglassError(
                files.base,
                f"{files.images[key].name} is here but no {factor} says how it was scaled",
                "Copy scalefactors_json.json as well, or pass slide= with the full-resolution slide",
            )
        notice = f"no full-resolution slide was given: {called} stands for it and shows no single cells"
        if key not in ("tissue_hires_image", "tissue_lowres_image"):
            notice += ", and Space Ranger drew its marks on it"
        return open_slide(files.images[key]), scale[factor], [notice]
    raise StainglassError(
        files.base,
        "no image of the section (tissue_hires_image.png or another)",
        "Pass slide= with the full-resolution slide",
    )
