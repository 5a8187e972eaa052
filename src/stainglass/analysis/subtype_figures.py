"""Figures of a classifier of subtypes, with intervals over blocks of tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from stainglass.analysis.block_draws import BlockDraws
from stainglass.analysis.classifier import auroc, calibration_error, macro_f1
from stainglass.progress import console


def figures(
    truth: Int64[np.ndarray, n],
    probability: Float64[np.ndarray, "n k"],
    classes: Sequence[str],
    draws: BlockDraws | None,
    at: Int64[np.ndarray, m] | None = None,
) -> list[dict[str, Any]]:
    """Macro-F1, accuracy, calibration error and every class's AUROC; with `draws`, intervals over blocks of tissue."""
    at = np.arange(len(truth)) if at is None else at
    called = probability.argmax(axis=1)
    metrics: list[tuple[str, str | None, Any]] = [
        ("macro_f1", None, lambda i: macro_f1(truth[i], called[i])),
        ("accuracy", None, lambda i: float((truth[i] == called[i]).mean()) if len(i) else float("nan")),
        ("ece", None, lambda i: calibration_error(truth[i], probability[i])),
        *(
            ("auroc", name, lambda i, k=k: auroc(truth[i] == k, probability[i, k]))
            for k, name in enumerate(classes)
        ),
    ]
    rows = []
    for metric, name, figure in metrics:
        value = figure(at)
        low, high = draws.interval(figure) if draws else (np.nan, np.nan)
        why = None
        if np.isnan(value):
            why = (
                f"no spot here is {name}"
                if name is not None and not (truth[at] == classes.index(name)).any()
                else "every spot here is of one class"
            )
        rows.append({"metric": metric, "class": name, "value": value, "low": low, "high": high,
                     "chance": 0.5 if metric == "auroc" else None, "n": len(at), "why": why})  # fmt: skip
    return rows


def f1_of(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Macro-F1 of ``a`` where ``b`` is held to be right."""
    both = (a >= 0) & (b >= 0)
    return macro_f1(b[both], a[both])


def tell(tree: Mapping[str, Any]) -> None:
    """The main figures on the terminal."""
    for target, found in tree["targets"].items():
        for row in found["rows"]:
            if row["metric"] in ("macro_f1", "macro_f1_gain") and row["value"] is not None:
                low, high = row["low"], row["high"]
                interval = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
                console.print(
                    f"  {target}, {row['on']} ({row['against']}): {row['metric']} {row['subject']} {row['value']:.3f}{interval}",
                    highlight=False, soft_wrap=True, markup=False,
                )  # fmt: skip
