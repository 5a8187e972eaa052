"""``stainglass simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next


def simulate(
    *,
    out: Path,
    tissue: Literal["skin", "colon"] = "skin",
    patients: Annotated[int, Parameter(help="How many, one section each.")] = 5,
    size_um: Annotated[float, Parameter(help="Side of a section in µm.")] = 1200.0,
    mpp: Annotated[float, Parameter(help="µm/px of the slides.")] = 0.5,
    seed: int = 0,
    dry_run: DryRun = False,
) -> None:
    """Simulate tissue with known truth, as Space Ranger folders with pyramidal slides.

    For instance::

        stainglass simulate --tissue colon --patients 4 --out simulated

    Parameters
    ----------
    out
        Folder for the sections, their truth and manifest.csv.
    tissue
        What to simulate.
    seed
        The same seed gives the same tissue.
    """
    if dry_run:
        from stainglass.cli.estimate import tell_simulate
        from stainglass.sections.simulate.cohort import refuse_impossible

        refuse_impossible(out, tissue, patients, size_um, mpp)
        tell_simulate(patients, size_um, mpp, out)
        return
    from stainglass.sections import simulate_cohort

    manifest = simulate_cohort(out, tissue, patients, size_um, mpp, seed)
    say_next(f"stainglass prepare {manifest} --out cohort")
    print_result(manifest)
