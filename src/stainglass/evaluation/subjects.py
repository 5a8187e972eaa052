"""Everything that is judged beside the generator, on the same held-out windows and at the same N."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray

from stainglass.evaluation.tissue import Painter, Tissue
from stainglass.genes.normalise import log_normalised
from stainglass.models.clip import TissueCLIP


@dataclass(frozen=True)
class Plan:
    """How the pictures of one subject come about.

    Attributes
    ----------
    name
        One of `stainglass.evaluation.card.SUBJECTS`.
    on
        What its pictures are, in words, for the card.
    images
        Noise seed → pictures, one a window; not called for an absent subject.
    noisy
        Whether the pictures depend on the noise seed.
    tissue
        The subject's own windows where they are not the judged ones.
    why
        Why the subject is absent; None when it is there.
    """

    name: str
    on: str
    images: Callable[[int], UInt8[np.ndarray, "n h w 3"]]
    noisy: bool = False
    tissue: Tissue | None = None
    why: str | None = None


def painted_plans(
    real: Tissue,
    whole: Tissue,
    painter: Painter,
    deranged: dict[int, NDArray[np.int64]],
    distance_um: float,
    stranger: Tissue | None = None,
) -> list[Plan]:
    """The generator and its counterfactuals: genes of another place, of another patient, of nowhere, and none.

    Parameters
    ----------
    real
        The judged windows.
    whole
        All windows of the same part of the split, for the section means.
    deranged
        A derangement of the judged windows for each noise seed.
    distance_um
        How far the shuffled conditions travelled at least.
    stranger
        Windows of another patient, whose spots are told in turn; None where there is none.
    """
    windows, told = real.windows, real.conditions
    bulk = told.with_counts_everywhere(section_means(real, whole), "section mean")
    return [
        Plan(
            "generated",
            "painted from each window's own spots",
            lambda seed: painter.paint(windows, told, seed),
            True,
        ),
        Plan(
            "shuffled",
            f"same windows and noise, spots of another window at least {distance_um:.0f} µm away",
            lambda seed: painter.paint(windows, told.take(deranged[seed]), seed),
            True,
        ),
        Plan(
            "bulk",
            "same windows and noise, every spot given its section's mean expression",
            lambda seed: painter.paint(windows, bulk, seed),
            True,
        ),
        _stranger_plan(real, stranger, painter),
        Plan(
            "unconditional",
            "same windows and noise, told nothing",
            lambda seed: painter.paint(windows, told.null(), seed),
            True,
        ),
    ]


def _stranger_plan(real: Tissue, stranger: Tissue | None, painter: Painter) -> Plan:
    name, on = "other_patient_genes", "same windows and noise, spots of another patient"
    if stranger is None:
        return Plan(name, on, lambda _: real.pixels[:0], True, why="no other patient was given")
    spread = np.linspace(0, len(stranger) - 1, len(real)).round().astype(np.int64)
    told = stranger.conditions.take(spread)
    return Plan(name, on, lambda seed: painter.paint(real.windows, told, seed), True)


def image_plan(real: Tissue, painter: Painter, clip: TissueCLIP) -> Plan:
    """The other reading of "reconstruct": each window painted again from CLIP's embedding of its own picture."""
    told = real.conditions.told_images(clip.embed_images(real.pixels))
    return Plan(
        "from_image",
        "same windows and noise, told CLIP's embedding of the real window and no genes",
        lambda seed: painter.paint(real.windows, told, seed),
        True,
    )


def class_plan(real: Tissue, whole: Tissue, distance_um: float, rng: np.random.Generator) -> Plan:
    """Beside each window another real one of its class: how alike two pictures of the same kind of tissue are."""
    if real.classes is None or whole.classes is None:
        why = "the training tissue shows no classes by markers"
        return Plan("same_class", "real windows of the same class", lambda _: real.pixels[:0], why=why)
    at = same_class(real, whole, distance_um, rng)
    on = f"another real window of the same class, where there is one {distance_um:.0f} µm away"
    return Plan("same_class", on, lambda _: whole.pixels[at])


def same_class(
    real: Tissue, whole: Tissue, distance_um: float, rng: np.random.Generator
) -> Int64[np.ndarray, n]:
    """For each window one of ``whole`` of its class: far away or of another section, else near, else of any class."""
    classes, sections = np.asarray(whole.classes), np.asarray(whole.sections)
    found = np.empty(len(real), np.int64)
    for i, window in enumerate(real.windows):
        apart = np.hypot(*(whole.centres_um_yx - real.centres_um_yx[i]).T)
        here = sections == window.section
        other = ~here | (apart > 0)
        alike = other & (classes == real.classes[i] if real.classes is not None else other)
        far = alike & (~here | (apart >= distance_um))
        pool = next(found for found in (far, alike, other) if found.any())
        found[i] = rng.choice(np.flatnonzero(pool))
    return found


def real_plans(
    real: Tissue,
    train: Tissue,
    painter: Painter,
    train_sample: Tissue,
    other: Tissue | None,
) -> list[Plan]:
    """The subjects that need no generator: ceilings, real tissue of other origin, and trivial answers."""
    return [
        Plan(
            "reconstruction",
            "real windows through the autoencoder",
            lambda _: painter.reconstruct(real.pixels),
        ),
        Plan(
            "retrieval",
            "for each window, the real training window with the nearest expression",
            lambda _: train.pixels[nearest_expression(real, train)],
        ),
        Plan("mean_image", "the mean training window, everywhere", lambda _: mean_image(train, len(real))),
        Plan("train", "real training windows", lambda _: train_sample.pixels, tissue=train_sample),
        Plan(
            "other_patient",
            "real windows of another patient",
            lambda _: other.pixels if other is not None else real.pixels[:0],
            tissue=other,
            why=None if other is not None else "no other patient was given",
        ),
    ]


def section_means(real: Tissue, whole: Tissue) -> Float32[np.ndarray, "n g"]:
    """Mean raw counts of each window's section, over all its windows."""
    sections = np.asarray(whole.sections)
    means = {name: whole.counts[sections == name].mean(0) for name in set(real.sections)}
    return np.stack([means[name] for name in real.sections]).astype(np.float32)


def nearest_expression(real: Tissue, train: Tissue) -> Int64[np.ndarray, n]:
    """The training window whose log1p CP10k has the largest cosine, both seen from the training mean."""
    learned, asked = log_normalised(train.counts), log_normalised(real.counts)
    mean = learned.mean(0)
    a, b = _unit_rows(asked - mean), _unit_rows(learned - mean)
    return (a @ b.T).argmax(1).astype(np.int64)


def _unit_rows(x: Float32[np.ndarray, "n g"]) -> Float32[np.ndarray, "n g"]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1)).astype(np.float32)


def mean_image(train: Tissue, n: int) -> UInt8[np.ndarray, "n h w 3"]:
    """The mean of the training windows, n times over."""
    mean = train.pixels.mean(axis=0, dtype=np.float64).round().astype(np.uint8)
    return np.broadcast_to(mean, (n, *mean.shape)).copy()
