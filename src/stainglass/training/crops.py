"""Where training windows are cut: anywhere on the spotted tissue, or round a spot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.cohort.windows import Window
from stainglass.units import snapped_top_left_px

MEMORY_BUDGET = 3e9
"""Bytes of rasters that are held in memory; larger cohorts are read from disk by chunk."""


class Places:
    """Draws window positions of some sections, each spot's neighbourhood equally often."""

    def __init__(self, cohort: Cohort, sections: Sequence[str], size_px: int) -> None:
        self.cohort = cohort
        self.sections = [cohort.sections[name] for name in sections]
        self.size_px = size_px
        self.centres = [s.centres_um_yx() for s in self.sections]
        self.pitch_um = [_pitch(c, fallback=size_px * cohort.mpp) for c in self.centres]
        self._ends = np.cumsum([len(c) for c in self.centres])

    def draw(self, rng: np.random.Generator, anywhere: bool) -> tuple[int, Window]:
        """Index of a section and a window on it; ``anywhere``: up to half a pitch off a spot, along both axes."""
        pick = int(rng.integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, pick, side="right"))
        spot = pick - (int(self._ends[which - 1]) if which else 0)
        centre = self.centres[which][spot]
        if anywhere:
            centre = centre + rng.uniform(-0.5, 0.5, 2) * self.pitch_um[which]
        top, left = snapped_top_left_px(centre, self.cohort.mpp, self.size_px)[0]
        return which, Window(self.sections[which].id, int(top), int(left), self.size_px)


def hold_in_memory(sections: Sequence[PreparedSection], *what: str) -> bool:
    """Keep arrays of all sections in memory when together they fit the budget."""
    if sum(s.bytes_of(array) for s in sections for array in what) > MEMORY_BUDGET:
        return False
    for section in sections:
        for array in what:
            section.keep_in_memory(array)
    return True


def _pitch(centres_um: NDArray[np.float64], fallback: float) -> float:
    """Median distance to the nearest spot: only the scale of a random shift, so a median will do."""
    if len(centres_um) < 2:
        return fallback
    distances = np.asarray(cKDTree(centres_um).query(centres_um, k=2)[0])
    return float(np.median(distances[:, 1]))
