"""The cohort of a run: inside it, or beside it where its provenance says."""

from __future__ import annotations

import os
from pathlib import Path

from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.files import read_json

INDEX = "cohort.json"


def as_noted(cohort: Path, run: Path) -> str:
    """How ``provenance.json`` notes it: from the run's folder, so that both may be moved together."""
    return os.path.relpath(cohort.resolve(), run.resolve())


def cohort_folder(run: Path) -> Path:
    """Where the cohort of a run lies: ``RUN/cohort``, else where it was trained from; the former when there is neither."""
    own = run / "cohort"
    if (own / INDEX).is_file() or not (run / "provenance.json").is_file():
        return own
    try:
        noted = read_json(run / "provenance.json", "provenance").get("cohort")
    except (StainglassError, AttributeError):
        return own
    beside = Path(os.path.normpath(run / noted)) if isinstance(noted, str) else own
    return beside if (beside / INDEX).is_file() else own


def open_cohort(run: Path, cohort: Path | None = None) -> Cohort:
    """The cohort that was named, or the run's own.

    Raises
    ------
    StainglassError
        When it is not there.
    """
    folder = cohort or cohort_folder(run)
    if cohort is None and not (folder / INDEX).is_file():
        raise StainglassError(folder, "no prepared cohort of this run here", "Name it: --cohort COHORT")
    return Cohort.open(folder)
