"""From a measured stage to rows of the card: one function a family of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from stainglass.analysis.nuclei import LOOKS
from stainglass.analysis.recovery import grouped_correlation
from stainglass.evaluation.card import SUBJECTS, Better, Row
from stainglass.evaluation.distances import NEIGHBOURS, Kernels, Neighbourhoods, frechet_distance
from stainglass.evaluation.features import INCEPTION
from stainglass.evaluation.measure import Measured, PairKey, Subject
from stainglass.evaluation.memorisation import copy_threshold
from stainglass.evaluation.resampling import HALVES_LABEL, Estimate, codes
from stainglass.evaluation.stage import Stage

SMALL_N = 2000
FLOOR_SPLITS = 20
CONTROLS = ("shuffled", "bulk", "unconditional", "retrieval")
"""Subjects the generator's paired advantage is computed over."""

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
        by_seed=estimate.by_seed if isinstance(estimate, Estimate) and len(found.seeds) > 1 else (),
        better=better,
        why=why if why is not None or defined else found.why or "not defined for these windows",
    )


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


def _cloud_rows(stage: Stage, subject: Subject, judge: str) -> list[Row]:
    on = f"{subject.on}, against the real windows"
    directions: dict[str, Better] = {"kid": "lower", _frechet_name(judge): "lower"}
    directions |= dict.fromkeys(("precision", "recall", "density", "coverage"), "higher")
    found: Mapping[str, Estimate | float | None] = dict.fromkeys(directions)
    if subject.sets:
        found = _cloud_estimates(stage, subject, judge)
    biased = f"no interval, and biased upwards at N = {len(stage.real)}: read the kernel distance first"
    return [
        row(
            stage,
            subject.name,
            metric,
            better,
            found[metric],
            features=judge,
            on=on,
            why=biased if metric in ("fd", "fid") and subject.sets and len(stage.real) < SMALL_N else None,
        )
        for metric, better in directions.items()
    ]


def _cloud_estimates(stage: Stage, subject: Subject, judge: str) -> dict[str, Estimate | float | None]:
    """Figures averaged over noise seeds; intervals from halves shared by both sides where they are paired."""
    real = stage.pool[judge][: len(stage.real)]
    clouds = [measured.features[judge] for measured in subject.sets]
    kernels = [Kernels.of(cloud, real) for cloud in clouds]
    pairs = list(zip(subject.resampling.halves, stage.resampling.halves, strict=True))

    def halved(whole: float, function: Callable[[int], float]) -> Estimate:
        return Estimate.of(whole, np.array([function(b) for b in range(len(pairs))]), HALVES_LABEL).centred()

    each = tuple(float(k.distance()) for k in kernels)
    kid = halved(
        float(np.mean(each)),
        lambda b: float(np.mean([k.distance(*pairs[b]) for k in kernels])),
    )
    kid = replace(kid, by_seed=each)
    frechet = float(np.mean([frechet_distance(cloud, real) for cloud in clouds]))
    found: dict[str, Estimate | float | None] = {"kid": kid, _frechet_name(judge): frechet}
    names = ("precision", "recall", "density", "coverage")
    if len(real) // 2 <= NEIGHBOURS:
        return found | dict.fromkeys(names)
    around = [Neighbourhoods.of(real, cloud) for cloud in clouds]
    whole = [hood.overlap() for hood in around]
    halves = [[hood.overlap(j, i) for hood in around] for i, j in pairs]
    for name in names:
        value = float(np.mean([getattr(overlap, name) for overlap in whole]))
        draws = np.array([np.mean([getattr(overlap, name) for overlap in half]) for half in halves])
        found[name] = Estimate.of(value, draws, HALVES_LABEL).centred(0, np.inf if name == "density" else 1)
    return found


def _floor_rows(stage: Stage, judge: str) -> list[Row]:
    """Real against real: random halves of the pool, many times."""
    pool = stage.pool[judge].astype(np.float64)
    half = min(len(stage.real), len(pool) // 2)
    rng = np.random.default_rng(len(pool))
    splits = [np.split(rng.permutation(len(pool))[: 2 * half], 2) for _ in range(FLOOR_SPLITS)]
    kernels, hood = Kernels.of(pool, pool), Neighbourhoods.of(pool, pool)
    # The third matrix of `Kernels.of(pool, pool)` is the pool's own too: halves index both sides of it.
    draws = {"kid": [kernels.distance(i, j) for i, j in splits]}
    draws[_frechet_name(judge)] = [frechet_distance(pool[i], pool[j]) for i, j in splits]
    if half > NEIGHBOURS:
        overlaps = [hood.overlap(i, j) for i, j in splits]
        for name in ("precision", "recall", "density", "coverage"):
            draws[name] = [getattr(overlap, name) for overlap in overlaps]
    equal = half == len(stage.real)
    why = (
        None
        if equal
        else f"halves of {half}: a Fréchet distance is larger at half the N, a kernel distance is not"
    )
    return [
        row(
            stage,
            "floor",
            metric,
            "lower" if metric in ("kid", "fd", "fid") else "higher",
            Estimate.of(float(np.mean(found)), np.array(found), f"{FLOOR_SPLITS} random halves"),
            features=judge,
            on=f"real against real: random halves of {half} windows each",
            why=why,
            n=half,
        )
        for metric, found in draws.items()
    ]


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


def memorisation_rows(stage: Stage, judge: str) -> list[Row]:
    """How near the pictures are to training windows, and how many are nearer than real tissue ever is."""
    threshold = copy_threshold(stage.subjects["floor"].sets[0].nearest)
    rows = []
    for subject in present(stage):
        distance = copies = None
        if subject.sets:
            distance = subject.resampling.mean(np.mean([m.nearest for m in subject.sets], axis=0))
            called = np.mean([m.nearest < threshold for m in subject.sets], axis=0)
            copies = subject.resampling.mean(called)
        on = f"{subject.on}: distance to the nearest real training window"
        rows.append(row(stage, subject.name, "nearest_train", "neither", distance, features=judge, on=on))
        on = f"{subject.on}: share nearer to a training window than 1 in 100 real held-out windows"
        rows.append(row(stage, subject.name, "copy_rate", "lower", copies, features=judge, on=on))
    return rows
