"""Spots alone, for painting where there is no slide yet: the checks of reading, without an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stainglass.sections.anndata_ import read_anndata
from stainglass.sections.section import Section
from stainglass.sections.slides import WHITE, Slide


class NoSlide(Slide):
    """Stands where there is no image and none is needed: white, without bounds."""

    backend = "none"
    holds_pixels = False

    def __init__(self) -> None:
        super().__init__(Path("no slide"), [(1, 1)], None)

    def _read_inside(self, top: int, left: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), WHITE, np.uint8)

    def _reopen(self) -> None:
        """Nothing is open."""


def read_spots(adata: AnnData, *, id: str = "adata", mpp: float | None = None) -> Section:
    """Check an AnnData as `read_section` does and return its spots as a section without an image.

    Parameters
    ----------
    adata
        Raw counts; centres in ``obsm["spatial"]`` (x, y in px, with ``mpp`` or a lattice to tell the scale)
        or, as in a cohort, in ``obsm["spatial_um_yx"]`` (y, x in µm), which then wins.

    Raises
    ------
    StainglassError
        As `read_section`.
    """
    in_um = "spatial_um_yx" in adata.obsm
    if in_um:
        adata = adata.copy()
        adata.obsm["spatial"] = np.asarray(adata.obsm["spatial_um_yx"], dtype=np.float64)[:, ::-1]
        mpp = 1.0  # one "px" is one µm
    # Whose they are makes no difference to what is painted.
    read = read_anndata(adata, id=id, patient=id, slide=NoSlide(), mpp=mpp)
    # That µm are µm is no finding.
    return replace(
        read, notices=tuple(one for one in read.notices if not (in_um and one.startswith("µm/px")))
    )
