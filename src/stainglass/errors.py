"""The one error a user is meant to see: which file, what was found, what to do about it."""

from __future__ import annotations

from pathlib import Path


class StainglassError(Exception):
    """A finding about the user's input or machine, told in one line; the CLI exits 2 on it.

    Parameters
    ----------
    where
        The file, folder, section or setting at fault.
    finding
        What is wrong with it, as seen (no advice).
    remedy
        What the user can do now (imperative).
    """

    def __init__(self, where: str | Path, finding: str, remedy: str) -> None:
        self.where = str(where)
        self.finding = finding
        self.remedy = remedy
        super().__init__(f"{self.where}: {finding}. {remedy}.")

    def __reduce__(self) -> tuple[type[StainglassError], tuple[str, str, str]]:
        """Between processes it travels as what it was made of."""
        return type(self), (self.where, self.finding, self.remedy)


class StopRequested(Exception):
    """Training was asked to stop (SIGTERM or Ctrl-C) and has written its checkpoint."""
