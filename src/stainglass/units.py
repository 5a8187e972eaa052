"""The one file that converts between pixels, micrometres, mpp and (x, y) / (y, x).

Conventions, everywhere else in the project:

- a position is the centre of the thing, as (y, x), in µm from the slide's top-left corner;
- pixel (0, 0) covers the square from (0, 0) to (1, 1) px, so its centre is at (0.5, 0.5) px and a
  continuous position in px times the mpp is the position in µm, without half-pixel corrections;
- ``mpp`` is µm per px.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LATENT_STEP_PX = 8
"""One latent cell covers 8 × 8 px; windows snap to it so that they can be cut from a latent raster."""


def um_to_px(um: NDArray[np.float64], mpp: float) -> NDArray[np.float64]:
    """µm → px (continuous) at ``mpp`` µm/px."""
    return np.asarray(um, dtype=np.float64) / mpp


def px_to_um(px: NDArray[np.float64], mpp: float) -> NDArray[np.float64]:
    """px (continuous) → µm at ``mpp`` µm/px."""
    return np.asarray(px, dtype=np.float64) * mpp


def xy_to_yx(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Swap the two columns: scanpy's (x, y) → (y, x); its own inverse. Shape (n, 2)."""
    return np.asarray(xy, dtype=np.float64)[:, ::-1].copy()


def snapped_top_left_px(centre_um_yx: NDArray[np.float64], mpp: float, size_px: int) -> NDArray[np.int64]:
    """Top-left corner (y, x) in px of windows around centres, snapped to the latent grid.

    Parameters
    ----------
    centre_um_yx
        (n, 2) centres in µm.
    mpp
        µm/px of the raster.
    size_px
        Side of the window; a multiple of ``LATENT_STEP_PX``.

    Returns
    -------
    (n, 2) integers, multiples of ``LATENT_STEP_PX``, the nearest grid corner.
    """
    corner = um_to_px(np.atleast_2d(centre_um_yx), mpp) - size_px / 2
    return (np.floor(corner / LATENT_STEP_PX + 0.5) * LATENT_STEP_PX).astype(np.int64)


def window_centre_um_yx(top_left_px: NDArray[np.int64], mpp: float, size_px: int) -> NDArray[np.float64]:
    """Centre (y, x) in µm of windows with these top-left corners in px."""
    return px_to_um(np.atleast_2d(top_left_px).astype(np.float64) + size_px / 2, mpp)
