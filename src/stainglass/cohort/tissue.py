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
BLACK = 24
"""Brightness of each colour below which a cell is no tissue: the darkest nuclei and folds are far above."""
EDGE = 3
"""Cells round what was filled up in which it still shows."""
FLAT = 0.05
"""Distance in optical density within which glass varies."""
GREY = 0.15
"""Between the densities of glass in its colours: stained tissue, however pale, has more."""
GLASS_SHARE = 0.25
"""Share of what is not white that must be of one bright colour for that to be the glass, and white to be none."""


def tissue_mask(image: UInt8[np.ndarray, "h w 3"], least_um2: float = 20_000.0) -> Bool[np.ndarray, "h w"]:
    """Separate tissue from glass on an image of ``TISSUE_MPP`` µm/px.

    The glass is taken to be the commonest bright colour (its hue differs from slide to slide); the
    distance from it in optical density is thresholded by Otsu's method (1979), bounded from below so that
    a slide that is all glass gives no tissue; holes and specks below ``least_um2`` are filled or removed.
    Where an image was filled up, black or white, as after registration, there is neither glass nor tissue.
    """
    density = -np.log((image.astype(np.float32) + 1) / 256)
    smooth = ndimage.gaussian_filter(density, (1.0, 1.0, 0))
    filled = _filled(image, smooth)
    if filled.all():
        return np.zeros(image.shape[:2], dtype=bool)
    glass = _glass(smooth[~filled])
    distance = np.sqrt(((smooth - glass) ** 2).sum(-1))
    # Otsu on the capped distance: nuclei are so dark that they would draw the threshold into the stroma.
    seen = distance[~filled]
    capped = np.minimum(seen, np.quantile(seen, 0.9))
    threshold = max(float(threshold_otsu(capped)) * 0.7, 0.06)
    mask = ndimage.binary_closing((distance > threshold) & ~filled, disk(3), border_value=0) & ~filled
    cells = max(int(least_um2 / TISSUE_MPP**2), 1)
    mask = remove_small_objects(mask, max_size=cells)
    return np.asarray(remove_small_holes(mask, max_size=cells), dtype=bool)


def _glass(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """The commonest of the brightest colours, of (n, 3) optical densities."""
    brightness = density.sum(-1)
    return np.asarray(np.median(density[brightness <= np.quantile(brightness, 0.1)], axis=0))


def _filled(image: UInt8[np.ndarray, "h w 3"], density: NDArray[np.float32]) -> Bool[np.ndarray, "h w"]:
    """Black without colour, which no stain is; and pure white, where what else is bright is one flat colour: the glass."""
    black = ndimage.binary_opening(image.max(-1) < BLACK, disk(2))
    # Its edge is blurred, by resampling and by our own smoothing.
    filled = ndimage.binary_dilation(black, disk(EDGE)) if black.any() else black
    white = (image == 255).all(-1)
    rest = ~filled & ~ndimage.binary_dilation(white, disk(EDGE))
    if white.any() and rest.any():
        glass = _glass(density[rest])
        flat = np.sqrt(((density[rest] - glass) ** 2).sum(-1)) < FLAT
        if flat.mean() >= GLASS_SHARE and glass.sum() > FLAT and np.ptp(glass) < GREY:
            filled = filled | ndimage.binary_dilation(ndimage.binary_opening(white, disk(2)), disk(EDGE))
    return np.asarray(filled, dtype=bool)


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
