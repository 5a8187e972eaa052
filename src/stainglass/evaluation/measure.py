"""Everything that is measured on one set of pictures, so that the pictures can be let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy.typing import NDArray

from stainglass.analysis.block_draws import codes
from stainglass.analysis.nuclei import NucleusReader
from stainglass.evaluation.clouds import BLOCK, DENSE, on_disk, slices
from stainglass.evaluation.lpips import Lpips
from stainglass.evaluation.memorisation import nearest_training
from stainglass.evaluation.pairs import cosine, lpips, ssim
from stainglass.evaluation.resampling import Resampling
from stainglass.evaluation.settings import Judge
from stainglass.evaluation.tissue import Tissue
from stainglass.models.clip import TissueCLIP
from stainglass.progress import progress_bar

Features = Mapping[str, NDArray[np.float32]]
"""Features by judge: name → (n, d)."""

PairKey = tuple[str, str | None]
"""A pair score and the network behind it: ("ssim", None), ("cosine", "EfficientNet-Lite0") …"""


@dataclass(frozen=True)
class Measured:
    """What was measured on N pictures.

    Attributes
    ----------
    features
        By judge, (N, D).
    pairs
        By score, (N,): each picture beside the real window of the same index.
    looks
        (N, 3): see `stainglass.analysis.nuclei.LOOKS`.
    nearest, neighbour
        (N,): distance to, and index of, the nearest training window for the first judge.
    clip
        (N, D) unit vectors in the run's CLIP, where it has one.
    """

    features: Features
    pairs: Mapping[PairKey, Float64[np.ndarray, n]]
    looks: Float64[np.ndarray, "n 3"]
    nearest: Float64[np.ndarray, n]
    neighbour: Int64[np.ndarray, n]
    clip: Float32[np.ndarray, "n d"] | None = None


@dataclass(frozen=True)
class Subject:
    """One subject of the card, measured.

    Attributes
    ----------
    name
        One of `stainglass.evaluation.card.SUBJECTS`.
    on
        What its pictures are, in words.
    sets
        One `Measured` a noise seed, or a single one; empty when the subject is absent.
    seeds
        The noise seeds; empty where no noise is drawn.
    tissue, resampling
        The windows the pictures belong to (the judged ones, or its own: ``train``, ``other_patient``).
    aligned
        Whether picture i shows what judged window i should.
    why
        Why it is absent.
    """

    name: str
    on: str
    sets: tuple[Measured, ...]
    seeds: tuple[int, ...]
    tissue: Tissue
    resampling: Resampling
    aligned: bool
    why: str | None = None

    def pair_scores(self, key: PairKey) -> Float64[np.ndarray, n]:
        """A pair score of each window, averaged over noise seeds."""
        return np.mean([measured.pairs[key] for measured in self.sets], axis=0)


@dataclass(frozen=True)
class Measurer:
    """Judges, rulers and the training features they need.

    Attributes
    ----------
    train
        Features of the real training windows, by judge.
    clip
        The run's CLIP, or None; it is examined, it does not judge.
    """

    judges: tuple[Judge, ...]
    lpips: Lpips | None
    nuclei: NucleusReader
    train: Features
    clip: TissueCLIP | None = None

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], title: str
    ) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Features of pictures for each judge, behind one progress bar."""
        return judge_features(self.judges, pixels, title)

    def measure(
        self,
        pixels: UInt8[np.ndarray, "n h w 3"],
        real: UInt8[np.ndarray, "n h w 3"],
        real_features: Features,
        title: str,
        sections: Sequence[str],
        features: Features | None = None,
    ) -> Measured:
        """Measure pictures beside real windows of the same index; ``sections`` are those the pictures belong to."""
        if features is None:
            features = self.features(pixels, title)
        pairs: dict[PairKey, NDArray[np.float64]] = {("ssim", None): ssim(pixels, real)}
        if self.lpips is not None:
            pairs["lpips", self.lpips.name] = lpips(self.lpips, pixels, real)
        for name, found in features.items():
            pairs["cosine", name] = cosine(found, real_features[name], self.train[name].mean(0))
        first = self.judges[0].name
        nearest, neighbour = nearest_training(features[first], self.train[first])
        seen = None if self.clip is None else self.clip.embed_images(pixels, codes(sections))
        return Measured(features, pairs, self.nuclei.read(pixels), nearest, neighbour, seen)


def judge_features(
    judges: tuple[Judge, ...], pixels: UInt8[np.ndarray, "n h w 3"], title: str
) -> dict[str, Float32[np.ndarray, "n d"]]:
    """Features of pictures for each judge, behind one progress bar; those of many pictures lie on disk."""
    n = len(pixels)
    with progress_bar(f"judging {title}", total=n * len(judges)) as advance:
        if n <= DENSE:
            return {judge.name: judge.features(pixels, advance) for judge in judges}
        return {
            judge.name: on_disk((judge.features(pixels[at], advance) for at in slices(n, BLOCK)), n)
            for judge in judges
        }
