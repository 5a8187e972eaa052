"""Rows about expression read back from pictures: the figures the whole card turns on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy.typing import NDArray

from stainglass.analysis.block_draws import codes
from stainglass.analysis.programmes import PROGRAMMES
from stainglass.analysis.recovery import Reader, grouped_correlation, mean_correlation, variable_genes
from stainglass.evaluation.card import Answer, Row
from stainglass.evaluation.measure import Features, Subject
from stainglass.evaluation.resampling import Estimate
from stainglass.evaluation.rows import gains, present, row
from stainglass.evaluation.stage import Stage
from stainglass.evaluation.tissue import Tissue
from stainglass.genes.normalise import log_normalised


@dataclass(frozen=True)
class Target:
    """Something measured in every window that may be read back from its picture.

    Attributes
    ----------
    metric
        ``recovery`` (expression of variable genes), ``cell_types`` (their shares), or a programme.
    of
        What it is, in words.
    names
        Of the K columns.
    measured
        Tissue → (N, K) what was measured in its windows; None where it was not measured there.
    readers
        By judge, fitted on real training windows only.
    """

    metric: str
    of: str
    names: tuple[str, ...]
    measured: Callable[[Tissue], Float64[np.ndarray, "n k"] | None]
    readers: dict[str, Reader]


def fit_targets(train: Tissue, train_features: Features, genes: int) -> list[Target]:
    """Fit a reader for each judge and each thing measured on the training windows."""
    expression = log_normalised(train.counts)
    chosen = variable_genes(expression, genes)
    targets = [
        Target(
            "recovery",
            f"the {len(chosen)} most variable genes of the training tissue, log1p CP10k",
            tuple(train.symbols[i] for i in chosen),
            lambda tissue: log_normalised(tissue.counts)[:, chosen].astype(np.float64),
            {judge: Reader.fit(found, expression[:, chosen]) for judge, found in train_features.items()},
        )
    ]
    if train.cell_types is not None:
        names = tuple(str(name) for name in train.cell_types.columns)
        of = f"shares of {len(names)} cell types"
        targets.append(_target("cell_types", of, names, lambda t: t.cell_types, train, train_features))
    if train.programmes is not None:
        targets += [
            _target(
                str(name), PROGRAMMES[str(name)], (str(name),), lambda t: t.programmes, train, train_features
            )
            for name in train.programmes.columns
        ]
    return targets


def _target(
    metric: str,
    of: str,
    names: tuple[str, ...],
    table: Callable[[Tissue], pd.DataFrame | None],
    train: Tissue,
    train_features: Features,
) -> Target:
    """Columns of a table that a tissue may bring; one that it lacks is zero there."""

    def measured(tissue: Tissue) -> Float64[np.ndarray, "n k"] | None:
        found = table(tissue)
        return (
            None if found is None else found.reindex(columns=list(names), fill_value=0.0).to_numpy(np.float64)
        )

    learned = measured(train)
    assert learned is not None  # the caller has seen the table
    readers = {judge: Reader.fit(found, learned) for judge, found in train_features.items()}
    return Target(metric, of, names, measured, readers)


def recovery_rows(stage: Stage, target: Target, judge: str) -> list[Row]:
    """Mean r of every subject, the share of what real windows give, and the paired advantages."""
    reader, rows, estimates = target.readers[judge], [], dict[str, Estimate]()
    if target.measured(stage.real) is None:
        return []
    for subject in present(stage):
        estimate, why = None, subject.why
        if subject.name == "train":
            why = "the regressor was fitted on this tissue"
        elif subject.sets and (measured := target.measured(subject.tissue)) is not None:
            estimate = _estimate(subject, measured, reader, judge)
            if subject.aligned:
                estimates[subject.name] = estimate
        on = f"{subject.on}: Pearson r with what was measured there, within sections; {target.of}"
        rows.append(
            row(stage, subject.name, target.metric, "higher", estimate, features=judge, on=on, why=why)
        )
    rows += [
        _share_row(stage, target.metric, name, estimates, judge) for name in estimates if name != "floor"
    ]
    return rows + gains(stage, target.metric, "higher", estimates, judge)


def _estimate(subject: Subject, measured: Float64[np.ndarray, "n k"], reader: Reader, judge: str) -> Estimate:
    groups = codes(subject.tissue.sections)
    read = [reader.read(found.features[judge]) for found in subject.sets]
    whole = np.ones(len(measured))
    found = subject.resampling.statistic(
        lambda w: float(np.mean([mean_correlation(one, measured, groups, w) for one in read]))
    )
    return replace(found, by_seed=tuple(float(mean_correlation(r, measured, groups, whole)) for r in read))


def _share_row(stage: Stage, metric: str, name: str, estimates: dict[str, Estimate], judge: str) -> Row:
    """A subject's r over that of the real windows, resample by resample."""
    real, own = estimates["floor"], estimates[name]
    on = f"{stage.subjects[name].on}: share of what the real windows of the same places give"
    if not real.low > 0:
        why = (
            f"nothing to share: real windows give {real.value:.3f} [{real.low:.3f}, {real.high:.3f}]"
            if np.isfinite(real.value)
            else "nothing to share: it does not vary over these windows"
        )
        return row(stage, name, f"{metric}_share", "higher", None, features=judge, on=on, why=why)
    by_seed = tuple(value / real.value for value in own.by_seed)
    share = Estimate(own.value / real.value, own.draws / real.draws, own.label, by_seed, own.tail)
    return row(stage, name, f"{metric}_share", "higher", share, features=judge, on=on)


def gene_table(stage: Stage, target: Target, judge: str) -> pd.DataFrame:
    """R of every gene for real, generated, shuffled and bulk windows.

    Sorted by the real windows: sorting by the generated ones would pick their luck.
    """
    measured, groups = target.measured(stage.real), codes(stage.real.sections)
    assert measured is not None  # expression is measured everywhere
    table: dict[str, tuple[str, ...] | NDArray[np.float64]] = {"gene": target.names}
    for column, name in {
        "real": "floor",
        "generated": "generated",
        "shuffled": "shuffled",
        "bulk": "bulk",
    }.items():
        read = [target.readers[judge].read(found.features[judge]) for found in stage.subjects[name].sets]
        table[column] = np.mean([grouped_correlation(one, measured, groups) for one in read], axis=0)
    return pd.DataFrame(table).sort_values("real", ascending=False, kind="stable", ignore_index=True)


RULES = {
    "recovery_gain": "Expression read back from pictures painted from the right spots",
    "cell_types_gain": "Cell types read back from pictures painted from the right spots",
    "hypoxia_gain": "Hypoxia read back from pictures painted from the right spots",
    "immune_gain": "Immune infiltration read back from pictures painted from the right spots",
    "stroma_gain": "Stromal remodelling read back from pictures painted from the right spots",
    "nuclei_density_gain": "Agreement (r) with the real nuclear density of pictures painted from the right spots",
    "nuclei_area_gain": "Agreement (r) with the real nuclear area of pictures painted from the right spots",
    "optical_density_gain": "Agreement (r) with the real stain density of pictures painted from the right spots",
    "cosine_gain": "Likeness (cosine) to the real window of pictures painted from the right spots",
    "lpips_gain": "Nearness (LPIPS) to the real window of pictures painted from the right spots",
    "ssim_gain": "SSIM with the real window of pictures painted from the right spots",
}
"""Primary metrics that answer whether the genes drive the picture; under any other, recovery does."""


def answer(stage: Stage, rows: list[Row], judge: str, primary: str = "recovery_gain") -> Answer:
    """Do the genes drive the picture? Yes only when the lower bound of the paired advantage is above zero.

    Parameters
    ----------
    primary
        The metric declared before the run; it answers when it is one of `RULES`.
    """
    metric = primary if primary in RULES else "recovery_gain"
    gain, bulk = (_gain(stage, rows, judge, control, metric) for control in ("shuffled", "bulk"))
    if gain is None or gain.value is None or gain.low is None:
        why = f"{metric} could not be compared: " + ((gain.why if gain else None) or "no row")
        return Answer(split=stage.split, holds=None, why=why)
    holds = gain.low > 0
    why = (
        f"{RULES[metric]}, minus the same with spots of "
        f"another place: the lower bound of the interval ({gain.interval}) "
        f"is {'above' if holds else 'not above'} zero."
    )
    if bulk is not None and bulk.value is not None and bulk.low is not None and bulk.high is not None:
        # Far away in smooth tissue is opposite, not unrelated: the section's mean is the sterner control.
        why += (
            f" Over the section's mean expression it is {bulk.value:.3f} [{bulk.low:.3f}, {bulk.high:.3f}]."
        )
    if metric != "recovery_gain":
        why += _recovery_too(_gain(stage, rows, judge, "shuffled", "recovery_gain"))
    return Answer(split=stage.split, holds=holds, value=gain.value, low=gain.low, high=gain.high, why=why)


def _recovery_too(row: Row | None) -> str:
    """What recovery says, where it is not the primary metric: a milder metric must not hide it."""
    if row is None or row.value is None or row.low is None or row.high is None:
        return ""
    said = "is read back as well" if row.low > 0 else "is not read back"
    return f" Expression {said}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] over shuffled."


def _gain(stage: Stage, rows: list[Row], judge: str, control: str, metric: str) -> Row | None:
    """The row of the first judge, or of no judge where none is needed."""
    for found in rows:
        fits = (found.metric, found.subject, found.split) == (metric, control, stage.split)
        if fits and (found.features in (judge, None) or metric == "lpips_gain"):
            return found
    return None
