"""Many sections: each tried, retried, skipped when it cannot be used, and told of at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from stainglass.cohort.cohort import Cohort, SectionRecord
from stainglass.cohort.crew import Crew
from stainglass.cohort.prepare import (
    index_cohort,
    is_prepared,
    keep_section,
    prepare_section,
    sections_folder,
    tell_notices,
)
from stainglass.cohort.scale import (
    FEW,
    chosen_mpp,
    existing_mpp,
    needs_upsampling,
    settle_scale,
    too_coarse,
)
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.progress import progress_bar
from stainglass.sections.read import SectionSource
from stainglass.sections.section import Section

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of one section.

    Attributes
    ----------
    state
        ``prepared`` now, ``kept`` from an earlier call, or ``failed``.
    seconds
        It took to read, resample and write, all attempts together.
    attempts
        How often it was tried.
    error
        Why it failed.
    """

    id: str
    patient: str
    state: Literal["prepared", "kept", "failed"]
    seconds: float = 0.0
    attempts: int = 0
    error: StainglassError | None = None


def prepare_many(
    sources: Sequence[SectionSource],
    out: Path,
    settings: Prepare | None = None,
    crew: Crew | None = None,
    retries: int = 1,
) -> tuple[Cohort | None, list[Outcome]]:
    """Prepare what is missing of a cohort; a section that cannot be used is skipped, and the others go on.

    Parameters
    ----------
    sources
        Sections by `stainglass.sections.read_sections`; for a cluster, of paths in full.
    out
        Cohort folder; an existing one is added to, at its own mpp.
    settings
        Wanted mpp and margin.
    crew
        By `stainglass.cohort.crew.crew_of`; by default this process.
    retries
        Further attempts at a section that failed.

    Returns
    -------
    cohort
        With every section that is there; None when none is, and then no cohort is left behind.
    outcomes
        One a source, in their order.

    Raises
    ------
    StainglassError
        When the scale asked for is not that of the cohort in ``out``.
    """
    settings, crew = settings or Prepare(), crew or Crew()
    folder = sections_folder(out)
    outcomes = _kept(sources, folder)
    seen: dict[str, Section] | None = {} if crew.here else None
    mpp = existing_mpp(out, settings)
    fresh = mpp is None
    if mpp is None:
        todo = [source for source in sources if source.id not in outcomes]
        mpp = _common_mpp(todo, settings, crew, retries, seen, outcomes)
    if mpp is not None:
        settle_scale(out, mpp, settings)
        todo = [source for source in sources if source.id not in outcomes]
        work = partial(_prepare, out=out, mpp=mpp, settings=settings, seen=seen)
        outcomes |= _each("preparing sections", crew, work, todo, retries, tell_notices)
    told = [outcomes[source.id] for source in sources]
    if mpp is None or (fresh and all(one.state == "failed" for one in told)):
        # An empty cohort would hold the next attempt to this scale.
        (out / "cohort.json").unlink(missing_ok=True)
        return None, told
    return index_cohort(out, mpp, settings, [source.id for source in sources]), told


def _kept(sources: Sequence[SectionSource], folder: Path) -> dict[str, Outcome]:
    outcomes = {}
    for source in sources:
        try:
            if is_prepared(source, folder):
                keep_section(source, folder)
                outcomes[source.id] = Outcome(source.id, source.patient, "kept")
        except StainglassError as error:
            outcomes[source.id] = Outcome(source.id, source.patient, "failed", error=error)
    return outcomes


def _common_mpp(
    sources: Sequence[SectionSource],
    settings: Prepare,
    crew: Crew,
    retries: int,
    seen: dict[str, Section] | None,
    outcomes: dict[str, Outcome],
) -> float | None:
    """A new cohort's µm/px, from a look at every section; those that are out already are added to ``outcomes``."""
    found: dict[str, float] = {}
    looked = _each(
        "looking at sections",
        crew,
        partial(_look, seen=seen),
        sources,
        retries,
        lambda one: found.update([one]),
    )
    outcomes |= {name: one for name, one in looked.items() if one.state == "failed"}
    if settings.mpp is not None:
        for source in sources:
            if source.id in found and needs_upsampling(found[source.id], settings.mpp):
                error = too_coarse(source.id, found.pop(source.id), settings.mpp)
                outcomes[source.id] = Outcome(source.id, source.patient, "failed", error=error)
    return chosen_mpp(found, settings) if found else None


def _look(source: SectionSource, seen: dict[str, Section] | None) -> tuple[str, float]:
    """Read and check a section before anything is written; a few are kept, so that small cohorts are read once."""
    section = source.read()
    if seen is not None and len(seen) < FEW:
        seen[source.id] = section
    else:
        section.slide.close()
    return source.id, section.slide_mpp


def _prepare(
    source: SectionSource, out: Path, mpp: float, settings: Prepare, seen: dict[str, Section] | None
) -> SectionRecord:
    section = seen.pop(source.id, None) if seen is not None else None
    return prepare_section(source, out, mpp, settings, section)


def _each(
    title: str,
    crew: Crew,
    work: Callable[[SectionSource], T],
    sources: Sequence[SectionSource],
    retries: int,
    take: Callable[[T], None],
) -> dict[str, Outcome]:
    """Have the crew do something with every section; ``take`` gets what comes of it."""
    outcomes = {}
    with progress_bar(title, len(sources)) as advance:
        for done in crew.each(work, sources, [source.id for source in sources], retries):
            source = sources[done.at]
            if done.value is not None:
                take(done.value)
            error = None if done.error is None else StainglassError(*done.error)
            state: Literal["prepared", "failed"] = "prepared" if error is None else "failed"
            outcomes[source.id] = Outcome(
                source.id, source.patient, state, done.seconds, done.attempts, error
            )
            advance(1, source.id if error is None else f"{source.id}: failed")
    return outcomes
