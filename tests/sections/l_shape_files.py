"""An L on a slide, in every format: dark where spots have the marker gene; any flip or swap of axes shows."""

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from scipy.io import mmwrite
from scipy.sparse import coo_matrix, csr_matrix

from stainglass.sections.simulate.write import write_matrix_h5, write_pyramid

HEIGHT, WIDTH = 900, 1140
MPP = 1.0
IDS = ["ENSG00000141510", "ENSG00000146648", "ENSG00000186081"]
SYMBOLS = ["TP53", "EGFR", "KRT5"]
MARKER = "ENSG00000186081"


def in_l(y, x):
    """The L: a bar down the left, a foot to the right; no flip, turn or swap leaves it in place."""
    return ((x >= 150) & (x < 350) & (y >= 100) & (y < 800)) | (
        (x >= 150) & (x < 900) & (y >= 620) & (y < 800)
    )


@dataclass
class LShape:
    image: np.ndarray
    positions: pd.DataFrame
    counts: csr_matrix

    @property
    def barcodes(self):
        return self.positions["barcode"].tolist()


def write_slide(image: np.ndarray, folder: Path, flavour: str) -> Path:
    """The slide in one of many kinds of file; all claim 1 µm/px, except the plain JPEG and PNG."""
    endings = {"ome": "ome.tif", "ome-planar": "ome.tif", "bigtiff": "btf"}
    endings |= {"png": "png", "rgba-png": "png", "jpeg": "jpg"}
    path = folder / f"l.{endings.get(flavour, 'tif')}"
    cm = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    if flavour == "pyramid":
        write_pyramid(image, MPP, path)
    elif flavour == "ome":
        metadata = {"axes": "YXS", "PhysicalSizeX": MPP * 1e-3, "PhysicalSizeXUnit": "mm"}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(
                image, subifds=2, tile=(256, 256), photometric="rgb", metadata=metadata, compression="deflate"
            )
            tiff.write(image[::2, ::2], subfiletype=1, tile=(256, 256), photometric="rgb")
            tiff.write(image[::4, ::4], subfiletype=1, tile=(256, 256), photometric="rgb")
    elif flavour == "ome-planar":
        metadata = {"axes": "CYX", "PhysicalSizeX": MPP, "PhysicalSizeXUnit": "µm"}
        tifffile.imwrite(
            path, np.moveaxis(image, -1, 0), ome=True, photometric="minisblack", metadata=metadata
        )
    elif flavour == "plain":
        tifffile.imwrite(path, image, photometric="rgb", metadata=None, **cm)
    elif flavour == "planar":
        planes = np.moveaxis(image, -1, 0)
        tifffile.imwrite(
            path, planes, photometric="rgb", planarconfig="separate", tile=(128, 128), metadata=None, **cm
        )
    elif flavour == "strips":
        tifffile.imwrite(
            path, image, photometric="rgb", rowsperstrip=7, compression="lzw", metadata=None, **cm
        )
    elif flavour == "bigtiff":
        tifffile.imwrite(path, image, photometric="rgb", bigtiff=True, tile=(128, 128), metadata=None, **cm)
    elif flavour == "imagej":
        tifffile.imwrite(
            path, image, imagej=True, resolution=(1 / MPP, 1 / MPP), metadata={"unit": "um", "axes": "YXS"}
        )
    elif flavour == "16bit":
        tifffile.imwrite(path, image.astype(np.uint16) * 257, photometric="rgb", metadata=None, **cm)
    elif flavour == "12bit":
        tifffile.imwrite(path, image.astype(np.uint16) * 16, photometric="rgb", metadata=None, **cm)
    elif flavour == "rgba":
        tifffile.imwrite(path, alpha, photometric="rgb", extrasamples=["unassalpha"], metadata=None, **cm)
    elif flavour == "rgba-png":
        Image.fromarray(alpha).save(path)
    else:
        Image.fromarray(image).save(path, **({"quality": 92, "dpi": (72, 72)} if flavour == "jpeg" else {}))
    return path


def write_positions(positions: pd.DataFrame, spatial: Path, flavour: str) -> None:
    """Spot positions under every name and header that Space Ranger gave them."""
    if flavour == "list":
        positions.to_csv(spatial / "tissue_positions_list.csv", index=False, header=False)
    elif flavour == "list.gz":
        positions.to_csv(spatial / "GSM1_tissue_positions_list.csv.gz", index=False, header=False)
    elif flavour == "header":
        positions.to_csv(spatial / "tissue_positions.csv", index=False)
    elif flavour == "header under the old name":
        positions.to_csv(spatial / "tissue_positions_list.csv", index=False)
    elif flavour == "parquet":
        positions.to_parquet(spatial / "tissue_positions.parquet")


def write_matrix(shape: LShape, outs: Path, flavour: str, barcodes=None, kinds=None) -> None:
    """Counts as HDF5, or as a Matrix Market folder of version 2 or 3."""
    barcodes = barcodes or shape.barcodes
    if flavour == "h5":
        write_matrix_h5(shape.counts, barcodes, IDS, SYMBOLS, outs / "filtered_feature_bc_matrix.h5")
        return
    folder = outs / ("raw_feature_bc_matrix" if "raw" in flavour else "filtered_feature_bc_matrix")
    folder.mkdir(exist_ok=True)
    mmwrite(folder / "matrix.mtx", coo_matrix(shape.counts.T))
    (folder / "barcodes.tsv").write_text("\n".join(barcodes) + "\n")
    if "genes" in flavour:
        (folder / "genes.tsv").write_text("".join(f"{i}\t{s}\n" for i, s in zip(IDS, SYMBOLS, strict=True)))
    else:
        kinds = kinds or ["Gene Expression"] * 3
        rows = zip(IDS, SYMBOLS, kinds, strict=True)
        (folder / "features.tsv").write_text("".join(f"{i}\t{s}\t{k}\n" for i, s, k in rows))
    if flavour.endswith("gz"):
        for file in list(folder.iterdir()):
            with file.open("rb") as source, gzip.open(f"{file}.gz", "wb") as target:
                shutil.copyfileobj(source, target)
            file.unlink()


def write_spatial(shape: LShape, outs: Path, positions: str, images=("hires", "lowres")) -> None:
    spatial = outs / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    write_positions(shape.positions, spatial, positions)
    scales = {"hires": 0.5, "lowres": 0.25}
    for name in images:
        image = Image.fromarray(shape.image)
        small = image.resize((round(WIDTH * scales[name]), round(HEIGHT * scales[name])))
        small.save(spatial / f"tissue_{name}_image.png")
    factors = {
        "spot_diameter_fullres": 65.0,
        "tissue_hires_scalef": 0.5,
        "tissue_lowres_scalef": 0.25,
        "fiducial_diameter_fullres": 105.0,
    }
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
