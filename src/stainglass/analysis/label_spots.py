"""Labels of spots that a downstream classifier is taught: classes or compartments by markers, or a pathologist's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stainglass.analysis.classes import ClassScorer, Expressed
from stainglass.analysis.compartments import CompartmentScorer
from stainglass.analysis.labels import read_labels
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.synthesis.patch_plan import LabelledSpots

By = Literal["markers", "compartments"]


def label_spots(
    cohort: Cohort,
    sections: Sequence[str],
    fitted_on: Sequence[str],
    window_px: int,
    by: By = "markers",
    classes: Sequence[str] = (),
    labels: Path | None = None,
    seed: int = 0,
) -> LabelledSpots:
    """The spots of sections that have a label; the others are left out.

    Parameters
    ----------
    fitted_on
        Training sections, on which the scales of the markers are fitted.
    by
        Which classes are called, when no labels are given.
    classes
        Classes to score; by default those the training tissue shows. Of a pathologist's labels: those to keep.
    labels
        A pathologist's (see `labels.read_labels`); they are joined to the spots and nothing is called.
    seed
        Of the redraws behind a call's confidence.

    Raises
    ------
    StainglassError
        When labels match no spot, or fewer than two classes can be called.
    """
    windows = cohort.patches(sections, window_px)
    if labels is not None:
        names, sure, source = *_drawn(cohort, sections, windows, labels, classes), "a pathologist's labels"
    else:
        names, sure, source = _called(cohort, windows, fitted_on, window_px, by, classes, seed)
    at = [i for i, name in enumerate(names) if name is not None]
    return LabelledSpots(
        tuple(windows[i] for i in at),
        tuple(str(names[i]) for i in at),
        sure[at],
        tuple(cohort.patients[windows[i].section] for i in at),
        tuple(cohort.sections[windows[i].section].record.groups for i in at),
        source,
    )


def _called(
    cohort: Cohort,
    windows: Sequence[Window],
    fitted_on: Sequence[str],
    window_px: int,
    by: By,
    classes: Sequence[str],
    seed: int,
) -> tuple[list[str | None], np.ndarray, str]:
    """Names and how often they led when the counts were drawn anew."""
    if by == "compartments" and classes:
        raise StainglassError(
            "--classes", "compartments are called all together", "Leave it out, or use --by markers"
        )
    training = Expressed.of(cohort, cohort.patches(fitted_on, window_px))
    scorer = (
        CompartmentScorer.fit(training, seed)
        if by == "compartments"
        else ClassScorer.fit(training, classes, seed)
    )
    called = scorer.call(Expressed.of(cohort, windows), seed)
    names = [called.classes[i] if i >= 0 else None for i in called.label]
    sure = called.probability[np.arange(len(windows)), called.label]
    return (
        names,
        sure,
        f"{by}, called from expression" if by == "compartments" else "classes, called by markers",
    )


def _drawn(
    cohort: Cohort, sections: Sequence[str], windows: Sequence[Window], labels: Path, classes: Sequence[str]
) -> tuple[list[str | None], np.ndarray]:
    """A pathologist's words; how sure they are is not known."""
    found = read_labels(labels, cohort, sections)
    names: list[str | None] = [found.of(w.section, [w.spot])[0] for w in windows]
    there = sorted({name for name in names if name is not None})
    for name in classes:
        if name not in there:
            raise StainglassError(
                f"--classes {name}", "no spot has this label", f"Choose of {', '.join(there)}"
            )
    kept = [name if not classes or name in classes else None for name in names]
    return kept, np.full(len(windows), np.nan)
