"""Polygons with holes: from masks, back to masks, round points, and to and from QuPath's GeoJSON.

A polygon is a tuple of rings, the outer one first, then its holes; a ring is (k, 2) corners (y, x), not closed.
In GeoJSON rings are closed and positions are (x, y) px of the full-resolution slide, as QuPath reads and writes
them; everywhere else they are µm.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray
from skimage.measure import find_contours, points_in_poly

from stainglass.cohort.cohort import PreparedSection
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json

Ring = NDArray[np.float64]
Polygon = tuple[Ring, ...]
DECIMALS = 2
"""A hundredth of a pixel."""


def polygons_of_mask(
    mask: Bool[np.ndarray, "h w"], corner_um_yx: tuple[float, float] = (0.0, 0.0), cell_um: float = 1.0
) -> list[Polygon]:
    """The 4-connected pieces of a mask as polygons in µm, holes kept.

    Contours run half-way between cells' centres (marching squares, Lorensen & Cline 1987), so that a cell's centre
    lies inside exactly when the cell is set: `mask_of_polygons` gives the mask back.

    Parameters
    ----------
    corner_um_yx
        Position of the mask's corner.
    cell_um
        Side of a cell.
    """
    rings = [ring[:-1] - 0.5 for ring in find_contours(np.pad(mask, 1).astype(np.float64), 0.5)]
    # Contours wind with high values on their left: outer rings and holes have areas of different signs.
    outer = [[ring] for ring in rings if signed_area(ring) > 0]
    for hole in (ring for ring in rings if signed_area(ring) < 0):
        around = [piece for piece in outer if points_in_poly(hole[:1], piece[0])[0]]
        min(around, key=lambda piece: abs(signed_area(piece[0]))).append(hole)
    corner = np.asarray(corner_um_yx)
    return [tuple(_straightened(ring) * cell_um + corner for ring in piece) for piece in outer]


def mask_of_polygons(
    polygons: Sequence[Polygon],
    shape: tuple[int, int],
    corner_um_yx: tuple[float, float] = (0.0, 0.0),
    cell_um: float = 1.0,
) -> Bool[np.ndarray, "h w"]:
    """Which cells of a grid have their centre inside any of the polygons."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = (np.stack([y.ravel(), x.ravel()], axis=1) + 0.5) * cell_um + np.asarray(corner_um_yx)
    return contains(polygons, centres).reshape(shape)


def contains(polygons: Sequence[Polygon], points: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, n]:
    """Which points lie inside any of the polygons and in none of its holes."""
    found = np.zeros(len(points), bool)
    for outer, *holes in polygons:
        inside = np.asarray(points_in_poly(points, outer), bool)
        for hole in holes:
            inside &= ~np.asarray(points_in_poly(points, hole), bool)
        found |= inside
    return found


def signed_area(ring: Ring) -> float:
    """Area of a ring by the shoelace formula, positive when it winds as `polygons_of_mask` winds outer rings."""
    y, x = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def area_of(polygons: Sequence[Polygon]) -> float:
    """Area without the holes."""
    return sum(
        abs(signed_area(outer)) - sum(abs(signed_area(hole)) for hole in holes) for outer, *holes in polygons
    )


def _straightened(ring: Ring) -> Ring:
    """Leave out corners on straight stretches."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return ring[turns] if turns.sum() >= 3 else ring


def full_resolution_mpp(section: PreparedSection) -> float:
    """µm per px of the source slide at full resolution, from the section's spots, which hold both positions."""
    px = np.asarray(section.spots.obsm["spatial"], np.float64)[:, ::-1]
    um = np.asarray(section.spots.obsm["spatial_um_yx"], np.float64)
    weight = float((px * px).sum())
    return float((um * px).sum() / weight) if weight > 0 else section.record.source_mpp


def feature(
    polygons: Sequence[Polygon],
    mpp: float,
    *,
    name: str,
    classification: str,
    colour: tuple[int, int, int],
    kind: str = "annotation",
    measurements: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A GeoJSON feature as QuPath (0.4 and later) writes and imports them.

    Parameters
    ----------
    polygons
        In µm (y, x).
    mpp
        µm per px of the slide at full resolution (`full_resolution_mpp`).
    kind
        ``annotation`` (a region) or ``detection`` (a nucleus).
    """
    coordinates = [[_closed_xy(ring / mpp) for ring in polygon] for polygon in polygons]
    one = len(coordinates) == 1
    geometry = {
        "type": "Polygon" if one else "MultiPolygon",
        "coordinates": coordinates[0] if one else coordinates,
    }
    properties: dict[str, Any] = {
        "objectType": kind,
        "name": name,
        "classification": {"name": classification, "color": list(colour)},
    }
    if measurements:
        properties["measurements"] = {
            key: round(float(v), 4) for key, v in measurements.items() if np.isfinite(v)
        }
    # The same object gets the same id: importing a file again does not make new objects of old ones.
    identity = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([name, classification, geometry]))
    return {"type": "Feature", "id": str(identity), "geometry": geometry, "properties": properties}


def _closed_xy(ring_px: Ring) -> list[list[float]]:
    rounded = np.round(ring_px[:, ::-1], DECIMALS)
    kept = rounded[(rounded != np.roll(rounded, 1, axis=0)).any(axis=1)]
    corners = kept if len(kept) >= 3 else rounded
    return [*corners.tolist(), corners[0].tolist()]


def write_geojson(path: Path, features: Iterable[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection atomically, one feature a line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write('{"type": "FeatureCollection", "features": [')
        for i, one in enumerate(features):
            handle.write(",\n" if i else "\n")
            handle.write(json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        handle.write("\n]}\n")


def read_geojson(path: Path) -> tuple[list[tuple[str, list[Polygon]]], int]:
    """Classified regions of a QuPath export.

    Returns
    -------
    regions
        (name of the classification, polygons (y, x) in px of the full-resolution slide), in the file's order.
    passed_over
        Number of features that are no polygon or have no class.

    Raises
    ------
    StainglassError
        When it cannot be read, is no GeoJSON, or holds no classified polygon.
    """
    tree = read_json(path, "GeoJSON file")
    features = tree.get("features", [tree]) if isinstance(tree, dict) else tree
    if not isinstance(features, list):
        raise StainglassError(
            path, "no GeoJSON features", "Export the annotations from QuPath as a FeatureCollection"
        )
    regions, passed_over = [], 0
    for one in features:
        region = _region(one)
        if region is None:
            passed_over += 1
        else:
            regions.append(region)
    if not regions:
        raise StainglassError(
            path,
            f"none of its {len(features)} features is a polygon with a class",
            "Set a class on the annotations in QuPath and export them again",
        )
    return regions, passed_over


def _region(one: Any) -> tuple[str, list[Polygon]] | None:
    try:
        geometry = one["geometry"]
        found = one["properties"]["classification"]
        # QuPath before 0.3 wrote the class's names as a list.
        name = str(found["name"] if "name" in found else ": ".join(found["names"])).strip()
        pieces = {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}[
            geometry["type"]
        ]
        polygons = [tuple(_ring(ring) for ring in piece) for piece in pieces]
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return (name, polygons) if name and polygons and all(polygons) else None


def _ring(corners: Any) -> Ring:
    ring = np.asarray(corners, np.float64)[:, 1::-1]
    if len(ring) < 4 or not np.isfinite(ring).all():
        raise ValueError("not a ring")
    return ring[:-1]
