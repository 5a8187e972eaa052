"""Where the tissue is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, remove_small_holes, remove_small_objects

TISSUE_MPP = 8.0
"""µm a cell of the tissue mask."""


def tissue_mask(image: UInt8[np.ndarray, "h w 3"], least_um2: float = 20_000.0) -> Bool[np.ndarray, "h w"]:
    """Separate tissue from glass on an image of ``TISSUE_MPP`` µm/px.

    The glass is taken to be the commonest bright colour (its hue differs from slide to slide); the
    distance from it in optical density is thresholded by Otsu's method (1979), bounded from below so that
    a slide that is all glass gives no tissue; holes and specks below ``least_um2`` are filled or removed.
    """
    density = -np.log((image.astype(np.float32) + 1) / 256)
    smooth = ndimage.gaussian_filter(density, (1.0, 1.0, 0))
    brightness = smooth.sum(-1)
    glass = np.median(smooth[brightness <= np.quantile(brightness, 0.1)], axis=0)
    distance = np.sqrt(((smooth - glass) ** 2).sum(-1))
    # Otsu on the capped distance: nuclei are so dark that they would draw the threshold into the stroma.
    capped = np.minimum(distance, np.quantile(distance, 0.9))
    threshold = max(float(threshold_otsu(capped)) * 0.7, 0.06)
    mask = ndimage.binary_closing(distance > threshold, disk(3), border_value=0)
    cells = max(int(least_um2 / TISSUE_MPP**2), 1)
    mask = remove_small_objects(mask, max_size=cells)
    return np.asarray(remove_small_holes(mask, max_size=cells), dtype=bool)


def grown(mask: Bool[np.ndarray, "h w"], by_um: float) -> Bool[np.ndarray, "h w"]:
    """Everything within ``by_um`` of the mask."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) * TISSUE_MPP <= by_um, dtype=bool)


def tissue_share(
    mask: Bool[np.ndarray, "h w"], centres_um_yx: NDArray[np.float64], diameter_um: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Share of each spot's disk that is tissue; (n,) in 0…1, 0 for a spot outside the image."""
    shares = np.zeros(len(centres_um_yx), np.float32)
    for i, ((y, x), diameter) in enumerate(zip(centres_um_yx, diameter_um)):
        reach = diameter / 2
        rows = np.arange(int((y - reach) / TISSUE_MPP), int((y + reach) / TISSUE_MPP) + 1)
        columns = np.arange(int((x - reach) / TISSUE_MPP), int((x + reach) / TISSUE_MPP) + 1)
        rows, columns = (
            rows[(rows >= 0) & (rows < mask.shape[0])],
            columns[(columns >= 0) & (columns < mask.shape[1])],
        )
        if not len(rows) or not len(columns):
            continue
        inside = np.hypot(
            (rows[:, None] + 0.5) * TISSUE_MPP - y, (columns[None] + 0.5) * TISSUE_MPP - x
        ) <= max(reach, TISSUE_MPP)
        cells = mask[np.ix_(rows, columns)]
        shares[i] = cells[inside].mean() if inside.any() else 0.0
    return shares
