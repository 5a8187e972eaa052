"""Space Ranger folders of any version, Visium and Visium HD bins.

Coordinates: ``pxl_row_in_fullres`` (y) and ``pxl_col_in_fullres`` (x) are the centre of the spot in px of the
full-resolution slide, which Space Ranger does not keep; its hires and lowres images are that slide scaled by
``tissue_hires_scalef`` and ``tissue_lowres_scalef``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.sections.assemble import Raw, assemble
from stainglass.sections.matrices import TenxMatrix, is_tenx_h5, read_mtx, read_tenx_h5
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
    filtered = [
        file for file in matrices if "filtered" in str(file.relative_to(path)) and file.suffix == ".h5"
    ]
    if len(filtered) > 1:
        raise StainglassError(
            path,
            f"several filtered matrices ({', '.join(file.name for file in filtered[:4])})",
            "Put every section into a folder of its own",
        )
    positions = [file for file in files if is_positions(file)]
    if not positions:
        raise StainglassError(path, "no spot positions here", "Copy the folder spatial/ as well")
    positions.sort(key=lambda file: "positions" not in file.name)
    images = {
        key: file
        for key, _, _ in IMAGES
        for file in files
        if file.name.partition(".")[0].endswith(key) and file.suffix.lower() in (".png", ".jpg", ".jpeg")
    }
    scale = next((file for file in files if file.name.endswith("scalefactors_json.json")), None)
    return _Files(path, matrices[0], positions[0], scale, images)


def read_spaceranger(
    path: Path,
    *,
    id: str | None = None,
    patient: str | None = None,
    slide: Path | None = None,
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
    name = _name(path)
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
            files=_input_files(files, matrix),
            notices=notices,
        )
    )


def _name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "outs" else resolved.name


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


def _slide(files: _Files, scale: dict[str, float], slide: Path | None) -> tuple[Slide, float, list[str]]:
    """The image to use, its px per full-resolution px, and what it cannot show."""
    if slide is not None:
        return open_slide(slide), 1.0, []
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
