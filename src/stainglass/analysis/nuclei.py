"""Coarse morphology that needs no network: nuclei by colour deconvolution, and optical density.

Ruifrok & Johnston 2001. The threshold is fixed once on real training tissue, so that a pale picture is
counted as pale. Counts are peaks of the haematoxylin channel, a proxy, not a segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.ndimage import gaussian_filter, maximum_filter
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

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
        at = np.unique(np.linspace(0, len(training) - 1, SAMPLE).round().astype(int))
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
