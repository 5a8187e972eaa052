"""One progress bar for everything that takes more than two seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)
"""Everything for people goes to stderr; stdout carries results (paths, JSON) alone."""


class Advance(Protocol):
    """Call it once a unit of work is done; ``note`` replaces the text behind the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


@contextmanager
def progress_bar(title: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show a bar with elapsed and remaining time; in a log file, one line at the end.

    Parameters
    ----------
    title
        What is being done.
    total
        Units of work; None when nobody knows.
    done
        Units already done (a resumed run).
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps)
            if note:
                bar.update(task, note=note)

        yield advance
