"""How a generator paints: solver, steps, guidance, and what it is told of the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from stainglass.config import Sampling
from stainglass.errors import StainglassError


@dataclass(frozen=True)
class SamplerSettings:
    """Solver, steps and guidance (Ho & Salimans 2022), which acts while the noise level lies in ``interval``
    only (Kynkäänniemi et al. 2024).

    ``thinning`` is the share of each spot's counts left out, ``depth`` the median counts a spot down to which more is left out of
    deeper sections (`stainglass.synthesis.thin`). It is done before a pipeline is called, by
    `stainglass.synthesis`, since a pipeline knows no spot by name. So are the noises of ``candidates``, of which a
    generator with a `Selector` keeps the best.
    """

    solver: str = "unipc"
    steps: int = 16
    guidance: float = 1.5
    interval: tuple[float, float] = (0.2, 0.9)
    thinning: float = 0.0
    depth: float | None = None
    candidates: int = 1

    @classmethod
    def of(cls, sampling: Sampling) -> SamplerSettings:
        """A recipe's."""
        return cls(**{setting.name: getattr(sampling, setting.name) for setting in fields(cls)})

    @classmethod
    def read(cls, told: Mapping[str, Any], name: str) -> SamplerSettings:
        """As a generator's facts or a card tell them.

        Raises
        ------
        StainglassError
            When they name what this version does not know: pictures would not be painted as they were.
        """
        known = {setting.name for setting in fields(cls)}
        if strange := sorted(set(told) - known):
            raise StainglassError(
                name, f"is painted with settings that are not known here: {', '.join(strange)}",
                "Use the version of stainglass it was made with, or evaluate it anew and export it again",
            )  # fmt: skip
        return cls(**{**told, "interval": tuple(told["interval"])})

    def guided(self, t: float) -> bool:
        """Whether the null condition is evaluated at this noise level."""
        return self.guidance != 1.0 and self.interval[0] <= t <= self.interval[1]
