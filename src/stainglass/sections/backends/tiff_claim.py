"""What the metadata of a TIFF claim about its µm/px."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import tifffile

from stainglass.sections.slides import UM_PER_INCH, plausible_claim

_UM_PER_UNIT = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "\\u00b5m": 1.0, "nm": 1e-3, "in": UM_PER_INCH, "inch": UM_PER_INCH,
}  # fmt: skip
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")


def claimed_mpp(tiff: tifffile.TiffFile) -> float | None:
    """µm/px along x: OME's physical size, else ImageJ's, else Aperio's, else the resolution tags."""
    page = tiff.pages.first
    if tiff.is_ome and tiff.ome_metadata:
        # An OME file without a physical size says nothing: its resolution tags are the writer's default.
        claim = _from_ome(tiff.ome_metadata)
        if claim is not None:
            return plausible_claim(claim)
    if tiff.is_imagej:
        return plausible_claim(_from_imagej(tiff, page))
    aperio = _APERIO.search(str(getattr(page, "description", "")))
    if aperio is not None:
        return plausible_claim(float(aperio.group(1)))
    return plausible_claim(_from_tags(page))


def _from_ome(xml: str) -> float | None:
    try:
        # The XML is the slide's own header, a few kB that tifffile has parsed already.
        root = ElementTree.fromstring(xml)  # noqa: S314
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    unit = _UM_PER_UNIT.get(pixels.attrib.get("PhysicalSizeXUnit", "µm"))
    return float(pixels.attrib["PhysicalSizeX"]) * unit if unit is not None else None


def _px_per_unit(page: tifffile.TiffPage) -> float | None:
    tag = page.tags.get("XResolution")
    if tag is None:
        return None
    numerator, denominator = tag.value
    return numerator / denominator if denominator and numerator else None


def _from_imagej(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    unit = _UM_PER_UNIT.get(str((tiff.imagej_metadata or {}).get("unit", "")).lower())
    density = _px_per_unit(page)
    return unit / density if unit is not None and density else None


def _from_tags(page: tifffile.TiffPage) -> float | None:
    density = _px_per_unit(page)
    tag = page.tags.get("ResolutionUnit")
    # Without the tag TIFF means inches; 1 means "no unit", a ratio of sides only.
    unit = {2: UM_PER_INCH, 3: 1e4}.get(int(tag.value) if tag is not None else 2)
    return unit / density if unit is not None and density else None
