"""How much measured expression can be read back from a picture.

A ridge is fitted from features of real training windows to their measured counts, and to nothing else. It
then reads pictures of held-out windows, real or painted, and is compared with the counts measured there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from stainglass.models.ridge import reading_ridge


def variable_genes(log_expression: NDArray[np.floating], n: int) -> Int64[np.ndarray, k]:
    """The ``n`` genes of largest variance of log1p CP10k (windows × genes), constant ones left out."""
    variance = np.asarray(log_expression, np.float64).var(axis=0)
    order = np.argsort(-variance, kind="stable")[:n]
    return order[variance[order] > 0].astype(np.int64)


@dataclass(frozen=True)
class Reader:
    """A ridge from picture features to measured values, fitted on real training windows."""

    pipeline: Pipeline

    @classmethod
    def fit(cls, features: NDArray[np.floating], targets: NDArray[np.floating]) -> Reader:
        """Fit a `reading_ridge`.

        Parameters
        ----------
        features
            (n, d) features of real training windows.
        targets
            (n, k) what was measured there.
        """
        pipeline = reading_ridge(*features.shape)
        return cls(pipeline.fit(np.asarray(features, np.float64), np.asarray(targets, np.float64)))

    def read(self, features: NDArray[np.floating]) -> Float64[np.ndarray, "n k"]:
        """What the pictures with these features seem to express."""
        found = np.asarray(self.pipeline.predict(np.asarray(features, np.float64)), np.float64)
        return found.reshape(len(features), -1)


def grouped_correlation(
    predicted: Float64[np.ndarray, "n k"],
    measured: Float64[np.ndarray, "n k"],
    groups: Int64[np.ndarray, n],
    weights: Float64[np.ndarray, n] | None = None,
) -> Float64[np.ndarray, k]:
    """Pearson r of each column within groups (sections), so that a section's stain or depth earns nothing.

    Both sides are centred within each group, then correlated over all windows. A constant prediction
    recovers nothing: its r is 0. A column that was measured constant has no r: NaN.
    """
    w = np.ones(len(groups)) if weights is None else weights
    member = (groups[None] == np.unique(groups)[:, None]) * w  # (groups, n)
    a, b = (_centred(np.asarray(x, np.float64), member) for x in (predicted, measured))
    joint, of_a, of_b = w @ (a * b), w @ (a * a), w @ (b * b)
    # Rounding leaves a constant column with a variance of some 1e-30 of its size.
    scale_a, scale_b = (
        1e-12 * (1 + np.abs(x).max(0, initial=0)) ** 2 * w.sum() for x in (predicted, measured)
    )
    flat = of_a <= scale_a
    r = np.where(flat, 0.0, joint / np.sqrt(np.where(flat, 1.0, of_a) * np.where(of_b > 0, of_b, 1.0)))
    return np.where(of_b <= scale_b, np.nan, r)


def _centred(x: Float64[np.ndarray, "n k"], member: Float64[np.ndarray, "g n"]) -> Float64[np.ndarray, "n k"]:
    total = member.sum(1, keepdims=True)
    means = member @ x / np.where(total > 0, total, 1)
    return x - (member > 0).T.astype(np.float64) @ means


def mean_correlation(
    predicted: Float64[np.ndarray, "n k"],
    measured: Float64[np.ndarray, "n k"],
    groups: Int64[np.ndarray, n],
    weights: Float64[np.ndarray, n] | None = None,
) -> float:
    """Mean of `grouped_correlation` over the columns that have one; NaN when none has."""
    r = grouped_correlation(predicted, measured, groups, weights)
    defined = r[~np.isnan(r)]
    return float(defined.mean()) if len(defined) else float("nan")
