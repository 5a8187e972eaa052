"""The µm/px of a cohort: what is asked for, never finer than a source, settled before the first section is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.raster import SAME_SCALE
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.genes.axis import GeneAxis
from stainglass.progress import console, progress_bar
from stainglass.sections.read import SectionSource
from stainglass.sections.section import Section

FEW = 8
"""Sections whose counts are kept from the first look."""
WANTED_MPP = 0.5
"""µm/px of a cohort where none is asked for: 20 ×."""
ROUND_MPP = 4
"""Decimals kept of the cohort's mpp."""


def cohort_mpp(
    sources: Sequence[SectionSource], out: Path, settings: Prepare, seen: dict[str, Section]
) -> float:
    """An existing cohort's mpp; else the wanted one, or the coarsest source's own when that is coarser.

    A few sections read on the way are left in ``seen``, so that small cohorts are not read twice: their counts
    are in memory, their pixels still on disk.
    """
    existing = existing_mpp(out, settings)
    if existing is not None:
        return existing
    found: dict[str, float] = {}
    with progress_bar("looking at sections", len(sources)) as advance:
        for source in sources:
            section = source.read()  # checks everything before anything is written; the pixels stay on disk
            found[source.id] = section.slide_mpp
            if len(seen) < FEW:
                seen[source.id] = section
            else:
                section.slide.close()
            advance(1, source.id)
    return chosen_mpp(found, settings)


def existing_mpp(out: Path, settings: Prepare) -> float | None:
    """The scale of the cohort in ``out``, None when there is none; another one that is asked for is refused."""
    if not (out / "cohort.json").is_file():
        return None
    margin = prepared_with(out).get("margin_um", settings.margin_um)
    if "margin_um" in settings.model_fields_set and settings.margin_um != margin:
        raise StainglassError(
            out, f"this cohort was prepared with margin_um={margin:g}, not {settings.margin_um:g}",
            "Choose another --out, or its own margin",
        )  # fmt: skip
    existing = Cohort.open(out).mpp
    if settings.mpp is not None and abs(settings.mpp / existing - 1) > 1e-6:
        raise StainglassError(
            out,
            f"this cohort has {existing:g} µm/px, not {settings.mpp:g}",
            "Choose another --out, or its own --mpp",
        )
    return existing


def prepared_with(out: Path) -> dict[str, float]:
    """Settings that its sections share with any that are added."""
    told = read_json(out / "cohort.json", "cohort").get("prepare", {})
    return {key: told[key] for key in ("mpp", "margin_um") if key in told}


def settle_scale(out: Path, mpp: float, settings: Prepare) -> None:
    """Write the scale before the first section, so that a run that is cut short goes on at the same one."""
    if not (out / "cohort.json").is_file():
        Cohort(out, mpp, GeneAxis((), ()), []).write_index({"prepare": settings.model_dump(mode="json")})


def chosen_mpp(found: Mapping[str, float], settings: Prepare) -> float:
    """The wanted µm/px, or the coarsest source's own (id → µm/px) when that is coarser; asked for by name, it is refused."""
    which = max(found, key=lambda name: found[name])
    coarsest = found[which]
    wanted = settings.mpp or WANTED_MPP
    if not needs_upsampling(coarsest, wanted):
        return wanted
    if settings.mpp is not None:
        raise too_coarse(which, coarsest, wanted)
    console.print(
        f"  the cohort takes {coarsest:.4f} µm/px, the resolution of {which}: nothing is upsampled",
        highlight=False,
    )
    return float(np.ceil(coarsest * 10**ROUND_MPP) / 10**ROUND_MPP)


def needs_upsampling(source_mpp: float, mpp: float) -> bool:
    """Whether a slide is coarser than ``mpp``, by more than µm/px are known."""
    return source_mpp > mpp * (1 + SAME_SCALE)


def too_coarse(which: str, source_mpp: float, mpp: float) -> StainglassError:
    """The error for a section whose slide is coarser than what was asked for."""
    return StainglassError(
        which,
        f"its image has {source_mpp:.3f} µm/px, {mpp:g} would need upsampling",
        f"Pass --mpp {np.ceil(source_mpp * 1000) / 1000:g} or coarser, or give the full-resolution slide",
    )
