"""Other stains for the same tissue, drawn from those of a training fold: augmentation of what lies in a cohort.

The stains are fitted on the training sections alone. What is written from them (latent rasters) is named after them, so
another fold writes beside and none is ever taken for another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.stain import Method, stain_of
from stainglass.errors import StainglassError
from stainglass.progress import progress_bar

BEYOND = 0.25
"""How far beyond two sections' stains a drawn one may lie, in their distance."""


@dataclass(frozen=True)
class StainVariant:
    """One more stain for every training section.

    Attributes
    ----------
    name
        Of its rasters: the variant's number, and a hash of the fold's stains.
    own, drawn
        Section id → the stain it has, and the one it is given.
    """

    name: str
    own: Mapping[str, Any]
    drawn: Mapping[str, Any]

    def of(self, section: str, pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Pixels of a section in the stain it is given."""
        restained: UInt8[np.ndarray, "h w 3"] = self.own[section].restain(pixels, self.drawn[section])
        return restained

    def told(self) -> dict[str, Any]:
        """What travels with a generator: the method, and every section's fitted and given stain in numbers."""
        numbers = {
            part: {name: [round(float(v), 6) for v in stain.numbers()] for name, stain in stains.items()}
            for part, stains in (("own", self.own), ("drawn", self.drawn))
        }
        method = type(next(iter(self.own.values()))).__name__.lower()
        return {"name": self.name, "method": method, **numbers}


def stain_variants(
    cohort: Cohort, sections: Sequence[str], number: int, method: Method = "macenko", seed: int = 0
) -> tuple[StainVariant, ...]:
    """Draw ``number`` stains for each section from the stains of all of them.

    A drawn stain lies on the line between those of two sections, picked at random, or up to ``BEYOND`` of their distance
    beyond either. It is a function of (seed, section, number) and of the fold.

    Raises
    ------
    StainglassError
        With fewer than two sections, or one without stained tissue.
    """
    if number == 0:
        return ()
    names = sorted(sections)
    if len(names) < 2:
        raise StainglassError(
            "train_denoiser.stain_variants",
            f"{len(names)} training section has no other's stain to be given",
            "Set it to 0, or train on two sections or more",
        )
    own = {}
    with progress_bar("fitting stains", len(names)) as advance:
        for name in names:
            own[name] = stain_of(cohort.sections[name], method)
            advance(1, name)
    digest = hashlib.sha256(repr((method, seed, names)).encode())
    for name in names:
        digest.update(np.round(own[name].numbers(), 6).tobytes())
    return tuple(
        StainVariant(
            f"stain{k}-{digest.hexdigest()[:8]}", own, {name: _drawn(own, name, k, seed) for name in names}
        )
        for k in range(1, number + 1)
    )


def _drawn(own: Mapping[str, Any], section: str, k: int, seed: int) -> Any:
    key = int.from_bytes(hashlib.sha256(section.encode()).digest()[:8], "little")
    rng = np.random.default_rng([seed, key, k])
    first, second = (own[name] for name in rng.choice(sorted(own), 2, replace=False))
    return first.mixed(second, float(rng.uniform(-BEYOND, 1 + BEYOND)))
