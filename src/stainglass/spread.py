"""Some of many, spread evenly: what is shown, fitted on or judged is never picked."""

from __future__ import annotations

import numpy as np


def spread(of: int, most: int | None) -> list[int]:
    """Which ``most`` of so many, evenly from the first to the last; all where there are no more, or None is asked for."""
    if most is None or of <= most:
        return list(range(of))
    found: list[int] = np.linspace(0, of - 1, most).round().astype(int).tolist()
    return found
