"""The classes a simulated tissue is made of: how they look and what they express."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class TissueClass:
    """One class of tissue.

    Attributes
    ----------
    name
        As in the truth tables.
    nuclei_per_mm2
        Density of nuclei at a share of one.
    nucleus_um
        Semi-axes (long, short) of a nucleus.
    nucleus_od
        Haematoxylin of a nucleus, in optical density.
    along
        What the long axis follows: ``flow`` of the fibres, ``random``, or ``radial`` (set where it is
        placed).
    haematoxylin, eosin
        Stain of everything but nuclei, in optical density.
    fibrous
        How much of the eosin lies in fibres, from 0 to 1.
    programmes
        Marker programme → weight in the class's expression.
    rna
        RNA of a fully covered spot, relative to the others.
    """

    name: str
    nuclei_per_mm2: float
    nucleus_um: tuple[float, float]
    nucleus_od: float
    along: str
    haematoxylin: float
    eosin: float
    fibrous: float
    programmes: MappingProxyType[str, float]
    rna: float


def _class(
    name: str,
    density: float,
    nucleus: tuple[float, float, float],
    along: str,
    stain: tuple[float, float, float],
    rna: float,
    **programmes: float,
) -> TissueClass:
    long, short, od = nucleus
    return TissueClass(
        name,
        density,
        (long, short),
        od,
        along,
        stain[0],
        stain[1],
        stain[2],
        MappingProxyType(programmes),
        rna,
    )


_IMMUNE = _class(
    "immune",
    10500,
    (2.7, 2.5, 1.35),
    "random",
    (0.13, 0.16, 0.0),
    1.3,
    t_cell=0.5,
    b_plasma=0.25,
    myeloid=0.25,
)
_VESSEL = _class(
    "vessel", 3500, (4.2, 1.4, 1.1), "random", (0.04, 0.55, 0.2), 0.9, endothelial=0.8, smooth_muscle=0.2
)

TISSUES: dict[str, tuple[TissueClass, ...]] = {
    "skin": (
        _class("epidermis", 5200, (3.9, 3.0, 0.85), "random", (0.12, 0.50, 0.0), 1.4, keratinocyte=1.0),
        _class("dermis", 850, (6.0, 1.3, 1.05), "flow", (0.01, 0.72, 0.9), 0.5, fibroblast=1.0),
        _IMMUNE,
        _class(
            "follicle",
            7000,
            (4.0, 2.4, 1.1),
            "random",
            (0.18, 0.36, 0.0),
            1.3,
            hair_follicle=0.7,
            keratinocyte=0.3,
        ),
        _class("melanocytic nest", 4600, (4.4, 3.7, 0.8), "random", (0.10, 0.30, 0.0), 1.2, melanocyte=1.0),
        _VESSEL,
    ),
    "colon": (
        _class("crypt", 5600, (5.0, 2.1, 1.15), "radial", (0.17, 0.30, 0.0), 1.5, epithelial=0.7, goblet=0.3),
        _class("stroma", 1900, (5.4, 1.6, 1.05), "flow", (0.03, 0.50, 0.8), 0.7, fibroblast=0.9, myeloid=0.1),
        _IMMUNE,
        _class("adipose", 350, (4.0, 1.2, 1.1), "random", (0.0, 0.02, 0.0), 0.35, adipocyte=1.0),
        _class("necrosis", 1500, (1.2, 1.0, 1.2), "random", (0.06, 0.80, 0.0), 0.4, stress=1.0),
        _class("muscle", 2100, (8.0, 1.4, 0.95), "flow", (0.02, 0.74, 0.5), 0.9, smooth_muscle=1.0),
        _VESSEL,
    ),
}
"""Tissue → its classes, in the order of the maps."""
