"""What a user hands over, an AnnData, as windows and conditions on the model's gene axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stainglass.cohort.windows import Conditions, Window, as_bulk, depth_of, gather_conditions, patch_windows
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis, align_counts
from stainglass.models.facts import Facts
from stainglass.sections.spots import read_spots

if TYPE_CHECKING:
    from anndata import AnnData

    from stainglass.cohort.cohort import Cohort

LEAST_GENES = 0.5
"""Share of the model's genes the data must have measured."""


def windows_of_adata(
    adata: AnnData, facts: Facts, mpp: float | None = None, section: str = "adata"
) -> tuple[list[Window], Conditions]:
    """One window around every spot, and what lies in reach of it.

    Parameters
    ----------
    adata
        Raw counts in ``X`` or ``layers["counts"]``; centres in ``obsm["spatial_um_yx"]`` (µm), or in
        ``obsm["spatial"]`` (x, y in px) with the µm/px found as in reading, or given.
    facts
        Of the model.
    mpp
        µm per px of ``obsm["spatial"]``.

    Raises
    ------
    StainglassError
        When positions, raw counts or the model's genes are missing.
    """
    read = read_spots(adata, id=section, mpp=mpp)
    keep = read.spots.obs["used"].to_numpy(dtype=bool)
    spots, um_yx = read.spots[keep], read.spots_um_yx[keep]
    diameters = spots.obs["diameter_um"].to_numpy(dtype=np.float64)
    counts, measured = _on_axis(spots, facts)
    names = [str(name) for name in spots.obs_names]
    windows = patch_windows(section, um_yx, names, facts.mpp, facts.window_px)
    centres = np.stack([w.centre_um_yx(facts.mpp) for w in windows])
    depths = np.full(len(windows), depth_of(counts), np.float32)
    counts = as_bulk(counts) if facts.told == "bulk" else counts
    told = gather_conditions(centres, um_yx, counts, diameters, names, facts.reach_um, facts.max_spots)
    return windows, replace(told, measured=np.tile(measured, (len(told), 1)), depths=depths)


def conditions_of(cohort: Cohort, windows: Sequence[Window], facts: Facts) -> Conditions:
    """What a model is told of windows of a cohort."""
    return cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots, facts.told == "bulk")


def _on_axis(spots: AnnData, facts: Facts) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    axis = GeneAxis(tuple(spots.var_names), tuple(spots.var["symbol"].astype(str)))
    counts, measured = align_counts(spots.X, axis, facts.axis)
    share = float(measured.mean())
    if share < LEAST_GENES:
        lacking = [s for s, m in zip(facts.gene_symbols, measured) if not m][:4]
        raise StainglassError(
            "adata",
            f"has {share:.0%} of the {len(measured)} genes the model {facts.name!r} reads (missing: {', '.join(lacking)} …)",
            "Give human gene symbols or Ensembl ids in var_names, or train on this panel",
        )
    return np.asarray(counts.toarray(), dtype=np.float32), measured
