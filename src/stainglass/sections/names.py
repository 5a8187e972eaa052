"""What a section is called when nobody says: after its file, or after the run that wrote its folder."""

from __future__ import annotations

import re
from pathlib import Path

BINS = re.compile(r"square_(\d+)um")
"""Space Ranger's folder of one bin size of Visium HD."""
WITHIN_A_RUN = ("outs", "binned_outputs")
ENDINGS = (".h5ad", ".zarr")


def name_of(path: Path) -> str:
    """Name of the section in a file or folder: ``P1.rep1.h5ad`` is P1.rep1, ``S1/outs/binned_outputs/square_008um`` is S1."""
    found = path.resolve()
    if BINS.fullmatch(found.name):
        found = found.parent
    while found.name in WITHIN_A_RUN:
        found = found.parent
    name = found.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name
