"""Pictures unlike real tissue: how far from any real training patch, and faults of texture that can be measured.

What is ordinary is fitted on real training patches. The limit of the distance is what real held-out patches themselves
keep to; every other limit is checked on them, so that each share of faulty generated patches stands beside the
share of real ones that the same rule finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from numpy.typing import NDArray
from scipy.ndimage import laplace
from sklearn.metrics.pairwise import euclidean_distances

from stainglass.analysis.nuclei import NucleusReader

LIMIT = 0.99
"""Share of real patches that lie within a limit."""
LEAST_PATCHES = 50
"""A compartment with fewer training patches takes the limits of all tissue."""
NEIGHBOURS = 5
"""A training patch reaches to this neighbour, as in the card's precision."""
CHROMA_QUANTILE = 0.99
LATTICE_PX = 8
"""Side of a latent pixel."""

MEASURES = ("nuclei_per_mm2", "chroma", "sharpness", "lattice")
"""What `measures` gives: peaks of haematoxylin per mm²; the chroma (largest less smallest of red, green, blue) that 1 %
of the pixels exceed; log10 of the variance of the Laplacian of lightness (Pech-Pacheco et al. 2000); steps of lightness
across the latent lattice over those elsewhere."""

UNLIKE = "unlike any real tissue"


@dataclass(frozen=True)
class Fault:
    """A measure beyond what real tissue has, on one side."""

    name: str
    measure: str
    side: Literal["below", "above"]


FAULTS = (
    Fault("too few nuclei", "nuclei_per_mm2", "below"),
    Fault("saturated colour", "chroma", "above"),
    Fault("blurred", "sharpness", "below"),
    Fault("noisy", "sharpness", "above"),
    Fault("8 px lattice", "lattice", "above"),
)
FINDINGS = (UNLIKE, *(fault.name for fault in FAULTS))


def measures(pixels: UInt8[np.ndarray, "n h w 3"], nuclei: NucleusReader) -> Float64[np.ndarray, "n m"]:
    """`MEASURES` of every picture."""
    found = [(nuclei.read(picture[None])[0, 0], *_texture(picture)) for picture in pixels]
    return np.array(found, np.float64).reshape(-1, len(MEASURES))


def _texture(picture: UInt8[np.ndarray, "h w 3"]) -> tuple[float, float, float]:
    rgb = picture.astype(np.float64)
    light = rgb @ np.array([0.299, 0.587, 0.114])
    chroma = float(np.quantile(rgb.max(-1) - rgb.min(-1), CHROMA_QUANTILE))
    # A picture of one colour has no sharpness: the floor stands a decade below one grey level.
    sharpness = float(np.log10(max(laplace(light).var(), 0.1)))
    return chroma, sharpness, _lattice(light)


def _lattice(light: Float64[np.ndarray, "h w"]) -> float:
    """Mean step over the borders of latent pixels, over the mean step elsewhere; 1 for a picture that knows no lattice."""
    on, off = [], []
    for steps in (np.abs(np.diff(light, axis=0)), np.abs(np.diff(light, axis=1)).T):
        border = np.arange(1, len(steps) + 1) % LATTICE_PX == 0
        on.append(steps[border].mean() if border.any() else 0.0)
        off.append(steps[~border].mean())
    return float(
        (np.mean(on) + 0.1) / (np.mean(off) + 0.1)
    )  # a tenth of a grey level: flat pictures stay near 1


@dataclass(frozen=True)
class RealRange:
    """What real training patches have, by compartment.

    Attributes
    ----------
    low, high
        Compartment (None: all tissue) → (measures,) quantiles 1 − `LIMIT` and `LIMIT`.
    """

    low: Mapping[str | None, Float64[np.ndarray, m]]
    high: Mapping[str | None, Float64[np.ndarray, m]]

    @classmethod
    def fit(cls, found: Float64[np.ndarray, "n m"], compartments: Sequence[str | None]) -> RealRange:
        """Limits of all patches, and of each compartment with enough of them."""
        names = np.array([name or "" for name in compartments])
        groups: dict[str | None, NDArray[np.bool_]] = {None: np.ones(len(names), bool)}
        groups |= {str(name): names == name for name in np.unique(names) if name}
        kept = {name: at for name, at in groups.items() if name is None or at.sum() >= LEAST_PATCHES}
        return cls(
            {name: np.quantile(found[at], 1 - LIMIT, axis=0) for name, at in kept.items()},
            {name: np.quantile(found[at], LIMIT, axis=0) for name, at in kept.items()},
        )

    def beyond(
        self, found: Float64[np.ndarray, "n m"], compartments: Sequence[str | None]
    ) -> Bool[np.ndarray, "n f"]:
        """Which of `FAULTS` each patch has, by the limits of its compartment."""
        keys = [name if name in self.low else None for name in compartments]
        flags = np.zeros((len(found), len(FAULTS)), bool)
        for k, fault in enumerate(FAULTS):
            column = MEASURES.index(fault.measure)
            if fault.side == "below":
                flags[:, k] = found[:, column] < np.array([self.low[key][column] for key in keys])
            else:
                flags[:, k] = found[:, column] > np.array([self.high[key][column] for key in keys])
        return flags


@dataclass(frozen=True)
class Nearest:
    """How far pictures lie from real training patches in feature space, in the patches' own reach.

    A training patch reaches to its fifth neighbour among the others: the balls of precision (Kynkäänniemi et al. 2019),
    so that what the card counts can be shown. Where real tissue is dense the balls are small. A plain distance finds
    almost nothing: flat or blurred pictures lie near the middle of the features, where everything is near.

    Attributes
    ----------
    distance
        (n,) smallest ratio of the Euclidean distance from a training patch to that patch's reach; up to 1 is inside a ball.
    at
        (n,) which training patch gives it.
    """

    distance: Float64[np.ndarray, n]
    at: Int64[np.ndarray, n]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"], training: Float[np.ndarray, "m d"]) -> Nearest:
        """Search all training patches; there must be two of them.

        Raises
        ------
        ValueError
            With fewer.
        """
        if len(training) < 2:
            raise ValueError("a training patch reaches to another one; there is none")
        within = euclidean_distances(training)
        reach = np.sort(within, axis=1)[:, min(NEIGHBOURS, len(training) - 1)]
        # Copies of one picture (blank glass) reach nowhere; a tiny ball keeps the ratio finite.
        ratio = euclidean_distances(features, training) / np.maximum(reach, 1e-6)
        at = ratio.argmin(axis=1)
        return cls(np.asarray(ratio[np.arange(len(ratio)), at], np.float64), np.asarray(at, np.int64))


@dataclass(frozen=True)
class Unlike:
    """What was found in one kind of picture, a row a spot.

    Attributes
    ----------
    nearest
        Distance to real training patches.
    measured
        (n, measures).
    flags
        (n, findings) which of `FINDINGS` hold.
    limit
        Of the distance.
    """

    nearest: Nearest
    measured: Float64[np.ndarray, "n m"]
    flags: Bool[np.ndarray, "n f"]
    limit: float

    @classmethod
    def of(
        cls,
        nearest: Nearest,
        measured: Float64[np.ndarray, "n m"],
        limit: float,
        ordinary: RealRange,
        compartments: Sequence[str | None],
    ) -> Unlike:
        """Hold pictures against the limits."""
        far = nearest.distance > limit
        flags = np.column_stack([far, ordinary.beyond(measured, compartments)])
        return cls(nearest, measured, flags, limit)

    @property
    def times(self) -> Float64[np.ndarray, n]:
        """Distance over its limit; above 1 is unlike any real tissue."""
        return self.nearest.distance / max(self.limit, 1e-12)

    def found(self, i: int) -> list[str]:
        """What was found in a picture, in words."""
        return [name for name, flag in zip(FINDINGS, self.flags[i]) if flag]

    def worst(self) -> Int64[np.ndarray, k]:
        """Pictures with a finding: most findings first, of equally many the farthest first."""
        order = np.lexsort((-self.nearest.distance, -self.flags.sum(axis=1)))
        return np.asarray(order[self.flags[order].any(axis=1)], np.int64)


def distance_limit(real: Nearest) -> float:
    """The distance that `LIMIT` of the real held-out patches keep to."""
    return float(np.quantile(real.distance, LIMIT))
