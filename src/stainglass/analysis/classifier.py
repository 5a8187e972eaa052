"""Classes read from pictures: a small calibrated classifier, its folds, and the figures that judge it.

Multinomial logistic regression on the principal components of frozen features, calibrated by one temperature (Guo et
al. 2017) on predictions for tissue it was not fitted on. Folds hold out whole patients; where there is one patient
only, quarters of its sections with a buffer round them, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Embed = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]
"""Pictures to features; frozen."""

COMPONENTS = 64
PENALTY = 0.3
"""Inverse strength of the ridge penalty on whitened components: of six tried, best in cross-validation on simulated
training patients (log-likelihood; 0.1 and 1 are nearly as good)."""
MOST_FOLDS = 5
LEAST_SPOTS = 4
"""A class with fewer training spots is not learnt."""
FLOOR = 1e-6
BINS = 10


@dataclass(frozen=True)
class Folds:
    """Which spots are held out together, and which are left out of training because they lie too near.

    Attributes
    ----------
    kind
        ``patients`` or ``spatial blocks``.
    fold
        (n,) number of the fold that holds each spot out.
    near
        (folds, n) spots that may not train when that fold is held out.
    note
        In words, for people.
    """

    kind: str
    fold: Int64[np.ndarray, n]
    near: Bool[np.ndarray, "f n"]
    note: str

    @classmethod
    def of(
        cls,
        patients: Sequence[str],
        sections: Sequence[str],
        centres_um_yx: Float64[np.ndarray, "n 2"],
        buffer_um: float,
    ) -> Folds:
        """Whole patients, at most five folds; one patient only: quarters of each section and a buffer round them.

        Parameters
        ----------
        buffer_um
            Spots nearer than this to a held-out spot of their section do not train (their patches overlap).
        """
        names, code = np.unique(np.asarray(patients), return_inverse=True)
        if len(names) > 1:
            sizes = np.bincount(code)
            fold_of = np.empty(len(names), np.int64)
            load = np.zeros(min(len(names), MOST_FOLDS))
            for name in np.argsort(-sizes, kind="stable"):  # the largest first, each into the emptiest fold
                fold_of[name] = load.argmin()
                load[fold_of[name]] += sizes[name]
            fold = fold_of[code]
            near = fold == np.arange(len(load))[:, None]
            return cls("patients", fold, near, f"{len(load)} folds of whole patients ({', '.join(names)})")
        fold, codes = np.zeros(len(code), np.int64), np.unique(np.asarray(sections), return_inverse=True)[1]
        for section in np.unique(codes):
            at = codes == section
            middle = np.median(centres_um_yx[at], axis=0)
            fold[at] = (centres_um_yx[at] > middle) @ np.array([2, 1])
        near = np.zeros((4, len(code)), bool)
        for number in range(4):
            for section in np.unique(codes):
                at = np.flatnonzero(codes == section)
                held = centres_um_yx[at][fold[at] == number]
                if len(held):
                    away = np.hypot(*(centres_um_yx[at][:, None] - held[None]).transpose(2, 0, 1)).min(axis=1)
                    near[number, at] = away < buffer_um
        whose = names[0] if len(names) else "none"
        note = (
            f"one patient only ({whose}), so none can be held out: quarters of each section, spots within "
            f"{buffer_um:.0f} µm of a held-out one left out of training. This is no patient generalisation."
        )
        return cls("spatial blocks", fold, near | (fold == np.arange(4)[:, None]), note)


@dataclass(frozen=True)
class PictureClassifier:
    """Class probabilities of pictures.

    Attributes
    ----------
    classes
        Names, in the order of the probabilities.
    pipeline
        Standardise, principal components, whiten, logistic regression; fitted.
    known
        Which classes the regression has seen (all, except in a fold that lacks one).
    temperature
        By which its logits are divided.
    """

    classes: tuple[str, ...]
    pipeline: Pipeline
    known: Int64[np.ndarray, c]
    temperature: float = 1.0

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "n d"],
        labels: Int64[np.ndarray, n],
        classes: Sequence[str],
        temperature: float = 1.0,
    ) -> PictureClassifier:
        """Fit on real training pictures; ``labels`` index ``classes``, at least two of them must occur."""
        components = max(1, min(COMPONENTS, len(features) // 4, features.shape[1]))
        pipeline = make_pipeline(
            StandardScaler(),
            PCA(components, svd_solver="full"),
            StandardScaler(),
            LogisticRegression(C=PENALTY, max_iter=2000),
        )
        pipeline.fit(np.asarray(features, np.float64), labels)
        return cls(tuple(classes), pipeline, np.unique(labels).astype(np.int64), temperature)

    def probabilities(self, features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """(n, classes) calibrated probabilities; 0 for a class it has not seen."""
        logits = np.log(np.maximum(self.pipeline.predict_proba(np.asarray(features, np.float64)), FLOOR))
        found = np.zeros((len(features), len(self.classes)))
        found[:, self.known] = _softmax(logits / self.temperature)
        return found


@dataclass(frozen=True)
class CrossValidated:
    """Predictions for every training spot by a classifier that had not seen its patient (or block).

    Attributes
    ----------
    classifier
        Fitted on all of them, with the temperature of all folds.
    probability
        (n, K) of the folds; NaN rows where a fold could not train.
    notes
        Classes that were absent from a fold, folds that could not train.
    """

    classifier: PictureClassifier
    probability: Float64[np.ndarray, "n k"]
    notes: tuple[str, ...]


def cross_validate(
    features: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, n], classes: Sequence[str], folds: Folds
) -> CrossValidated:
    """Fit with each fold held out, then on everything.

    A fold's own predictions are cooled by a temperature that was found on the other folds; the final classifier's
    by that of all folds.

    Parameters
    ----------
    features
        Of real training pictures.
    labels
        Index into ``classes``.
    """
    raw, notes = np.full((len(labels), len(classes)), np.nan), []
    for number in range(len(folds.near)):
        held = folds.fold == number
        rest = ~folds.near[number]
        if not held.any():
            continue
        seen = np.unique(labels[rest])
        lacking = [classes[k] for k in np.setdiff1d(np.unique(labels), seen)]
        if lacking:
            notes.append(f"fold {number + 1} has no {', '.join(lacking)} to train on")
        lost = [classes[k] for k in np.setdiff1d(np.unique(labels), np.unique(labels[held]))]
        if lost:
            notes.append(f"fold {number + 1} has no {', '.join(lost)} to test on")
        if len(seen) < 2:
            notes.append(f"fold {number + 1} has fewer than two classes to train on and predicts nothing")
            continue
        fold = PictureClassifier.fit(features[rest], labels[rest], classes)
        raw[held] = fold.probabilities(features[held])
    predicted = ~np.isnan(raw).any(axis=1)
    cooled = raw.copy()
    for number in range(len(folds.near)):
        own, others = predicted & (folds.fold == number), predicted & (folds.fold != number)
        if own.any() and others.any():
            # A class the fold had not seen keeps no chance at any temperature.
            cooled[own] = np.where(
                raw[own] > 0, _at_temperature(raw[own], _temperature(raw[others], labels[others])), 0.0
            )
    temperature = _temperature(raw[predicted], labels[predicted]) if predicted.any() else 1.0
    whole = PictureClassifier.fit(features, labels, classes, temperature)
    return CrossValidated(whole, cooled, tuple(notes))


def _softmax(logits: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _at_temperature(
    probability: Float64[np.ndarray, "n k"], temperature: float
) -> Float64[np.ndarray, "n k"]:
    return _softmax(np.log(np.maximum(probability, FLOOR)) / temperature)


def _temperature(probability: Float64[np.ndarray, "n k"], labels: Int64[np.ndarray, n]) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017), between 1/5 and 5."""

    def loss(log_temperature: float) -> float:
        cooled = _at_temperature(probability, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(cooled[np.arange(len(labels)), labels], FLOOR)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(5), np.log(5)), method="bounded").x))


def confusion(truth: Int64[np.ndarray, n], called: Int64[np.ndarray, n], k: int) -> Int64[np.ndarray, "k k"]:
    """Rows: truth; columns: what it was called."""
    return np.bincount(truth * k + called, minlength=k * k).reshape(k, k).astype(np.int64)


def macro_f1(truth: Int64[np.ndarray, n], called: Int64[np.ndarray, n]) -> float:
    """Mean F1 of the classes that the truth holds; NaN without spots."""
    if not len(truth):
        return float("nan")
    matrix = confusion(truth, called, int(max(truth.max(), called.max())) + 1)
    held = matrix.sum(axis=1)
    scores = 2 * np.diag(matrix) / np.maximum(held + matrix.sum(axis=0), 1)
    return float(scores[held > 0].mean())


def auroc(member: NDArray[np.bool_], score: Float64[np.ndarray, n]) -> float:
    """Area under the ROC curve (Mann & Whitney 1947); NaN when all or none are members."""
    inside, outside = int(member.sum()), int((~member).sum())
    if not inside or not outside:
        return float("nan")
    return float((rankdata(score)[member].sum() - inside * (inside + 1) / 2) / (inside * outside))


def calibration_error(truth: Int64[np.ndarray, n], probability: Float64[np.ndarray, "n k"]) -> float:
    """Expected calibration error (Naeini et al. 2015) of the leading class, ten even bins."""
    if not len(truth):
        return float("nan")
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[at == b].mean() - right[at == b].mean()) * (at == b).mean() for b in np.unique(at)]
    return float(sum(gaps))
