"""Ways of dividing spots into groups: by class, by cluster of expression, by a threshold of a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from stainglass.analysis.classes import ClassScorer, Expressed
from stainglass.analysis.classifier import PictureClassifier
from stainglass.analysis.recovery import Reader, variable_genes
from stainglass.analysis.regions import above, same_share, signal_threshold
from stainglass.analysis.signals import GeneScale, find_signal, measure
from stainglass.analysis.study import (
    TrainingTissue,
    teach,
)
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError

CLUSTER_GENES, CLUSTER_COMPONENTS = 500, 15


@dataclass(frozen=True)
class ComponentSettings:
    """What tissue is divided by.

    Attributes
    ----------
    signal
        ``classes`` (the class called from markers), ``clusters`` (k-means of the principal components of
        expression), a gene, or a gene set.
    clusters
        Number of clusters.
    threshold
        For a gene or gene set: above it lies the region; Otsu's over the training spots by default.
    whole
        Find the nuclei of the whole real section too, not only of its patches.
    seed
        Of k-means, redraws and intervals.
    """

    signal: str = "classes"
    clusters: int = 6
    threshold: float | None = None
    whole: bool = True
    seed: int = 0


class Divider(Protocol):
    """Divides spots by a signal, measured or read from pictures; fitted on real training tissue."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups."""
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """What was fitted, for JSON."""
        ...

    def measured(self, windows: Sequence[Window], expressed: Expressed) -> Int64[np.ndarray, n]:
        """Group of each spot by its expression; -1: none."""
        ...

    def read(self, features: Float64[np.ndarray, "n d"]) -> Int64[np.ndarray, n]:
        """Group of each spot as its picture has it."""
        ...


@dataclass(frozen=True)
class _ByClass:
    """By the class called from markers; pictures are read by the classifier."""

    names: tuple[str, ...]
    about: Mapping[str, Any]
    scorer: ClassScorer
    classifier: PictureClassifier
    seed: int

    def measured(self, windows: Sequence[Window], expressed: Expressed) -> Int64[np.ndarray, n]:
        return self.scorer.call(expressed, self.seed).label

    def read(self, features: Float64[np.ndarray, "n d"]) -> Int64[np.ndarray, n]:
        at = [self.names.index(name) for name in self.classifier.classes]
        return np.array(at, np.int64)[self.classifier.probabilities(features).argmax(axis=1)]


@dataclass(frozen=True)
class _ByCluster:
    """By k-means of the principal components of expression; pictures are read by a classifier of the clusters."""

    names: tuple[str, ...]
    about: Mapping[str, Any]
    genes: Int64[np.ndarray, g]
    components: PCA
    means: KMeans
    classifier: PictureClassifier

    def measured(self, windows: Sequence[Window], expressed: Expressed) -> Int64[np.ndarray, n]:
        level = _levels(expressed, self.genes)
        return self.means.predict(self.components.transform(level)).astype(np.int64)

    def read(self, features: Float64[np.ndarray, "n d"]) -> Int64[np.ndarray, n]:
        at = [self.names.index(name) for name in self.classifier.classes]
        return np.array(at, np.int64)[self.classifier.probabilities(features).argmax(axis=1)]


@dataclass(frozen=True)
class _ByThreshold:
    """Above and below a threshold of a gene or gene set; pictures are read by a ridge (`recovery.Reader`)."""

    names: tuple[str, ...]
    about: Mapping[str, Any]
    cohort: Cohort
    scale: GeneScale
    signal: Any
    threshold: float
    reader: Reader
    read_threshold: float

    def measured(self, windows: Sequence[Window], expressed: Expressed) -> Int64[np.ndarray, n]:
        return above(_signal(self.cohort, self.scale, self.signal, windows), self.threshold)

    def read(self, features: Float64[np.ndarray, "n d"]) -> Int64[np.ndarray, n]:
        return above(self.reader.read(features)[:, 0], self.read_threshold)


def refuse_signal(how: ComponentSettings, cohort: Cohort) -> None:
    """Refuse a signal that divides nothing, or nothing generated."""
    if how.signal == "clusters" and how.clusters < 2:
        raise StainglassError("--clusters", f"{how.clusters} divides nothing", "Ask for two or more")
    if how.signal in ("classes", "clusters"):
        return
    if find_signal(how.signal, cohort.axis).kind == "clip":
        raise StainglassError(
            "--signal clip",
            "CLIP learnt with the generator, so its similarity divides no generated tissue",
            "Choose classes, clusters, a gene or a gene set",
        )


def fit_divider(
    how: ComponentSettings,
    cohort: Cohort,
    training: TrainingTissue,
    scorer: ClassScorer,
    classifier: PictureClassifier,
    window_um: float,
) -> Divider:
    """The way of dividing that was asked for, fitted on training tissue."""
    if how.signal == "classes":
        about = {"kind": "classes", "pictures": "classifier of classes, calibrated"}
        return _ByClass(scorer.classes, about, scorer, classifier, how.seed)
    if how.signal == "clusters":
        return _clusters(how, training, window_um)
    signal = find_signal(how.signal, cohort.axis)
    scale = GeneScale.fit(cohort, sorted(set(training.sections)), [signal])
    values = _signal(cohort, scale, signal, training.windows)
    threshold = how.threshold if how.threshold is not None else signal_threshold(values)
    reader = Reader.fit(training.features, values[:, None])
    read_threshold = same_share(values, threshold, reader.read(training.features)[:, 0])
    told: dict[str, Any] = {"kind": signal.kind, "unit": signal.unit, "source": signal.source, "threshold": threshold,
             "threshold_of_readings": read_threshold, "pictures": "ridge, the same share of training spots above"}  # fmt: skip
    names = (f"{signal.name} low", f"{signal.name} high")
    return _ByThreshold(names, told, cohort, scale, signal, threshold, reader, read_threshold)


def _clusters(how: ComponentSettings, training: TrainingTissue, window_um: float) -> Divider:
    detected = np.flatnonzero(np.asarray((training.expressed.counts > 0).mean(axis=0)).reshape(-1) > 0.05)
    genes = detected[variable_genes(_levels(training.expressed, detected), CLUSTER_GENES)]
    level = _levels(training.expressed, genes)
    components = PCA(min(CLUSTER_COMPONENTS, len(level) - 1, len(genes)), svd_solver="full").fit(level)
    if not 2 <= how.clusters <= len(level) // 2:
        raise StainglassError(
            "--clusters",
            f"{how.clusters} clusters of {len(level)} training spots",
            "Ask for two or more, and fewer",
        )
    means = KMeans(how.clusters, n_init=10, random_state=how.seed).fit(components.transform(level))
    names = tuple(f"cluster {i + 1}" for i in range(how.clusters))
    taught = teach(training, [names[i] for i in means.labels_], window_um)
    if taught.result is None:
        raise StainglassError("--signal clusters", "; ".join(taught.notes), "Ask for fewer clusters")
    about = {"kind": "clusters", "genes": len(genes), "pictures": "classifier of clusters, calibrated",
             "notes": taught.notes}  # fmt: skip
    return _ByCluster(names, about, genes, components, means, taught.result.classifier)


def _levels(expressed: Expressed, genes: Int64[np.ndarray, g]) -> Float64[np.ndarray, "n g"]:
    """log1p CP10k of some genes, centred within sections: a batch makes no cluster."""
    totals = np.maximum(expressed.totals(), 1e-9)
    level = np.log1p(expressed.columns(genes) / totals[:, None] * 1e4)
    for section in np.unique(expressed.section):
        inside = expressed.section == section
        level[inside] -= level[inside].mean(axis=0)
    return level


def _signal(
    cohort: Cohort, scale: GeneScale, signal: Any, windows: Sequence[Window]
) -> Float64[np.ndarray, n]:
    values = np.full(len(windows), np.nan)
    for name in dict.fromkeys(w.section for w in windows):
        here = [i for i, w in enumerate(windows) if w.section == name]
        values[here] = measure(
            signal, cohort.sections[name], [str(windows[i].spot) for i in here], scale, None
        )
    return values
