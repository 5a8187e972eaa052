"""``stainglass report``."""

from __future__ import annotations

from pathlib import Path

from stainglass.cli.common import print_result


def report(run: Path) -> None:
    """Write one self-contained HTML page of a run.

    For instance::

        stainglass report runs/her2st

    Parameters
    ----------
    run
        Folder of the run; what is missing in it is told on the page.
    """
    from stainglass.errors import StainglassError
    from stainglass.report.page import write_report

    if not run.is_dir():
        raise StainglassError(run, "no such run", "Give the folder that 'stainglass run' or 'train' wrote")
    print_result(write_report(run))
