"""From a measured stage to rows of the card: one function a family of figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stainglass.analysis.block_draws import codes
from stainglass.analysis.nuclei import LOOKS
from stainglass.analysis.recovery import grouped_correlation
from stainglass.evaluation.blocks import Halves, compare
from stainglass.evaluation.card import SUBJECTS, Better, Row
from stainglass.evaluation.clouds import DENSE, Cloud
from stainglass.evaluation.distances import (
    INFINITY_SUBSETS,
    NEIGHBOURS,
    Kernels,
    Neighbourhoods,
    frechet_distance,
    frechet_infinity,
    infinity_needs,
)
from stainglass.evaluation.features import INCEPTION
from stainglass.evaluation.inception import RESIZE
from stainglass.evaluation.measure import Measured, PairKey, Subject
from stainglass.evaluation.memorisation import copy_threshold
from stainglass.evaluation.resampling import HALVES_LABEL, Estimate
from stainglass.evaluation.stage import Stage

SMALL_N = 2000
FLOOR_SPLITS = 20
CONTROLS = ("shuffled", "other_patient_genes", "bulk", "unconditional", "retrieval")
"""Subjects the generator's paired advantage is computed over."""

SHARES = ("precision", "recall", "density", "coverage")

PARTNER = "beside the real window of the same place"


def row(
    stage: Stage,
    subject: str,
    metric: str,
    better: Better,
    estimate: Estimate | float | None,
    *,
    features: str | None = None,
    on: str | None = None,
    why: str | None = None,
    n: int | None = None,
) -> Row:
    """One row; an estimate brings its interval, NaN is undefined and must say why."""
    found = stage.subjects[subject]
    value = estimate.value if isinstance(estimate, Estimate) else estimate
    defined = value is not None and bool(np.isfinite(value))
    interval = isinstance(estimate, Estimate) and defined and bool(np.isfinite(estimate.draws).all())
    return Row(
        metric=metric,
        features=features,
        on=on or found.on,
        split=stage.split,
        subject=subject,
        value=value if defined else None,
        low=estimate.low if isinstance(estimate, Estimate) and interval else None,
        high=estimate.high if isinstance(estimate, Estimate) and interval else None,
        interval=estimate.label if isinstance(estimate, Estimate) and interval else None,
        n=len(found.tissue) if n is None else n,
        seeds=len(found.seeds),
        by_seed=_by_seed(estimate) if defined and len(found.seeds) > 1 else (),
        better=better,
        why=why if why is not None or defined else found.why or "not defined for these windows",
    )


def _by_seed(estimate: Estimate | float | None) -> tuple[float, ...]:
    """The figure under each noise seed, where every one is defined."""
    found = estimate.by_seed if isinstance(estimate, Estimate) else ()
    return found if np.isfinite(found).all() else ()


def present(stage: Stage) -> Iterator[Subject]:
    """Subjects of the stage in the card's order."""
    return (stage.subjects[name] for name in SUBJECTS if name in stage.subjects)


def gains(
    stage: Stage, metric: str, better: Better, estimates: Mapping[str, Estimate], features: str | None
) -> list[Row]:
    """Paired advantage of the generated windows over each control; positive is in the generator's favour."""
    if "generated" not in estimates:
        return []
    found = []
    for name in CONTROLS:
        if name in estimates:
            gain = estimates["generated"] - estimates[name]
            on = f"generated against {name}, same windows" + (", same noise" if name != "retrieval" else "")
            signed = gain if better == "higher" else -gain
            found.append(row(stage, name, f"{metric}_gain", "higher", signed, features=features, on=on))
    return found


def pair_rows(stage: Stage, lpips_name: str, lpips_absent: str | None) -> list[Row]:
    """SSIM, LPIPS and cosine of each picture beside its real window."""
    keys: list[tuple[PairKey, Better]] = [(("ssim", None), "higher"), (("lpips", lpips_name), "lower")]
    keys += [(("cosine", name), "higher") for name in stage.pool]
    rows = []
    for key, better in keys:
        estimates: dict[str, Estimate] = {}
        for subject in present(stage):
            why = lpips_absent if key[0] == "lpips" else None
            if subject.sets and why is None:
                estimates[subject.name] = subject.resampling.mean(subject.pair_scores(key))
            partner = (
                PARTNER if subject.aligned and subject.name != "floor" else "beside an arbitrary real window"
            )
            rows.append(
                row(
                    stage,
                    subject.name,
                    key[0],
                    better,
                    estimates.get(subject.name),
                    features=key[1],
                    on=f"{subject.on}, {partner}",
                    why=why,
                )
            )
        rows += gains(stage, key[0], better, estimates, key[1])
    return rows


def distribution_rows(stage: Stage, judge: str) -> list[Row]:
    """Fréchet and kernel distance, precision, recall, density, coverage, all against the real windows."""
    rows = _floor_rows(stage, judge)
    for subject in present(stage):
        if subject.name != "floor":
            rows += _cloud_rows(stage, subject, judge)
    return rows


def _frechet_name(judge: str) -> str:
    return "fid" if judge == INCEPTION else "fd"


def _seen(judge: str) -> str:
    """How pictures come to the network, where the field's figures differ by it."""
    return f" ({RESIZE})" if judge == INCEPTION else ""


def _cloud_rows(stage: Stage, subject: Subject, judge: str) -> list[Row]:
    on = f"{subject.on}, against the real windows{_seen(judge)}"
    found: Mapping[str, Estimate | float | None] = dict.fromkeys(("kid", _frechet_name(judge), *SHARES))
    if subject.sets:
        found = _cloud_estimates(stage, subject, judge)
    reasons = _reasons(stage, judge) if subject.sets else {}
    return [
        row(
            stage,
            subject.name,
            metric,
            _better(metric),
            value,
            features=judge,
            on=on,
            why=reasons.get(metric),
        )
        for metric, value in found.items()
    ]


def _better(metric: str) -> Better:
    return "higher" if metric in SHARES else "lower"


def _reasons(stage: Stage, judge: str) -> dict[str, str]:
    """What has to be known of figures that are defined: their bias, or why they have no interval."""
    n, name = len(stage.real), _frechet_name(judge)
    enough = infinity_needs(stage.pool[judge].shape[1])
    bias = f"no interval, and biased upwards at N = {n}: read the kernel distance first"
    found = {f"{name}_infinity": f"no interval; a line through {INFINITY_SUBSETS} subsets, down to half of N"}
    if n < SMALL_N or n < enough:
        found[name] = f"{bias}; {name.upper()}∞ needs {enough} windows"
    if n > DENSE:
        found |= dict.fromkeys(
            SHARES, f"no interval beyond N = {DENSE}: halves would need balls of their own"
        )
    return found


def _cloud_estimates(stage: Stage, subject: Subject, judge: str) -> dict[str, Estimate | float | None]:
    """Figures averaged over noise seeds; intervals from halves shared by both sides where they are paired."""
    real = stage.pool[judge][: len(stage.real)]
    clouds = [measured.features[judge] for measured in subject.sets]
    halves = tuple(zip(stage.resampling.halves, subject.resampling.halves, strict=True))
    compared = _dense if len(real) <= DENSE else _blockwise
    found = compared(real, clouds, halves)
    name = _frechet_name(judge)
    frechet = {name: float(np.mean([frechet_distance(cloud, real) for cloud in clouds]))}
    if len(real) >= infinity_needs(real.shape[1]):
        rng = np.random.default_rng(len(real))
        frechet[f"{name}_infinity"] = float(np.mean([frechet_infinity(cloud, real, rng) for cloud in clouds]))
    return {"kid": found["kid"], **frechet, **found}


def _halved(each: Sequence[float], draws: Sequence[np.ndarray]) -> Estimate:
    """The mean over noise seeds, the figure under each, and the mean under each pair of halves."""
    estimate = Estimate.of(float(np.mean(each)), np.mean(draws, axis=0), HALVES_LABEL)
    return replace(estimate, by_seed=tuple(each))


def _dense(
    real: NDArray[np.floating], clouds: Sequence[NDArray[np.floating]], halves: Halves
) -> dict[str, Estimate | float | None]:
    """By whole matrices, which hold every half too."""
    kernels = [Kernels.of(cloud, real) for cloud in clouds]
    draws = [np.array([kernel.distance(j, i) for i, j in halves]) for kernel in kernels]
    kid = _halved([kernel.distance() for kernel in kernels], draws).centred()
    if len(real) // 2 <= NEIGHBOURS:
        return {"kid": kid} | dict.fromkeys(SHARES)
    around = [Neighbourhoods.of(real, cloud) for cloud in clouds]
    whole = [hood.overlap() for hood in around]
    halved = [[hood.overlap(i, j) for i, j in halves] for hood in around]
    found: dict[str, Estimate | float | None] = {"kid": kid}
    for name in SHARES:
        values = [np.array([getattr(overlap, name) for overlap in overlaps]) for overlaps in halved]
        estimate = _halved([getattr(overlap, name) for overlap in whole], values)
        found[name] = replace(estimate, by_seed=()).centred(0, np.inf if name == "density" else 1)
    return found


def _blockwise(
    real: NDArray[np.floating], clouds: Sequence[NDArray[np.floating]], halves: Halves
) -> dict[str, Estimate | float | None]:
    """By pairs of blocks, which bound memory; only the kernel distance has halves there."""
    found = [compare(Cloud(real), Cloud(cloud), halves) for cloud in clouds]
    kid = _halved([one.kid for one in found], [one.kid_of_halves for one in found]).centred()
    shares = {name: float(np.mean([getattr(one.overlap, name) for one in found])) for name in SHARES}
    return {"kid": kid, **shares}


def _floor_rows(stage: Stage, judge: str) -> list[Row]:
    """Real against real: random halves of the pool, many times."""
    pool, name = stage.pool[judge], _frechet_name(judge)
    half = min(len(stage.real), len(pool) // 2)
    rng = np.random.default_rng(len(pool))
    splits = [np.split(rng.permutation(len(pool))[: 2 * half], 2) for _ in range(FLOOR_SPLITS)]
    sides = [(Cloud(pool, np.sort(i)), Cloud(pool, np.sort(j))) for i, j in splits]
    draws = _dense_floor(pool, splits, half) if half <= DENSE else _blockwise_floor(sides)
    draws[name] = [frechet_distance(i, j) for i, j in sides]
    found: dict[str, Estimate | float] = {
        metric: Estimate.of(float(np.mean(values)), np.array(values), f"{FLOOR_SPLITS} random halves")
        for metric, values in draws.items()
    }
    if half >= infinity_needs(pool.shape[1]):
        found[f"{name}_infinity"] = frechet_infinity(*sides[0], rng)
    why = (
        None
        if half == len(stage.real)
        else f"halves of {half}: a Fréchet distance is larger at half the N, a kernel distance is not"
    )
    return [
        row(
            stage,
            "floor",
            metric,
            _better(metric),
            found[metric],
            features=judge,
            on=f"real against real: random halves of {half} windows each{_seen(judge)}",
            why=why,
            n=half,
        )
        for metric in ("kid", name, f"{name}_infinity", *SHARES)
        if metric in found
    ]


def _dense_floor(
    pool: NDArray[np.floating], splits: Sequence[Sequence[NDArray[np.int64]]], half: int
) -> dict[str, list[float]]:
    """Figures of every split, by whole matrices of the pool."""
    kernels, hood = Kernels.of(pool, pool), Neighbourhoods.of(pool, pool)
    # The third matrix of `Kernels.of(pool, pool)` is the pool's own too: halves index both sides of it.
    draws = {"kid": [kernels.distance(i, j) for i, j in splits]}
    if half > NEIGHBOURS:
        overlaps = [hood.overlap(i, j) for i, j in splits]
        draws |= {name: [getattr(overlap, name) for overlap in overlaps] for name in SHARES}
    return draws


def _blockwise_floor(sides: Sequence[tuple[Cloud, Cloud]]) -> dict[str, list[float]]:
    """Figures of every split, by pairs of blocks."""
    found = [compare(i, j) for i, j in sides]
    shares = {name: [getattr(one.overlap, name) for one in found] for name in SHARES}
    return {"kid": [one.kid for one in found], **shares}


def look_rows(stage: Stage) -> list[Row]:
    """Nuclei and optical density: do they vary from window to window as in the real tissue?"""
    floor = stage.subjects["floor"].sets[0].looks
    groups = codes(stage.real.sections)
    rows = []
    for column, metric in enumerate(LOOKS):
        estimates: dict[str, Estimate] = {}
        for subject in present(stage):
            if subject.sets and subject.aligned and subject.name != "floor":
                estimates[subject.name] = stage.resampling.statistic(
                    lambda w, subject=subject, column=column: _look_r(subject.sets, floor, column, groups, w)  # type: ignore[misc]
                )
            rows.append(
                row(
                    stage,
                    subject.name,
                    metric,
                    "higher",
                    estimates.get(subject.name),
                    on=f"{subject.on}: Pearson r with the real windows of the same place",
                    why=None
                    if subject.aligned and subject.name != "floor"
                    else "no picture of the same place to correlate with",
                )
            )
        rows += gains(stage, metric, "higher", estimates, None)
    return rows + [_density_ratio(stage, subject) for subject in present(stage)]


def _look_r(
    sets: tuple[Measured, ...],
    real: np.ndarray,
    column: int,
    groups: np.ndarray,
    weights: np.ndarray,
) -> float:
    at = slice(column, column + 1)
    return float(
        np.mean([grouped_correlation(m.looks[:, at], real[:, at], groups, weights)[0] for m in sets])
    )


def _density_ratio(stage: Stage, subject: Subject) -> Row:
    real = float(stage.subjects["floor"].sets[0].looks[:, 0].mean())
    ratio, why = None, subject.why
    if subject.sets and real > 0:
        ratio = float(np.mean([m.looks[:, 0].mean() for m in subject.sets])) / real
    elif subject.sets:
        why = "no nuclei were counted in the real windows"
    on = f"{subject.on}: nuclei per mm² over those of the real windows"
    return row(stage, subject.name, "nuclei_density_ratio", "neither", ratio, on=on, why=why)


def memorisation_rows(stage: Stage, judge: str, searched: int, saw_train: bool = True) -> list[Row]:
    """How near the pictures are to training windows, and how many are nearer than real tissue ever is.

    Parameters
    ----------
    searched
        How many training windows these are.
    saw_train
        Whether the generator was trained on them; else there is nothing to copy.
    """
    why = None if saw_train else "the generator was not trained on these windows"
    threshold = copy_threshold(stage.subjects["floor"].sets[0].nearest)
    rows = []
    for subject in present(stage):
        distance = copies = None
        if subject.sets and saw_train:
            distance = subject.resampling.mean(np.mean([m.nearest for m in subject.sets], axis=0))
            called = np.mean([m.nearest < threshold for m in subject.sets], axis=0)
            copies = subject.resampling.mean(called)
        on = f"{subject.on}: distance to the nearest of {searched} real training windows"
        rows.append(
            row(stage, subject.name, "nearest_train", "neither", distance, features=judge, on=on, why=why)
        )
        on = f"{subject.on}: share nearer to one of {searched} training windows than 1 in 100 real held-out windows"
        rows.append(row(stage, subject.name, "copy_rate", "lower", copies, features=judge, on=on, why=why))
    return rows
