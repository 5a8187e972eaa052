"""Sections that come as AnnData: an ``.h5ad`` or ``.zarr`` file, or an object in memory.

Read are ``obsm["spatial"]`` (x, y of centres in full-resolution px, as scanpy and squidpy keep them), raw
counts
from ``layers["counts"]``, ``X`` or ``raw``, and ``uns["spatial"]`` with images and scale factors when it is
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd

from stainglass.errors import StainglassError
from stainglass.sections.assemble import Counts, Raw, assemble
from stainglass.sections.backends.array_ import ArraySlide
from stainglass.sections.checks import checked_counts
from stainglass.sections.lattice import HEX, lattice_kind
from stainglass.sections.names import name_of
from stainglass.sections.section import Section
from stainglass.sections.slides import Slide, open_slide

VISIUM_DIAMETER_UM = 55.0
VISIUM_PITCH_UM = 100.0
LIBRARY_COLUMN = "library_id"
"""Whose values are sections, by scanpy's and squidpy's custom."""
ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "feature_id")


def is_anndata(path: Path) -> bool:
    """Whether a file or folder holds an AnnData, by content."""
    if path.is_dir():
        return any((path / mark).is_file() for mark in (".zgroup", "zarr.json")) and (path / "obs").is_dir()
    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path) as file:
            return file.attrs.get("encoding-type") == "anndata" or {"obs", "var"} <= set(file)
    except OSError:
        return False


def read_anndata_file(
    path: Path,
    *,
    id: str | None = None,
    patient: str | None = None,
    slide: Path | Slide | None = None,
    mpp: float | None = None,
) -> Section:
    """Read an ``.h5ad`` or ``.zarr`` file (see `read_anndata`)."""
    try:
        spots = anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
    except Exception as error:  # what a broken store raises depends on the byte that broke
        raise StainglassError(
            path, f"not a readable AnnData ({error})", "Write it again with anndata ≥ 0.8"
        ) from error
    return read_anndata(spots, id=id or name_of(path), patient=patient, slide=slide, mpp=mpp, where=path)


def read_anndata(
    spots: anndata.AnnData,
    *,
    id: str,
    patient: str | None = None,
    slide: Path | Slide | None = None,
    mpp: float | None = None,
    where: Path | None = None,
) -> Section:
    """Read an AnnData in memory.

    Parameters
    ----------
    spots
        Spots × genes, with ``obsm["spatial"]``; it is not changed.
    id, patient
        Names; the patient defaults to the one value of ``obs["patient"]``, else to the id.
    slide
        The full-resolution slide; without it the image in ``uns["spatial"]`` is used.
    mpp
        µm per full-resolution px; needed unless the spots carry a Visium lattice or the slide's metadata
        tell.
    where
        The file, for errors.
    """
    told = str(where or id)
    places = _places(spots, told)
    library = _library(spots, told, needs_image=not isinstance(slide, Slide) or slide.holds_pixels)
    factors = dict(library.get("scalefactors", {}))
    opened, scale, notices = _slide(library, factors, slide, told)
    hexagonal = (
        "array_row" in places
        and lattice_kind(places["array_row"].to_numpy(np.int64), places["array_col"].to_numpy(np.int64))
        == HEX
    )
    diameter, notice = _diameter_um(spots, factors, hexagonal, mpp)
    types = spots.obsm.get("cell_types")
    return assemble(
        Raw(
            where=told,
            id=id,
            patient=patient or _only_patient(spots, told) or id,
            counts=anndata_counts(spots, told),
            places=places,
            slide=opened,
            slide_scale=scale,
            spot_diameter_um=diameter,
            spot_pitch_um=VISIUM_PITCH_UM if hexagonal else None,
            scale={"explicit": mpp, "stated": factors.get("microns_per_pixel")},
            frame_px_yx=None if slide is None else _frame_px(library, factors),
            cell_types=types if isinstance(types, pd.DataFrame) else None,
            files=[where] if where is not None else [],
            notices=notices + ([notice] if notice else []),
        )
    )


def _places(spots: anndata.AnnData, told: str) -> pd.DataFrame:
    if "spatial" not in spots.obsm:
        raise StainglassError(
            told, 'no obsm["spatial"]', 'Put the centres (x, y) in full-resolution px into obsm["spatial"]'
        )
    xy = np.asarray(spots.obsm["spatial"], dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise StainglassError(told, f'obsm["spatial"] has shape {xy.shape}', "Give two columns, x and y")
    obs = spots.obs
    places = pd.DataFrame({"x_px": xy[:, 0], "y_px": xy[:, 1]}, index=spots.obs_names.astype(str))
    places["in_tissue"] = (obs["in_tissue"].astype(int) == 1).to_numpy() if "in_tissue" in obs else True
    if {"array_row", "array_col"} <= set(obs):
        places["array_row"] = obs["array_row"].astype(int).to_numpy()
        places["array_col"] = obs["array_col"].astype(int).to_numpy()
    return places


def _library(spots: anndata.AnnData, told: str, needs_image: bool) -> dict[str, Any]:
    """The library of ``uns["spatial"]``; of several the one that all spots are of, as a section has one.

    A subset of an AnnData keeps all libraries in ``uns``; a column of ``obs`` then has one value, which names one of them.
    """
    spatial = spots.uns.get("spatial", {})
    found = (
        {name: it for name, it in spatial.items() if isinstance(it, dict)}
        if isinstance(spatial, dict)
        else {}
    )
    if LIBRARY_COLUMN in spots.obs and len(names := _names(spots, LIBRARY_COLUMN)) > 1:
        raise _several(
            told,
            "sections",
            names,
            f"a file for each, such as adata[adata.obs['{LIBRARY_COLUMN}'] == '{names[0]}']",
        )
    if len(found) > 1:
        for column in spots.obs:
            if len(names := _names(spots, column)) == 1 and names[0] in found:
                return found[names[0]]
        if needs_image:
            raise _several(told, "libraries", list(found), "the one of these spots alone into uns['spatial']")
    return next(iter(found.values()), {})


def _names(spots: anndata.AnnData, column: str) -> list[str]:
    """What stands in a column, each once; where nothing stands, nothing."""
    return [str(value) for value in spots.obs[column].dropna().unique()]


def _only_patient(spots: anndata.AnnData, told: str) -> str | None:
    if "patient" in spots.obs and len(names := _names(spots, "patient")) > 1:
        raise _several(told, "patients", names, "a file for each, or name the one patient in a manifest")
    return patient_in(spots)


def _several(told: str, what: str, names: Sequence[str], remedy: str) -> StainglassError:
    """Their spots would lie on top of each other."""
    shown = ", ".join(list(names)[:4]) + (", …" if len(names) > 4 else "")
    return StainglassError(told, f"holds {len(names)} {what} ({shown})", f"Write {remedy}")


def _frame_px(library: dict[str, Any], factors: dict[str, Any]) -> tuple[float, float] | None:
    """(height, width) of the full-resolution slide, by the image in ``uns["spatial"]``."""
    for key in ("hires", "lowres"):
        image, factor = library.get("images", {}).get(key), factors.get(f"tissue_{key}_scalef")
        if image is not None and factor:
            height, width = np.shape(image)[:2]
            return height / float(factor), width / float(factor)
    return None


def _slide(
    library: dict[str, Any], factors: dict[str, Any], slide: Path | Slide | None, told: str
) -> tuple[Slide, float, list[str]]:
    if slide is not None:
        return (slide if isinstance(slide, Slide) else open_slide(slide)), 1.0, []
    images = library.get("images", {})
    for key in ("hires", "lowres"):
        factor = factors.get(f"tissue_{key}_scalef")
        if key in images and factor is not None:
            notice = (
                f"no full-resolution slide was given: the {key} image stands for it and shows no single cells"
            )
            return ArraySlide(np.asarray(images[key]), Path(told)), float(factor), [notice]
    raise StainglassError(
        told,
        'no slide, and no image with its scale factor in uns["spatial"]',
        "Pass slide= with the full-resolution slide",
    )


def _diameter_um(
    spots: anndata.AnnData, factors: dict[str, Any], hexagonal: bool, mpp: float | None
) -> tuple[float, str | None]:
    if "diameter_um" in spots.obs:
        return float(np.median(spots.obs["diameter_um"].astype(float))), None
    if hexagonal:
        return VISIUM_DIAMETER_UM, None
    if "bin_size_um" in factors:
        return float(factors["bin_size_um"]), None
    mpp = mpp or factors.get("microns_per_pixel")
    if mpp is not None and "spot_diameter_fullres" in factors:
        return float(factors["spot_diameter_fullres"]) * float(mpp), None
    return VISIUM_DIAMETER_UM, f'no obs["diameter_um"]: spots are taken to be {VISIUM_DIAMETER_UM:g} µm wide'


def patient_in(spots: anndata.AnnData) -> str | None:
    """The one value of ``obs["patient"]``, where there is one."""
    names = _names(spots, "patient") if "patient" in spots.obs else []
    return names[0] if len(names) == 1 else None


def anndata_counts(spots: anndata.AnnData, told: str) -> Counts:
    """The first of ``layers["counts"]``, ``X``, ``raw`` that holds raw counts; else the error about
    the first.
    """
    places = []
    if "counts" in spots.layers:
        places.append((spots.layers["counts"], spots.var))
    if spots.X is not None:
        places.append((spots.X, spots.var))
    if spots.raw is not None:
        places.append((spots.raw.X, spots.raw.var))
    if not places:
        raise StainglassError(told, "no counts", 'Put the raw counts into X or layers["counts"]')
    first: StainglassError | None = None
    for matrix, var in places:
        try:
            counts = checked_counts(matrix, told)
        except StainglassError as error:
            first = first or error
            continue
        ids = next((var[column].astype(str).tolist() for column in ID_COLUMNS if column in var), None)
        return Counts(counts, spots.obs_names.astype(str).tolist(), var.index.astype(str).tolist(), ids)
    assert first is not None
    raise first
