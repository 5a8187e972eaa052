"""Rows on usefulness: how well a classifier tells real held-out windows apart, by what it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from stainglass.analysis.classifier import PENALTY, auroc, macro_f1
from stainglass.evaluation.card import TRAINING_SETS, Row
from stainglass.evaluation.resampling import Estimate
from stainglass.evaluation.stage import Stage
from stainglass.evaluation.usefulness import Lessons, label_draws
from stainglass.progress import progress_bar

SHARES = (1.0, 0.5, 0.1)
"""Of the labels; the whole first, so that it is what `Card.find` finds."""
LABEL_DRAWS = 10
"""Draws of a part of the labels; which windows happen to have one matters when they are few."""
FINER = 12
"""Of m blocks m - 1 are drawn with weight m / (m - 1), which is no whole number of windows: so many stand for one."""
GAINS = (("both", "train"), ("both", "augmented"), ("generated", "shuffled"))
"""What is gained over the second by the first."""

MADE_OF = {
    "train": "{n} real windows",
    "augmented": "{n} real windows and a flipped or turned view of each in a varied stain",
    "generated": "{n} patches painted from the same windows' spots",
    "both": "{n} real windows and {n} patches painted from their spots",
    "shuffled": "{n} labels, each with a patch painted from the genes of a spot at least {um:.0f} µm away",
    "majority": "nothing: every window is called the commonest class of {n} labels",
}

UNDEFINED = "the tested windows here hold none, or only one, of the classes that are taught"

Figure = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
"""(n,) truth and (n, K) probabilities → a figure; NaN where it is undefined."""
Predicted = list[list[NDArray[np.float64]]]
"""Probabilities (n, K) of the tested windows, by noise seed and draw of the labels (or shuffle)."""


@dataclass(frozen=True)
class _Exam:
    """The windows that are tested, and what classifiers said of them.

    Attributes
    ----------
    truth
        (n,) class of every judged window, -1 where it has none that is taught.
    drawn
        Indices of the tested windows in each bootstrap resample, each as often as it weighs (`FINER`).
    predicted
        Share of the labels → training set → probabilities.
    taught
        Share of the labels → how many windows that is.
    """

    stage: Stage
    lessons: Lessons
    truth: Int64[np.ndarray, n]
    drawn: tuple[Int64[np.ndarray, r], ...]
    predicted: dict[float, dict[str, Predicted]]
    taught: dict[float, int]


def usefulness_rows(stage: Stage, lessons: Lessons) -> list[Row]:
    """Macro-F1 and AUROC of every training set at every share of the labels, what painted patches add, and by group."""
    if lessons.why_not is not None or stage.real.classes is None:
        why = lessons.why_not or "the tested tissue was not called by markers"
        return [_row(stage, lessons, m, "generated", None, 1.0, "", 0, why=why) for m in _metrics(lessons)]
    exam = _sit(stage, lessons)
    known = exam.truth >= 0
    rows = []
    for share in SHARES:
        for metric, figure in _metrics(lessons).items():
            rows += list(_family(exam, metric, figure, share, known, None))
    for name, members, figures in _groups(exam):
        for metric, figure in figures.items():
            rows += list(_family(exam, metric, figure, 1.0, members, name))
    return rows


def usefulness_notes(lessons: Lessons) -> list[str]:
    """What a reader of these rows must know."""
    if lessons.why_not is not None:
        return [f"Usefulness was not measured: {lessons.why_not}."]
    who = ", ".join(sorted(set(lessons.patients)))
    return [
        f"Usefulness: classifiers are taught {len(lessons.labels)} labelled training windows of patients {who}, and as many "
        f"painted patches a noise seed, of the classes {', '.join(lessons.classes)} (called from expression by markers). "
        "Real and painted together are as many pictures as real with ordinary augmentation."
    ]


def _sit(stage: Stage, lessons: Lessons) -> _Exam:
    """Fit every classifier and let it say what the judged windows are."""
    assert stage.real.classes is not None  # the caller has looked
    asked = lessons.project(stage.pool[lessons.judge][: len(stage.real)])
    place = {name: k for k, name in enumerate(lessons.classes)}
    truth = np.array([place.get(name, -1) for name in stage.real.classes], np.int64)
    drawn = tuple(
        np.repeat(np.arange(len(truth)), np.rint(FINER * w).astype(np.int64))
        for w in stage.resampling.weights
    )
    predicted: dict[float, dict[str, Predicted]] = {}
    taught = {}
    with progress_bar(f"teaching classifiers, {stage.split}", len(SHARES) * len(TRAINING_SETS)) as advance:
        for number, share in enumerate(SHARES):
            draws = label_draws(lessons.patients, share, LABEL_DRAWS, np.random.default_rng(number))
            taught[share] = len(draws[0])
            predicted[share] = {}
            for name in TRAINING_SETS:
                predicted[share][name] = _predict(lessons, name, draws, asked)
                advance()
    return _Exam(stage, lessons, truth, drawn, predicted, taught)


def _predict(
    lessons: Lessons, name: str, draws: Sequence[Int64[np.ndarray, k]], asked: Float64[np.ndarray, "n c"]
) -> Predicted:
    k = len(lessons.classes)
    if name == "majority":
        common = [np.eye(k)[np.bincount(lessons.labels[at], minlength=k).argmax()] for at in draws]
        return [[np.tile(one, (len(asked), 1)) for one in common]]
    # (windows whose labels are taught, windows whose pictures stand beside them)
    pairs = [(at, at) for at in draws]
    if name == "shuffled":
        pairs = [(at, move[at]) for move, at in zip(lessons.moves, cycle(draws))]
    return [
        [
            _probabilities(
                np.concatenate([part[seen] for part in parts]),
                np.tile(lessons.labels[at], len(parts)),
                asked,
                k,
            )
            for at, seen in pairs
        ]
        for parts in lessons.sets["generated" if name == "shuffled" else name]
    ]


def _probabilities(
    x: Float64[np.ndarray, "m c"], labels: Int64[np.ndarray, m], asked: Float64[np.ndarray, "n c"], k: int
) -> Float64[np.ndarray, "n k"]:
    """Of a multinomial logistic regression; 0 for a class it was not shown, and a lone class is all it can say."""
    found = np.zeros((len(asked), k))
    seen = np.unique(labels)
    if len(seen) == 1:
        found[:, seen] = 1.0
        return found
    found[:, seen] = LogisticRegression(C=PENALTY, max_iter=2000).fit(x, labels).predict_proba(asked)
    return found


def _family(
    exam: _Exam, metric: str, figure: Figure, share: float, members: NDArray[np.bool_], group: str | None
) -> Iterator[Row]:
    """One figure of every training set, and what is gained."""
    lessons, stage, n = exam.lessons, exam.stage, int(members.sum())
    estimates = {name: _estimate(exam, figure, share, name, members) for name in TRAINING_SETS}
    why = lessons.why(stage.real.patients)
    made_of = {
        name: text.format(n=exam.taught[share], um=lessons.distance_um) for name, text in MADE_OF.items()
    }
    for name, estimate in estimates.items():
        on = f"trained on {made_of[name]}"
        yield _row(stage, lessons, metric, name, estimate, share, on, n, group, why)
    for first, second in GAINS:
        a, b = estimates[first], estimates[second]
        on = f"trained on {made_of[first]}, minus trained on {made_of[second]}"
        gain = None if a is None or b is None else a - b
        yield _row(stage, lessons, f"{metric}_gain", second, gain, share, on, n, group, why)


def _estimate(
    exam: _Exam, figure: Figure, share: float, name: str, members: NDArray[np.bool_]
) -> Estimate | None:
    """Mean over noise seeds and draws of the labels; each resample of the windows takes the next draw of the labels."""
    predicted, at = exam.predicted[share][name], np.flatnonzero(members)
    if not len(at):
        return None
    times = len(predicted[0])
    by_seed = tuple(float(np.mean([figure(exam.truth[at], p[at]) for p in draws])) for draws in predicted)
    if len(by_seed) == 1:  # nothing painted or drawn: the same under every noise seed
        by_seed *= len(exam.lessons.seeds)
    if not np.isfinite(by_seed).all():
        return None
    found = []
    for b, drawn in enumerate(exam.drawn):
        inside = drawn[members[drawn]]
        if len(inside):
            found.append(
                np.mean([figure(exam.truth[inside], draws[b % times][inside]) for draws in predicted])
            )
    # Whether a resample leaves a figure undefined hangs on its windows alone: what remains is paired over training sets.
    kept = np.array(found, np.float64)
    drawn_too = (
        f"; {times} {'shuffles' if name == 'shuffled' else 'draws of the labels'}" if times > 1 else ""
    )
    resampling = exam.stage.resampling
    label = resampling.label + drawn_too
    return Estimate(float(np.mean(by_seed)), kept[np.isfinite(kept)], label, by_seed, resampling.tail)


def _metrics(lessons: Lessons) -> dict[str, Figure]:
    """Over all classes alike."""
    return {
        "usefulness_f1": lambda truth, p: macro_f1(truth, p.argmax(axis=1)),
        "usefulness_auroc": lambda truth, p: _macro_auroc(truth, p),
    }


def _macro_auroc(truth: Int64[np.ndarray, n], probability: Float64[np.ndarray, "n k"]) -> float:
    """Mean over the classes here, each against the rest; NaN when all are of one class."""
    found = [auroc(truth == k, probability[:, k]) for k in np.unique(truth)]
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _of_class(k: int) -> dict[str, Figure]:
    """One class against the rest."""

    def f1(truth: Int64[np.ndarray, n], probability: Float64[np.ndarray, "n k"]) -> float:
        own, called = truth == k, probability.argmax(axis=1) == k
        return float(2 * (own & called).sum() / (own.sum() + called.sum())) if own.any() else float("nan")

    return {"usefulness_f1": f1, "usefulness_auroc": lambda truth, p: auroc(truth == k, p[:, k])}


def _groups(exam: _Exam) -> Iterator[tuple[str, NDArray[np.bool_], dict[str, Figure]]]:
    """Classes against the rest; patients and the cohort's own groups by their windows."""
    known, real = exam.truth >= 0, exam.stage.real
    for k, name in enumerate(exam.lessons.classes):
        yield f"class {name}", known, _of_class(k)
    columns = {"patient": list(real.patients)}
    for key in dict.fromkeys(key for found in real.groups for key in found):
        columns[key] = [found.get(key, "") for found in real.groups]
    for key, values in columns.items():
        for value in sorted(set(values) - {""}):
            members = known & (np.asarray(values) == value)
            yield f"{key} {value}", members, _metrics(exam.lessons)


def _row(
    stage: Stage,
    lessons: Lessons,
    metric: str,
    subject: str,
    estimate: Estimate | None,
    share: float,
    on: str,
    n: int,
    group: str | None = None,
    why: str | None = None,
) -> Row:
    """One row; an estimate brings its interval, and what is undefined says why."""
    test = f"tested on real {stage.split} windows"
    drawn = estimate is not None and len(estimate.draws) > 0
    noisy = metric.endswith("_gain") or subject not in ("train", "majority")
    return Row(
        metric=metric,
        features=lessons.judge,
        on=f"logistic regression on {lessons.judge} features, {on}, {share:.0%} of the labels; {test}"
        if on
        else test,
        split=stage.split,
        subject=subject,
        value=None if estimate is None else estimate.value,
        low=estimate.low if estimate is not None and drawn else None,
        high=estimate.high if estimate is not None and drawn else None,
        interval=estimate.label if estimate is not None and drawn else None,
        n=n,
        seeds=len(lessons.seeds) if noisy else 0,
        by_seed=estimate.by_seed if estimate is not None and noisy and len(lessons.seeds) > 1 else (),
        better="higher",
        why=why if estimate is not None or not on else UNDEFINED,
        labels=share,
        group=group,
    )
