"""A section as it was read: slide, spots, counts, and what was found wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stainglass.sections.slides import Slide
from stainglass.units import px_to_um, xy_to_yx

if TYPE_CHECKING:
    from anndata import AnnData

OUTSIDE_IMAGE = "outside the image"
OUTSIDE_TISSUE = "outside tissue"
NO_COUNTS = "no counts"


@dataclass(frozen=True)
class Section:
    """One tissue section.

    Attributes
    ----------
    id, patient
        Names; sections of one patient never stand on both sides of a split.
    spots
        Every spot of the input. ``X``: raw counts, float32 csr (spots × genes). ``obs`` (index: barcode):
        ``array_row``, ``array_col`` (-1 when not known), ``in_tissue``, ``used`` (bool), ``why_dropped``
        ("" when
        used), ``diameter_um``. ``obsm["spatial"]``: centres (x, y) in full-resolution px of the source slide.
        ``obsm["cell_types"]`` (shares, a DataFrame) when the input brings them. ``var`` (index: Ensembl
        id): ``symbol``.
    slide
        The opened image.
    slide_scale
        Slide px per full-resolution px: 1 for the full-resolution slide, ``tissue_hires_scalef`` for hires.
    mpp
        µm per full-resolution px, checked (see ``mpp_source``).
    mpp_source
        What ``mpp`` was taken from.
    spot_diameter_um, spot_pitch_um
        Nominal diameter of a spot and distance of neighbouring centres; None when there is no lattice.
    groups
        Any other property of the section (site, sex, batch, …).
    notices
        Findings that did not stop reading, one sentence each.
    inputs
        File → hash (``files.sha256_of``; above 64 MiB, of the size and the first and last MiB, marked
        ``quick-``).
    genes_unmapped
        Gene names that are not in the gene table; kept on the axis as ``symbol:NAME``.
    """

    id: str
    patient: str
    spots: AnnData
    slide: Slide
    slide_scale: float
    mpp: float
    mpp_source: str
    spot_diameter_um: float
    spot_pitch_um: float | None
    groups: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    genes_unmapped: tuple[str, ...] = ()

    @property
    def slide_mpp(self) -> float:
        """µm per px of the opened image."""
        return self.mpp / self.slide_scale

    @property
    def spots_um_yx(self) -> NDArray[np.float64]:
        """(spots, 2) centres (y, x) in µm from the slide's top-left corner."""
        return px_to_um(xy_to_yx(self.spots.obsm["spatial"]), self.mpp)
