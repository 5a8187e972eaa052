"""Put what a reader found together into a checked `Section`: the same checks whatever the format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.files import sha256_of
from stainglass.genes.axis import map_genes
from stainglass.sections.checks import checked_counts, decide_mpp, lattice_claim
from stainglass.sections.lattice import fit_lattice, lattice_kind
from stainglass.sections.section import NO_COUNTS, OUTSIDE_IMAGE, OUTSIDE_TISSUE, Section
from stainglass.sections.slides import Slide

MOST_SECTIONS_IN_ONE = 0.95
"""Share of spots whose place of the array is another's already: of twenty sections put together."""
SAME_FRAME = 0.05
"""Share by which a slide's sides may differ from what the smaller images tell."""
QUICK_HASH_ABOVE = 64 * 2**20


@dataclass
class Counts:
    """A count matrix as it lies in its file: (barcodes × names), not yet checked."""

    matrix: Any
    barcodes: Sequence[str]
    names: Sequence[str]
    ids: Sequence[str] | None = None


@dataclass
class Raw:
    """What a reader found, before any check.

    Attributes
    ----------
    places
        One row a spot, index barcode: ``x_px``, ``y_px`` (full-resolution), ``in_tissue``, and where known
        ``array_row``, ``array_col``.
    spot_diameter_um, spot_pitch_um
        Nominal; the pitch is None when the spots are on no lattice.
    scale
        Further arguments for `decide_mpp` (``explicit``, ``stated``, ``diameter_px``, …).
    frame_px_yx
        Size of the full-resolution slide as a smaller image of it and its scale factor tell, when a slide was given; else None.
    """

    where: str
    id: str
    patient: str
    counts: Counts
    places: pd.DataFrame
    slide: Slide
    slide_scale: float
    spot_diameter_um: float
    spot_pitch_um: float | None
    scale: dict[str, Any] = field(default_factory=dict)
    frame_px_yx: tuple[float, float] | None = None
    cell_types: pd.DataFrame | None = None
    files: Sequence[Path] = ()
    notices: list[str] = field(default_factory=list)


def assemble(raw: Raw) -> Section:
    """Check everything and build the section.

    Raises
    ------
    StainglassError
        For counts that are no counts, barcodes that match nothing, an unknown or contradictory scale, no
        spot on
        the tissue.
    """
    places = _checked_places(raw)
    _require_full_resolution(raw)
    counts, notices = _join(raw, places)
    genes = map_genes(
        list(raw.counts.names), None if raw.counts.ids is None else list(raw.counts.ids), raw.where
    )
    counts = genes.collapse(counts)
    gene_notice = genes.notice()
    lattice, lattice_notices = _lattice(raw, places)
    claim = raw.slide.mpp_claim
    scale = decide_mpp(
        raw.where,
        lattice=lattice,
        metadata=claim * raw.slide_scale if claim is not None else None,
        **raw.scale,
    )
    obs = _obs(raw, places, np.asarray(counts.sum(axis=1)).ravel())
    _require_right_slide(raw, obs)
    if not obs["used"].any():
        why = obs["why_dropped"].value_counts().to_dict()
        raise StainglassError(
            raw.where,
            "no spot lies on tissue, inside the image and with counts "
            f"({', '.join(f'{n} {reason}' for reason, n in why.items())})",
            "Check that slide, positions and counts belong to the same section",
        )
    notices += _drop_notices(obs)
    spots = AnnData(
        X=counts, obs=obs, var=pd.DataFrame({"symbol": genes.axis.symbols}, index=list(genes.axis.ids))
    )
    spots.obsm["spatial"] = places[["x_px", "y_px"]].to_numpy(np.float64)
    if raw.cell_types is not None:
        spots.obsm["cell_types"] = raw.cell_types.reindex(spots.obs_names).astype(np.float64)
    return Section(
        id=raw.id,
        patient=raw.patient,
        spots=spots,
        slide=raw.slide,
        slide_scale=raw.slide_scale,
        mpp=scale.mpp,
        mpp_source=scale.source,
        spot_diameter_um=raw.spot_diameter_um,
        spot_pitch_um=raw.spot_pitch_um,
        notices=(
            *raw.notices,
            *([gene_notice] if gene_notice else []),
            *notices,
            *lattice_notices,
            *scale.notices,
        ),
        inputs=input_hashes([*raw.files, raw.slide.path]),
        genes_unmapped=genes.unmapped,
    )


def _checked_places(raw: Raw) -> pd.DataFrame:
    places = raw.places
    remedy = "Check the positions file"
    if places.index.has_duplicates:
        twice = places.index[places.index.duplicated()][0]
        raise StainglassError(raw.where, f"spot {twice} has two positions", remedy)
    xy = places[["x_px", "y_px"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(xy).all():
        lost = places.index[~np.isfinite(xy).all(axis=1)]
        raise StainglassError(raw.where, f"{len(lost)} spots have no position (such as {lost[0]})", remedy)
    places = places.copy()
    places[["x_px", "y_px"]] = xy
    if "array_row" in places and raw.spot_pitch_um is not None:
        on_array = places.loc[places["array_row"] >= 0, ["array_row", "array_col"]]
        twice = on_array.duplicated(keep=False)
        # Where most stand at one place, it is none: nobody filled it in.
        if twice.any() and on_array.duplicated().mean() < MOST_SECTIONS_IN_ONE:
            first, second = on_array.index[twice][:2]
            raise StainglassError(
                raw.where, f"spots {first} and {second} stand at one place of the array, as in two sections put together",
                "Give every section by itself",
            )  # fmt: skip
    return places


def _join(raw: Raw, places: pd.DataFrame) -> tuple[csr_matrix, list[str]]:
    """Counts in the order of the places, zero rows where a spot has none; (spots × names)."""
    counts = checked_counts(raw.counts.matrix, raw.where)
    barcodes = pd.Index([str(barcode) for barcode in raw.counts.barcodes])
    if counts.shape != (len(barcodes), len(raw.counts.names)):
        raise StainglassError(
            raw.where,
            f"the matrix is {counts.shape[0]} × {counts.shape[1]} but there are {len(barcodes)} barcodes and "
            f"{len(raw.counts.names)} genes",
            "Check that matrix, barcodes and features belong together",
        )
    if barcodes.has_duplicates:
        raise StainglassError(
            raw.where,
            f"barcode {barcodes[barcodes.duplicated()][0]} stands twice in the matrix",
            "Check the matrix",
        )
    row = barcodes.get_indexer(places.index)
    if (row < 0).all():
        # Some tools cut the "-1" that Space Ranger appends.
        row = barcodes.str.replace(r"-\d+$", "", regex=True).get_indexer(
            places.index.str.replace(r"-\d+$", "", regex=True)
        )
    found = row >= 0
    if not found.any():
        raise StainglassError(
            raw.where,
            f"no barcode of the counts (such as {barcodes[0]}) has a position (such as {places.index[0]})",
            "Check that counts and positions belong to the same section",
        )
    selector = csr_matrix(
        (np.ones(int(found.sum()), dtype=np.float32), (np.flatnonzero(found), row[found])),
        shape=(len(places), len(barcodes)),
    )
    lost = len(barcodes) - int(found.sum())
    notices = (
        [f"{lost} of {len(barcodes)} rows of counts have no position and cannot be placed"] if lost else []
    )
    return csr_matrix(selector @ counts), notices


def _lattice(raw: Raw, places: pd.DataFrame) -> tuple[float | None, tuple[str, ...]]:
    if raw.spot_pitch_um is None or "array_row" not in places or (places["array_row"] < 0).any():
        return None, ()
    row, column = places["array_row"].to_numpy(np.int64), places["array_col"].to_numpy(np.int64)
    kind = lattice_kind(row, column)
    fit = fit_lattice(row, column, places[["x_px", "y_px"]].to_numpy(np.float64), raw.spot_pitch_um, kind)
    return lattice_claim(fit, raw.spot_pitch_um, raw.where)


def _obs(raw: Raw, places: pd.DataFrame, depth: NDArray[Any]) -> pd.DataFrame:
    """The spots' table; every spot that is not used says why."""
    height, width = (side / raw.slide_scale for side in raw.slide.size_px_yx)
    inside = places["x_px"].between(0, width, inclusive="left") & places["y_px"].between(
        0, height, inclusive="left"
    )
    if not raw.slide.holds_pixels:
        inside[:] = True
    in_tissue = places["in_tissue"].to_numpy(np.bool_)
    why = np.select(
        [~inside.to_numpy(), ~in_tissue, depth == 0], [OUTSIDE_IMAGE, OUTSIDE_TISSUE, NO_COUNTS], default=""
    )
    unknown = pd.Series(-1, index=places.index)
    return pd.DataFrame(
        {
            "array_row": places.get("array_row", unknown).astype(np.int64),
            "array_col": places.get("array_col", unknown).astype(np.int64),
            "in_tissue": in_tissue,
            "used": why == "",
            "why_dropped": why.astype(object),
            "diameter_um": np.full(len(places), raw.spot_diameter_um),
        },
        index=places.index.astype(str),
    )


def _require_full_resolution(raw: Raw) -> None:
    """A slide of another magnification than the positions are given on puts every spot in the wrong place."""
    if raw.frame_px_yx is None or not raw.slide.holds_pixels:
        return
    factors = [has / tells for has, tells in zip(raw.slide.size_px_yx, raw.frame_px_yx, strict=True)]
    factor = float(np.mean(factors))
    # Another shape may be the same frame padded or cut at its far edges, where positions hold.
    if abs(factor - 1) > SAME_FRAME and max(factors) - min(factors) < SAME_FRAME * factor:
        height, width = raw.slide.size_px_yx
        raise StainglassError(
            raw.slide.path,
            f"{width} × {height} px are {factor:.3g} times the slide that the positions and the smaller images are of",
            "Give the slide that was given to Space Ranger",
        )  # fmt: skip


def _require_right_slide(raw: Raw, obs: pd.DataFrame) -> None:
    """Most of the tissue outside the image means another image (hires for the full resolution), not
    odd spots.
    """
    outside = int((obs["in_tissue"] & (obs["why_dropped"] == OUTSIDE_IMAGE)).sum())
    if outside > 0.5 * max(int(obs["in_tissue"].sum()), 1):
        height, width = raw.slide.size_px_yx
        raise StainglassError(
            raw.slide.path,
            f"{outside} of {int(obs['in_tissue'].sum())} spots on tissue lie outside this "
            f"image of {width} × {height} px",
            "Give the full-resolution slide that the positions refer to",
        )


def _drop_notices(obs: pd.DataFrame) -> list[str]:
    dropped = obs.loc[~obs["used"] & (obs["why_dropped"] != OUTSIDE_TISSUE), "why_dropped"].value_counts()
    return [f"{number} of {len(obs)} spots are not used: {reason}" for reason, number in dropped.items()]


def input_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Path → hash of every input file (a zarr folder is left out: it has no single content)."""
    return {str(path): _hash(path) for path in paths if path.is_file()}


def _hash(path: Path) -> str:
    size = path.stat().st_size
    if size <= QUICK_HASH_ABOVE:
        return sha256_of(path)
    # A slide of some GB would take a minute to hash; its size and ends tell a changed file well enough.
    with path.open("rb") as handle:
        head = handle.read(2**20)
        handle.seek(-(2**20), 2)
        tail = handle.read(2**20)
    return "quick-" + hashlib.sha256(str(size).encode() + head + tail).hexdigest()
