"""A stage: one part of the split with every subject measured on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.evaluation.clouds import joined
from stainglass.evaluation.measure import Features, Measured, Measurer, Subject
from stainglass.evaluation.pictures import Pictures
from stainglass.evaluation.resampling import Resampling, derange_as_far_as_possible
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.evaluation.subjects import Plan, class_plan, image_plan, painted_plans, real_plans
from stainglass.evaluation.tissue import Painter, Tissue

LEAST_WINDOWS = 8
ENOUGH_FREEDOM = 7
"""Degrees of freedom from which on intervals of a simulated mean hold the truth about as often as they should."""


@dataclass(frozen=True)
class Stage:
    """The judged windows of one part of a split, and everything put beside them.

    Attributes
    ----------
    split
        Name of the part.
    real
        The judged windows.
    resampling
        The draws every aligned subject shares, so that differences are paired.
    subjects
        Measured subjects by name, absent ones too.
    pool
        Features of the judged windows and, where there are more, of as many others: the floor's halves.
    partners
        Noise seed → the derangement behind its shuffled conditions.
    notes
        What had to be bent.
    """

    split: str
    real: Tissue
    resampling: Resampling
    subjects: dict[str, Subject]
    pool: Features
    partners: dict[int, NDArray[np.int64]]
    notes: tuple[str, ...]


def equal_n(settings: EvaluationSettings, *tissues: Tissue | None) -> int:
    """The number of windows every subject gets: what was asked for, or what the smallest tissue has."""
    n = min([settings.n, *(len(tissue) for tissue in tissues if tissue is not None)])
    if n < LEAST_WINDOWS:
        named = ", ".join(f"{tissue.name} {len(tissue)}" for tissue in tissues if tissue is not None)
        raise StainglassError(
            "evaluation",
            f"only {n} windows a subject (asked {settings.n}; there are: {named})",
            f"Give at least {LEAST_WINDOWS} windows on every side",
        )
    return n


def set_stage(
    split: str,
    whole: Tissue,
    train: Tissue,
    other: Tissue | None,
    painter: Painter,
    measurer: Measurer,
    settings: EvaluationSettings,
    n: int,
    pictures: Pictures,
    with_real_subjects: bool,
    stranger: Tissue | None = None,
    all_train: Tissue | None = None,
) -> Stage:
    """Choose the windows, paint and measure every subject on them.

    Parameters
    ----------
    whole
        All windows of this part of the split.
    other
        Real windows of another patient, or None.
    n
        Windows a subject.
    with_real_subjects
        Whether reconstruction, retrieval, mean image, train and other patient are judged here too.
    stranger
        Windows of a patient that is not of this part: their genes are told too.
    all_train
        More training windows than ``train``, where there are: training tissue as a subject is drawn from them.
    """
    rng = np.random.default_rng(settings.choice_seed)
    at = whole.chosen(n, rng)
    real = whole.take(at)
    spare = np.setdiff1d(np.arange(len(whole)), at)
    spare = spare[np.sort(rng.permutation(len(spare))[:n])]
    resampling = _resampling(real, settings, rng)
    features = measurer.features(real.pixels, f"real {split}")
    more = measurer.features(whole.pixels[spare], f"spare real {split}") if len(spare) >= n else None
    pool = features if more is None else {k: joined(features[k], more[k]) for k in features}

    deranged, distance = _derangements(real, settings, rng)
    plans = painted_plans(real, whole, painter, deranged, distance, stranger)
    if measurer.clip is not None and settings.tells_images:
        plans.append(image_plan(real, painter, measurer.clip))
    if with_real_subjects:
        source = all_train or train
        sample = source.take(source.chosen(n, rng))
        beside = other.take(other.chosen(n, rng)) if other is not None else None
        plans += real_plans(real, train, painter, sample, beside)
        plans.append(class_plan(real, whole, distance, np.random.default_rng(settings.choice_seed)))
    pictures.start(split, real)
    floor = _floor(real, features, deranged[settings.seeds[0]], measurer, resampling)
    subjects = {"floor": floor}
    for plan in plans:
        subjects[plan.name] = _measured(
            plan, real, features, resampling, measurer, settings, rng, pictures, split
        )
    notes = () if distance == settings.derange_um else (_short_of(split, distance, settings.derange_um),)
    if resampling.freedom < ENOUGH_FREEDOM:
        notes = (*notes, _few_blocks(split, resampling.freedom))
    return Stage(split, real, resampling, subjects, pool, deranged, notes)


def _short_of(split: str, distance: float, asked: float) -> str:
    return f"{split}: the tissue is too small to shuffle {asked:.0f} µm away; {distance:.0f} µm was kept"


def _few_blocks(split: str, freedom: int) -> str:
    return (
        f"{split}: its blocks of tissue leave {freedom} degrees of freedom; with so few, intervals are rough"
    )


def _resampling(tissue: Tissue, settings: EvaluationSettings, rng: np.random.Generator) -> Resampling:
    return Resampling.of(tissue.centres_um_yx, tissue.sections, settings.block_um, settings.bootstrap, rng)


def _derangements(
    real: Tissue, settings: EvaluationSettings, rng: np.random.Generator
) -> tuple[dict[int, NDArray[np.int64]], float]:
    """One derangement a noise seed, so that no single shuffle decides; all at the same distance."""
    _, distance = derange_as_far_as_possible(real.centres_um_yx, real.sections, settings.derange_um, rng)
    found = {
        seed: derange_as_far_as_possible(real.centres_um_yx, real.sections, distance, rng)[0]
        for seed in settings.seeds
    }
    return found, distance


def _floor(
    real: Tissue, features: Features, deranged: NDArray[np.int64], measurer: Measurer, resampling: Resampling
) -> Subject:
    """Real tissue itself; as a pair, another real window of the same tissue in place of the right one."""
    swapped = measurer.measure(
        real.pixels[deranged], real.pixels, features, "floor", real.sections,
        {k: f[deranged] for k, f in features.items()},
    )  # fmt: skip
    own = measurer.measure(real.pixels, real.pixels, features, "floor", real.sections, features)
    floor = Measured(features, swapped.pairs, own.looks, own.nearest, own.neighbour, own.clip)
    return Subject("floor", "real windows of this tissue", (floor,), (), real, resampling, aligned=True)


def _measured(
    plan: Plan,
    real: Tissue,
    features: Features,
    resampling: Resampling,
    measurer: Measurer,
    settings: EvaluationSettings,
    rng: np.random.Generator,
    pictures: Pictures,
    split: str,
) -> Subject:
    """Paint a plan under every noise seed; pictures are measured, sampled for the report, and let go."""
    tissue = plan.tissue if plan.tissue is not None else real
    draws = resampling if plan.tissue is None else _resampling(plan.tissue, settings, rng)
    aligned, seeds = plan.tissue is None, settings.seeds if plan.noisy else ()
    if plan.why is not None:
        return Subject(plan.name, plan.on, (), seeds, tissue, draws, aligned, plan.why)
    sets = []
    for number, seed in enumerate(settings.seeds if plan.noisy else settings.seeds[:1]):
        images = _checked(plan.images(seed), real.pixels, plan.name)
        title = f"{split} · {plan.name}" + (f" · seed {seed}" if plan.noisy else "")
        measured = measurer.measure(images, real.pixels, features, title, tissue.sections)
        sets.append(measured)
        if number == 0:
            pictures.keep(split, plan.name, images, measured)
    return Subject(plan.name, plan.on, tuple(sets), seeds, tissue, draws, aligned)


def _checked(
    images: UInt8[np.ndarray, "n h w 3"], like: UInt8[np.ndarray, "n h w 3"], name: str
) -> UInt8[np.ndarray, "n h w 3"]:
    """Equal N and size, for every subject, or a bug is told."""
    if images.shape != like.shape or images.dtype != np.uint8:
        raise ValueError(f"{name}: painted {images.dtype} {images.shape}, expected uint8 {like.shape}")
    return images
