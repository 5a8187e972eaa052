"""How a slide is stained, fitted on its tissue as a whole, and how the same tissue would look in another stain.

Two classic models, on slides instead of patches, so that a pale patch can upset neither:

- **Macenko**: two dyes, each an absorption spectrum and a strength, and the lamp. Macenko et al., A method for normalizing
  histology slides for quantitative analysis, ISBI 2009, doi:10.1109/ISBI.2009.5193250.
- **Reinhard**: mean and deviation of each axis of lαβ. Reinhard et al., Color transfer between images, IEEE Computer
  Graphics and Applications 21(5):34, 2001, doi:10.1109/38.946629.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

from stainglass.cohort.cohort import PreparedSection
from stainglass.cohort.raster import CHUNK_PX, WHITE
from stainglass.cohort.tissue import BLACK, TISSUE_MPP
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError

Method = Literal["macenko", "reinhard"]
STAINED = 0.15
"""Optical density above which a pixel counts as stained (Macenko's β)."""
EXTREME = 1.0
"""Percentile of angles taken for a pure dye (Macenko's α); 100 less it for its strength."""
LEAST_PIXELS = 1000
WINDOWS, PIXELS_A_WINDOW = 48, 6000
"""Places of a slide that are looked at, and pixels taken of each: 288,000 in all."""

# Ruderman's lαβ, as in Reinhard et al., equations 4 to 6.
_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_MIX = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1.0, 1, 1], [1, 1, -2], [1, -1, 0]])


class Stain(Protocol):
    """A slide's stain, by either model."""

    @classmethod
    def fit(cls, tissue: UInt8[np.ndarray, "n 3"], glass: Float64[np.ndarray, 3]) -> Self:
        """Fit it to pixels of tissue; ``glass`` is the colour of the empty slide."""

    def restain(self, image: UInt8[np.ndarray, "*hw 3"], target: Self) -> UInt8[np.ndarray, "*hw 3"]:
        """The same tissue in another stain; pure white, which is no glass but nothing, stays."""

    def mixed(self, other: Self, share: float) -> Self:
        """A stain on the line to another: 0 is this one, 1 the other; a little beyond either is still a stain."""

    def numbers(self) -> Float64[np.ndarray, n]:
        """All that was fitted."""


@dataclass(frozen=True)
class Macenko:
    """Two dyes under a lamp.

    Attributes
    ----------
    dyes
        Unit vectors of optical density in (red, green, blue): haematoxylin, eosin.
    strength
        Of each dye: the 99th percentile of its optical density over the tissue.
    glass
        Colour of the empty slide, 0 to 255.
    """

    dyes: Float64[np.ndarray, "2 3"]
    strength: Float64[np.ndarray, 2]
    glass: Float64[np.ndarray, 3]

    @classmethod
    def fit(cls, tissue: UInt8[np.ndarray, "n 3"], glass: Float64[np.ndarray, 3]) -> Self:
        """Macenko's plane and its two edges; on pixels that are stained in every colour."""
        density = -np.log((tissue.astype(np.float64) + 1) / (glass + 1))
        density = density[(density > STAINED).all(axis=1)]
        if len(density) < LEAST_PIXELS:
            raise StainglassError(
                "stain",
                f"only {len(density)} stained pixels were found",
                "Look at the tissue mask and the slide",
            )
        plane = np.linalg.eigh(np.cov(density.T))[1][:, [2, 1]]
        plane *= np.where(plane.sum(0) < 0, -1.0, 1.0)
        angle = np.arctan2(density @ plane[:, 1], density @ plane[:, 0])
        edges = np.percentile(angle, [EXTREME, 100 - EXTREME])
        dyes = np.maximum((plane @ np.stack([np.cos(edges), np.sin(edges)])).T, 1e-6)
        dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
        dyes = dyes[np.argsort(-dyes[:, 0])]  # haematoxylin takes more of the red
        amount = density @ np.linalg.pinv(dyes)
        return cls(dyes, np.maximum(np.percentile(amount, 100 - EXTREME, axis=0), 1e-3), glass)

    def restain(self, image: UInt8[np.ndarray, "*hw 3"], target: Macenko) -> UInt8[np.ndarray, "*hw 3"]:
        """Exchange the dyes' spectra and strengths and the lamp; what neither dye explains (pigment, ink) stays as it is.

        In optical density that is one 3 × 3 matrix, so nothing is clipped on the way and the way back exists.
        """
        apart = np.linalg.pinv(self.dyes)
        exchange = apart @ np.diag(target.strength / self.strength) @ target.dyes
        matrix = (exchange + np.eye(3) - apart @ self.dyes).astype(np.float32)
        table = -np.log((np.arange(256)[:, None] + 1) / (self.glass + 1)).astype(np.float32)
        density = np.stack([table[image[..., c], c] for c in range(3)], axis=-1)
        painted = (target.glass + 1).astype(np.float32) * np.exp(-(density @ matrix)) - 1
        return _bytes(painted, image)

    def mixed(self, other: Macenko, share: float) -> Self:
        """Strengths are mixed as logarithms, so that they stay above zero."""
        dyes = np.maximum(self.dyes + share * (other.dyes - self.dyes), 1e-6)
        return type(self)(
            dyes / np.linalg.norm(dyes, axis=1, keepdims=True),
            np.exp(np.log(self.strength) + share * (np.log(other.strength) - np.log(self.strength))),
            np.clip(self.glass + share * (other.glass - self.glass), 128, 255),
        )

    def numbers(self) -> Float64[np.ndarray, n]:
        """(11,): dyes, strengths, glass."""
        return np.concatenate([self.dyes.ravel(), self.strength, self.glass])


@dataclass(frozen=True)
class Reinhard:
    """Mean and deviation (3,) of each axis of lαβ over the tissue."""

    mean: Float64[np.ndarray, 3]
    deviation: Float64[np.ndarray, 3]

    @classmethod
    def fit(cls, tissue: UInt8[np.ndarray, "n 3"], glass: Float64[np.ndarray, 3]) -> Self:
        """Moments of the tissue's colours; the glass has no part in it."""
        if len(tissue) < LEAST_PIXELS:
            raise StainglassError("stain", f"only {len(tissue)} pixels of tissue", "Look at the tissue mask")
        axes = _lab(tissue)
        return cls(axes.mean(0, dtype=np.float64), np.maximum(axes.std(0, dtype=np.float64), 1e-4))

    def restain(self, image: UInt8[np.ndarray, "*hw 3"], target: Reinhard) -> UInt8[np.ndarray, "*hw 3"]:
        """Shift and stretch every axis; glass in the picture is shifted with the tissue, a known fault of the method."""
        stretch = target.deviation / self.deviation
        back, from_lms, by, shift = (
            part.astype(np.float32)  # in float64, four times slower and the same but for one value in 70,000
            for part in (
                np.log2(10) * np.linalg.inv(_MIX).T,
                256 * np.linalg.inv(_TO_LMS).T,
                stretch,
                target.mean - stretch * self.mean,
            )
        )
        return _bytes(np.exp2((_lab(image) * by + shift) @ back) @ from_lms - 1, image)

    def mixed(self, other: Reinhard, share: float) -> Self:
        """Deviations are mixed as logarithms, so that they stay above zero."""
        ratio = np.log(other.deviation) - np.log(self.deviation)
        return type(self)(
            self.mean + share * (other.mean - self.mean), np.exp(np.log(self.deviation) + share * ratio)
        )

    def numbers(self) -> Float64[np.ndarray, n]:
        """(6,): means, deviations."""
        return np.concatenate([self.mean, self.deviation])


METHODS: dict[str, type[Macenko] | type[Reinhard]] = {"macenko": Macenko, "reinhard": Reinhard}


def stain_of(section: PreparedSection, method: Method = "macenko") -> Macenko | Reinhard:
    """Fit a section's stain on its tissue.

    Raises
    ------
    StainglassError
        When there is hardly any stained tissue.
    """
    tissue, glass = stain_pixels(section)
    try:
        return METHODS[method].fit(tissue, glass)
    except StainglassError as error:
        raise StainglassError(section.id, error.finding, error.remedy) from None


def stain_pixels(
    section: PreparedSection, seed: int = 0
) -> tuple[UInt8[np.ndarray, "n 3"], Float64[np.ndarray, 3]]:
    """Pixels of tissue, spread over a section, and the colour of its glass.

    The glass is the median of what lies beside the tissue; where nothing does, the brightest of the tissue.
    """
    rng = np.random.default_rng(seed)
    on, off = [], []
    places = _places(section)
    for at in rng.permutation(len(places))[:WINDOWS]:
        window = Window(section.id, int(places[at][0]), int(places[at][1]), CHUNK_PX)
        pixels = section.pixels(window).reshape(-1, 3)
        mask = _mask(section, window).ravel()
        on.append(_some(pixels[mask], rng))
        glass = ~mask & (pixels < WHITE).any(axis=1) & (pixels.max(axis=1) >= BLACK)
        off.append(_some(pixels[glass], rng))
    tissue, beside = np.concatenate(on), np.concatenate(off)
    # A tissue mask leaves out pale tissue, so of what lies beside it only the brighter half is glass.
    bright = beside[beside.sum(1) >= np.median(beside.sum(1))] if len(beside) else beside
    enough = len(bright) >= LEAST_PIXELS
    glass = np.median(bright, axis=0) if enough else np.percentile(tissue, 99.5, axis=0)
    return tissue, np.asarray(glass, dtype=np.float64)


def _places(section: PreparedSection) -> NDArray[np.int64]:
    """Corners (top, left) of the chunks that hold tissue, in px."""
    cell = TISSUE_MPP / section.mpp
    rows, columns = np.nonzero(section.tissue)
    corners = np.stack([rows * cell, columns * cell], axis=1) // CHUNK_PX
    if not len(corners):
        raise StainglassError(section.id, "no tissue was found on its slide", "Look at its proof image")
    found: NDArray[np.int64] = np.unique(corners.astype(np.int64), axis=0) * CHUNK_PX
    if section.block is None:
        return found
    block, part = section.block  # of a block nothing of the other one: not a pixel of what is held out
    inside = [block.of(part, (found + shift) * section.mpp) for shift in (0, CHUNK_PX)]
    kept: NDArray[np.int64] = found[inside[0] & inside[1]]
    if not len(kept):
        raise StainglassError(
            section.id, "this block holds no whole square of tissue", "Leave stain variants out"
        )
    return kept


def _mask(section: PreparedSection, window: Window) -> NDArray[np.bool_]:
    """The tissue mask of a window, px by px."""
    cell = TISSUE_MPP / section.mpp
    height, width = section.tissue.shape
    rows = np.minimum(((window.top_px + np.arange(window.size_px)) / cell).astype(int), height - 1)
    columns = np.minimum(((window.left_px + np.arange(window.size_px)) / cell).astype(int), width - 1)
    return np.asarray(section.tissue[np.ix_(rows, columns)])


def _some(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return pixels[rng.permutation(len(pixels))[:PIXELS_A_WINDOW]]


def _lab(image: UInt8[np.ndarray, "*hw 3"]) -> Float32[np.ndarray, "*hw 3"]:
    table = ((np.arange(256) + 1) / 256).astype(np.float32)
    lms = table[image] @ _TO_LMS.T.astype(np.float32)
    return np.asarray(np.log10(np.maximum(lms, 1e-4)) @ _MIX.T.astype(np.float32))


def _bytes(painted: NDArray[np.floating], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rounded to bytes; pure white stays."""
    nothing = (image == WHITE).all(axis=-1, keepdims=True)
    rounded = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
    return np.where(nothing, np.uint8(WHITE), rounded)
