"""Morphology that needs no network: nuclei by colour deconvolution, and optical density.

Ruifrok & Johnston 2001. The threshold is fixed once on real training tissue, so that a pale picture is
counted as pale. `NucleusReader` counts peaks of the haematoxylin channel, a fast proxy that the card uses;
`NucleusFinder` draws every nucleus, and is what components are measured with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int32, UInt8
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_opening,
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    gaussian_laplace,
    label,
    maximum_filter,
)
from scipy.spatial import cKDTree
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from stainglass.analysis.polygons import Polygon, polygons_of_mask
from stainglass.cohort.cohort import PreparedSection
from stainglass.cohort.tissue import TISSUE_MPP
from stainglass.progress import progress_bar
from stainglass.spread import spread

SMOOTH_UM = 1.0
"""A nucleus is some 6 to 10 µm wide: smoothing by 1 µm drops chromatin texture, keeps nuclei apart."""

APART_UM = 4.0
SAMPLE = 48

LOOKS = ("nuclei_density", "nuclei_area", "optical_density")
"""The columns of `NucleusReader.read`."""


@dataclass(frozen=True)
class NucleusReader:
    """Counts nuclei with a fixed threshold.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel is nucleus.
    mpp
        µm per px.
    """

    threshold: float
    mpp: float

    @classmethod
    def fit(cls, training: UInt8[np.ndarray, "n h w 3"], mpp: float) -> NucleusReader:
        """Otsu's threshold of real training windows (48 of them, evenly chosen)."""
        at = spread(len(training), SAMPLE)
        stain = np.concatenate([_haematoxylin(training[i], mpp).ravel() for i in at])
        flat = float(stain.max()) <= float(stain.min())
        return cls(float(stain.max()) if flat else float(threshold_otsu(stain)), mpp)

    def read(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, "n 3"]:
        """Nuclei per mm², share of area that is nucleus, mean optical density, of each picture."""
        return np.array([self._read_one(picture) for picture in pixels], np.float64).reshape(-1, 3)

    def _read_one(self, picture: UInt8[np.ndarray, "h w 3"]) -> tuple[float, float, float]:
        stain = _haematoxylin(picture, self.mpp)
        within = 2 * max(1, round(APART_UM / self.mpp)) + 1
        # In a flat picture every pixel equals its neighbourhood's maximum, and none is a nucleus.
        flat = np.ptp(stain) < 1e-6
        peak = (stain == maximum_filter(stain, size=within)) & (stain > self.threshold)
        peaks = 0 if flat else int(peak.sum())
        area_mm2 = stain.size * (self.mpp / 1000) ** 2
        density = -np.log10((picture.astype(np.float32) + 1) / 256).mean()
        return peaks / area_mm2, float((stain > self.threshold).mean()), float(density)


def _haematoxylin(picture: UInt8[np.ndarray, "h w 3"], mpp: float) -> Float64[np.ndarray, "h w"]:
    stain = rgb2hed(picture)[..., 0]
    return np.asarray(gaussian_filter(stain, SMOOTH_UM / mpp), np.float64)


EDGE_UM = 0.7
BLOB_UM = 2.0
"""Deviation of the Laplacian of Gaussian that finds nuclei: its zero crossing lies 2.8 µm from a nucleus' centre."""
BACKGROUND_UM = 10.0
PALE, CONTRAST = 0.45, 0.30
"""A pixel below the threshold is nucleus all the same when it has this share of it, and stands out by that share:
nuclei in stroma are paler than a crowd of lymphocytes, from which a threshold is mostly drawn."""
CAP = 3.0
"""Haematoxylin above this many thresholds counts as this many: the darkest pixels of a clump must not hide the rest."""
SEED_UM = 3.0
SEED_CURVATURE, CORE_CURVATURE = 0.15, 0.05
GROW_UM = 1.5
LEAST_UM2 = 12.0
"""Smaller than half a lymphocyte's nucleus."""
HALO_UM = 64.0
"""How far a tile is read beyond its border: the background's filter sees 40 µm, a clump is divided by its own shape."""
DOUBLE_UM = 2.0
MATCH_UM = 4.0

Labels = Int32[np.ndarray, "h w"]


@dataclass(frozen=True)
class NucleusFinder:
    """Finds nuclei: colour deconvolution (Ruifrok & Johnston 2001), then a watershed from blobs (Meyer 1994).

    Haematoxylin is thresholded, globally and against its surroundings; seeds are the tops of the Laplacian of
    Gaussian (Al-Kofahi et al. 2010) and of the distance to the border; the watershed parts nuclei that touch.

    Attributes
    ----------
    threshold
        Haematoxylin of a nucleus, fixed on real training tissue.
    mpp
        µm per px.
    """

    threshold: float
    mpp: float

    @classmethod
    def fit(cls, training: UInt8[np.ndarray, "n h w 3"], mpp: float) -> NucleusFinder:
        """Otsu's threshold of real training windows (48 of them, evenly chosen)."""
        at = spread(len(training), SAMPLE)
        stain = np.concatenate(
            [gaussian_filter(rgb2hed(training[i])[..., 0], EDGE_UM / mpp).ravel() for i in at]
        )
        flat = float(stain.max()) <= float(stain.min())
        return cls(float(stain.max()) if flat else float(threshold_otsu(stain)), mpp)

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> Labels:
        """Label the nuclei of a picture 1, 2, …; 0 is everything else."""
        raw = rgb2hed(picture)[..., 0]
        if np.ptp(raw) < 1e-6 or not self.threshold > 0:
            return np.zeros(raw.shape, np.int32)
        stain = gaussian_filter(raw, EDGE_UM / self.mpp)
        capped = np.minimum(raw, CAP * self.threshold)
        blob_px = BLOB_UM / self.mpp
        curvature = -gaussian_laplace(capped, blob_px) * blob_px**2 / self.threshold
        stands_out = stain - gaussian_filter(capped, BACKGROUND_UM / self.mpp) > CONTRAST * self.threshold
        mask = (stain > self.threshold) | ((stain > PALE * self.threshold) & stands_out)
        core = mask & (curvature > CORE_CURVATURE)
        if self.mpp < 0.8:  # coarser pixels are wider than the bridges this cuts
            core = binary_opening(core)
        depth = gaussian_filter(distance_transform_edt(core) * self.mpp, 0.6 / self.mpp) / 3 + curvature
        top = depth == maximum_filter(depth, footprint=_disc(max(1, round(SEED_UM / self.mpp))))
        seeds, _ = label(top & core & (curvature > SEED_CURVATURE), np.ones((3, 3)))
        found = _without_small(watershed(-depth, seeds, mask=core), LEAST_UM2 / 2 / self.mpp**2)
        near = distance_transform_edt(found == 0) * self.mpp <= GROW_UM
        grown = watershed(-stain, found, mask=(mask & near) | (found > 0))
        return _without_small(grown, LEAST_UM2 / self.mpp**2)

    def measure(self, labels: Labels, picture: UInt8[np.ndarray, "h w 3"]) -> pd.DataFrame:
        """One row a nucleus.

        Returns
        -------
        Index: the label. ``y_um``, ``x_um`` (centre, from the picture's corner), ``area_um2``, ``perimeter_um``
        (Crofton's formula, which turning hardly changes), ``long_um``, ``short_um`` (axes of the ellipse of equal
        moments) and ``haematoxylin``, its mean in optical density.
        """
        stain = rgb2hed(picture)[..., 0]
        wanted = ("label", "centroid", "area", "perimeter_crofton", "axis_major_length", "axis_minor_length",
                  "intensity_mean")  # fmt: skip
        found = pd.DataFrame(regionprops_table(labels, stain, properties=wanted)).set_index("label")
        return pd.DataFrame(
            {
                "y_um": (found["centroid-0"] + 0.5) * self.mpp,
                "x_um": (found["centroid-1"] + 0.5) * self.mpp,
                "area_um2": found["area"] * self.mpp**2,
                "perimeter_um": found["perimeter_crofton"] * self.mpp,
                "long_um": found["axis_major_length"] * self.mpp,
                "short_um": found["axis_minor_length"] * self.mpp,
                "haematoxylin": found["intensity_mean"],
            }
        )


@dataclass(frozen=True)
class FoundNuclei:
    """Nuclei of a whole section, or of patches put where they belong.

    Attributes
    ----------
    table
        `NucleusFinder.measure`, positions in µm from the slide's corner; row i is outline i.
    outlines
        Of each nucleus, its polygons in µm (y, x); see `stainglass.analysis.polygons.polygons_of_mask`.
    """

    table: pd.DataFrame
    outlines: tuple[tuple[Polygon, ...], ...]

    def __len__(self) -> int:
        return len(self.outlines)

    def take(self, keep: NDArray[np.integer] | NDArray[np.bool_]) -> FoundNuclei:
        """Some of them."""
        at = np.flatnonzero(keep) if keep.dtype == bool else keep
        return FoundNuclei(
            self.table.iloc[at].reset_index(drop=True), tuple(self.outlines[int(i)] for i in at)
        )

    @classmethod
    def joined(cls, parts: Sequence[FoundNuclei]) -> FoundNuclei:
        """Several, one after the other."""
        full = [part.table for part in parts if len(part)]
        table = pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(NUCLEUS_COLUMNS))
        return cls(table, tuple(outline for part in parts for outline in part.outlines))


NUCLEUS_COLUMNS = ("y_um", "x_um", "area_um2", "perimeter_um", "long_um", "short_um", "haematoxylin")


def nuclei_of_picture(
    picture: UInt8[np.ndarray, "h w 3"],
    finder: NucleusFinder,
    corner_um_yx: tuple[float, float] = (0.0, 0.0),
    within_px: tuple[slice, slice] | None = None,
    labels: Labels | None = None,
) -> FoundNuclei:
    """Nuclei of one picture whose corner lies at ``corner_um_yx`` of the slide.

    Parameters
    ----------
    within_px
        Keep nuclei whose centre lies in these rows and columns only (start ≤ centre < stop).
    labels
        What `NucleusFinder.find` gave, when it is known.
    """
    labels = finder.find(picture) if labels is None else labels
    table = finder.measure(labels, picture)
    boxes = find_objects(labels)
    if within_px is not None:
        y, x = table["y_um"] / finder.mpp, table["x_um"] / finder.mpp
        rows, columns = within_px
        table = table[(y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)]
    outlines = []
    for name in table.index:
        box = boxes[int(name) - 1]
        start = (corner_um_yx[0] + box[0].start * finder.mpp, corner_um_yx[1] + box[1].start * finder.mpp)
        outlines.append(tuple(polygons_of_mask(labels[box] == name, start, finder.mpp)))
    table = table.assign(y_um=table["y_um"] + corner_um_yx[0], x_um=table["x_um"] + corner_um_yx[1])
    return FoundNuclei(table.reset_index(drop=True), tuple(outlines))


def nuclei_of_section(section: PreparedSection, finder: NucleusFinder, tile_px: int = 1024) -> FoundNuclei:
    """Nuclei of a whole real section, read tile by tile: memory does not grow with the slide.

    Each tile is read with `HALO_UM` of its surroundings, and keeps the nuclei whose centre is its own, so that a
    nucleus on a border is found whole and once. Tiles without tissue are passed over.
    """
    height, width = section.size_px_yx
    halo = round(HALO_UM / finder.mpp)
    corners = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    parts = []
    with progress_bar(f"nuclei of {section.id}", len(corners)) as advance:
        for y, x in corners:
            rows, columns = slice(y, min(y + tile_px, height)), slice(x, min(x + tile_px, width))
            if _tissue_in(section, rows, columns):
                top, left = max(0, y - halo), max(0, x - halo)
                picture = np.asarray(section.raster[top : rows.stop + halo, left : columns.stop + halo])
                own = (slice(y - top, rows.stop - top), slice(x - left, columns.stop - left))
                parts.append(nuclei_of_picture(picture, finder, (top * finder.mpp, left * finder.mpp), own))
            advance()
    return _once(FoundNuclei.joined(parts))


def nuclei_of_patches(
    pixels: UInt8[np.ndarray, "n size size 3"],
    corners_um_yx: Float64[np.ndarray, "n 2"],
    finder: NucleusFinder,
    labels: Sequence[Labels],
) -> FoundNuclei:
    """Nuclei of patches; where patches overlap, each in the patch whose centre is nearest.

    So every place of the tissue is counted once, in real and in generated patches alike.

    Parameters
    ----------
    corners_um_yx
        Of the patches.
    labels
        What `NucleusFinder.find` gave for each.
    """
    half = np.array(pixels.shape[1:3]) * finder.mpp / 2
    tree = cKDTree(corners_um_yx + half)
    parts = []
    for i, picture in enumerate(pixels):
        corner = (float(corners_um_yx[i, 0]), float(corners_um_yx[i, 1]))
        found = nuclei_of_picture(picture, finder, corner, labels=labels[i])
        if len(found):
            own = tree.query(found.table[["y_um", "x_um"]].to_numpy())[1] == i
            found = found.take(np.asarray(own))
        parts.append(found)
    return FoundNuclei.joined(parts)


def detection(
    found_um_yx: Float64[np.ndarray, "n 2"],
    true_um_yx: Float64[np.ndarray, "m 2"],
    within_um: float = MATCH_UM,
) -> dict[str, float]:
    """Precision, recall and F1 of nuclei against known ones: pairs that are each other's nearest, and near."""
    hits = 0
    if len(found_um_yx) and len(true_um_yx):
        away, nearest = cKDTree(found_um_yx).query(true_um_yx)
        back = cKDTree(true_um_yx).query(found_um_yx)[1]
        hits = int(((away <= within_um) & (back[nearest] == np.arange(len(true_um_yx)))).sum())
    total = len(found_um_yx) + len(true_um_yx)
    return {
        "precision": hits / len(found_um_yx) if len(found_um_yx) else float("nan"),
        "recall": hits / len(true_um_yx) if len(true_um_yx) else float("nan"),
        "f1": 2 * hits / total if total else float("nan"),
    }


def _tissue_in(section: PreparedSection, rows: slice, columns: slice) -> bool:
    scale = section.mpp / TISSUE_MPP
    cells = section.tissue[
        int(rows.start * scale) : int(np.ceil(rows.stop * scale)),
        int(columns.start * scale) : int(np.ceil(columns.stop * scale)),
    ]
    return bool(cells.any())


def _once(found: FoundNuclei) -> FoundNuclei:
    """Two tiles may divide a clump on their border in different ways: of two centres too near, the first stays."""
    if len(found) < 2:
        return found
    pairs = cKDTree(found.table[["y_um", "x_um"]].to_numpy()).query_pairs(DOUBLE_UM, output_type="ndarray")
    return found.take(~np.isin(np.arange(len(found)), pairs.max(axis=1, initial=-1)))


def _disc(radius: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y**2 + x**2 <= radius**2)


def _without_small(labels: NDArray[np.integer], least_px: float) -> Labels:
    small = np.bincount(labels.ravel()) < least_px
    small[0] = False
    return np.where(small[labels], 0, labels).astype(np.int32)
