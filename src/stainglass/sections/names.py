"""What a section is called when nobody says: after its file, or after the run that wrote its folder."""

from __future__ import annotations

import re
from pathlib import Path

BINS = re.compile(r"square_(\d+)um")
"""Space Ranger's folder of one bin size of Visium HD."""
WITHIN_A_RUN = ("outs", "binned_outputs")
ENDINGS = (".h5ad", ".h5", ".hdf5", ".zarr")


def name_of(path: Path) -> str:
    """Name of the section in a file or folder: ``P1.rep1.h5ad`` is P1.rep1, ``S1/outs/binned_outputs/square_008um`` is S1."""
    found = path.resolve()
    if BINS.fullmatch(found.name):
        found = found.parent
    while found.name in WITHIN_A_RUN:
        found = found.parent
    while found.suffix.lower() in ENDINGS:
        found = found.with_suffix("")
    return found.name


def place_of(path: Path) -> str:
    """Where data lie, shortly: the last two names of a path, ``outs`` left out."""
    found = path.resolve()
    return "/".join((found.parent if found.name == "outs" else found).parts[-2:])
