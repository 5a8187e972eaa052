"""Write a simulated section the way a real one comes: a Space Ranger folder and a pyramidal TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_matrix

from stainglass.files import write_json

HIRES_PX = 2000
LOWRES_PX = 600


def write_pyramid(image: NDArray[np.uint8], mpp: float, path: Path) -> None:
    """Write a generic tiled pyramid (256 px JPEG tiles, reduced pages), its scale in the resolution tags."""
    px_per_cm = 1e4 / mpp
    page: NDArray[np.uint8] = image
    with tifffile.TiffWriter(path) as tiff:
        factor = 1
        while True:
            tiff.write(
                page,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 92},
                subfiletype=1 if factor > 1 else 0,
                resolution=(px_per_cm / factor, px_per_cm / factor),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            if max(page.shape[:2]) <= 512:
                break
            page = np.asarray(Image.fromarray(page).reduce(2))
            factor *= 2


def write_matrix_h5(
    counts: csr_matrix, barcodes: Sequence[str], ids: Sequence[str], symbols: Sequence[str], path: Path
) -> None:
    """Write (spots, genes) counts as Space Ranger's ``*_feature_bc_matrix.h5`` (10x HDF5, version 3)."""
    number = len(ids)
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = "Spatial 3' v1"
        file.attrs["software_version"] = "simulated"
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group.create_dataset("data", data=counts.data.astype(np.int32), compression="gzip")
        group.create_dataset("indices", data=counts.indices.astype(np.int64), compression="gzip")
        group["indptr"] = counts.indptr.astype(np.int64)
        group["shape"] = np.array([number, counts.shape[0]], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array(ids, dtype="S")
        features["name"] = np.array(symbols, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * number, dtype="S")
        features["genome"] = np.array(["GRCh38"] * number, dtype="S")
        features["_all_tag_keys"] = np.array(["genome"], dtype="S")


def write_spaceranger(
    outs: Path,
    image: NDArray[np.uint8],
    mpp: float,
    positions: pd.DataFrame,
    counts: csr_matrix,
    ids: Sequence[str],
    symbols: Sequence[str],
) -> None:
    """Write ``outs/`` of a section.

    Parameters
    ----------
    outs
        The folder.
    image
        (h, w, 3), the full-resolution slide.
    mpp
        µm per px.
    positions
        Space Ranger's columns, in its order; ``barcode`` among them.
    counts
        (spots in tissue, genes), in the order of the positions with ``in_tissue``.
    ids, symbols
        Of the genes.
    """
    spatial = outs / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    barcodes = positions.loc[positions["in_tissue"] == 1, "barcode"].tolist()
    write_matrix_h5(counts, barcodes, ids, symbols, outs / "filtered_feature_bc_matrix.h5")
    positions.to_csv(spatial / "tissue_positions.csv", index=False)
    longest = max(image.shape[:2])
    scales = {"hires": min(HIRES_PX / longest, 1.0), "lowres": min(LOWRES_PX / longest, 1.0)}
    for name, scale in scales.items():
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        small.save(spatial / f"tissue_{name}_image.png", compress_level=1)
    write_json(
        spatial / "scalefactors_json.json",
        {
            "spot_diameter_fullres": 65.0 / mpp,
            "tissue_hires_scalef": scales["hires"],
            "fiducial_diameter_fullres": 105.0 / mpp,
            "tissue_lowres_scalef": scales["lowres"],
        },
    )
