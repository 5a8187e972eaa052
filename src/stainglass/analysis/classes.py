"""Classes of spots from expression: marker sets scored against the training tissue, and called with their doubt.

A gene's share of a spot's counts is put on the square-root scale, where counting noise is even (Bartlett 1936), and
standardised; a class's score is the weighted mean of its markers, scaled so that 0 is the low and 1 the high end of
the training spots. Whether a class is in the tissue at all is tested first: markers of a class that is there rise
and fall together, more than genes of equal expression do (the matched control sets of Tirosh et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis, align_counts
from stainglass.genes.classes import UNASSIGNED, tissue_classes
from stainglass.spread import spread

LEAST_MARKERS = 3
DETECTED = 0.01
"""A marker counts when this share of the training spots has it."""
COHERENCE_SPOTS, CONTROLS, CONTROL_RANKS = 1000, 200, 50
CONTROL_P = 0.01
LOW, HIGH = 0.02, 0.995
"""Quantiles of the training spots that stand for none and all of a class."""
LEAST_SCORE = 0.2
"""Below this, no class has risen from the floor."""
REDRAWS = 40
MAJORITY = 0.5


@dataclass(frozen=True)
class Expressed:
    """Counts of spots of several sections on the cohort's gene axis.

    Attributes
    ----------
    counts
        (n, G) raw counts.
    axis
        The genes.
    section
        (n,) which section, an index into ``sections``.
    sections
        Ids.
    measured
        (sections, G) whether the section measured the gene.
    """

    counts: csr_matrix
    axis: GeneAxis
    section: Int64[np.ndarray, n]
    sections: tuple[str, ...]
    measured: Bool[np.ndarray, "s g"]

    def __len__(self) -> int:
        return len(self.section)

    @classmethod
    def of(cls, cohort: Cohort, windows: Sequence[Window]) -> Expressed:
        """Counts of the spots these windows are centred on, in their order."""
        names = tuple(dict.fromkeys(w.section for w in windows))
        parts, masks, rows = [], [], np.zeros(len(windows), np.int64)
        offset = 0
        for name in names:
            section = cohort.sections[name]
            found, mask = align_counts(csr_matrix(section.used_spots.X), section.genes, cohort.axis)
            at = {barcode: i for i, barcode in enumerate(section.used_spots.obs_names)}
            for i, window in enumerate(windows):
                if window.section == name and window.spot is not None:
                    rows[i] = offset + at[window.spot]
            offset += found.shape[0]
            parts.append(found)
            masks.append(mask)
        section_of = np.array([names.index(w.section) for w in windows], np.int64)
        return cls(
            csr_matrix(vstack(parts, format="csr")[rows]), cohort.axis, section_of, names, np.stack(masks)
        )

    def columns(self, which: NDArray[np.integer]) -> Float64[np.ndarray, "n m"]:
        """Counts of some genes, dense."""
        return np.asarray(self.counts[:, which].toarray(), np.float64)

    def totals(self) -> Float64[np.ndarray, n]:
        """Counts of each spot."""
        return np.asarray(self.counts.sum(axis=1), np.float64).reshape(-1)

    def take(self, at: NDArray[np.integer]) -> Expressed:
        """Some of the spots."""
        return Expressed(self.counts[at], self.axis, self.section[at], self.sections, self.measured)


def root_share(
    counts: Float64[np.ndarray, "n m"], totals: Float64[np.ndarray, n]
) -> Float64[np.ndarray, "n m"]:
    """Square roots of counts per 10,000: a scale on which counting noise is even (Bartlett 1936)."""
    return np.asarray(np.sqrt(1e4 * counts / np.maximum(totals, 1e-9)[:, None]))


@dataclass(frozen=True)
class Called:
    """What spots were called.

    Attributes
    ----------
    classes
        Names of the K classes.
    scores
        (n, K) 0 at the low, 1 at the high end of the training tissue.
    probability
        (n, K) in how many of `REDRAWS` redraws of the counts (Poisson) the class led; the rest to 1 is unassigned.
    label
        (n,) index of the class, -1: unassigned.
    """

    classes: tuple[str, ...]
    scores: Float64[np.ndarray, "n k"]
    probability: Float64[np.ndarray, "n k"]
    label: Int64[np.ndarray, n]

    def names(self) -> list[str]:
        """The call in words."""
        return [self.classes[i] if i >= 0 else UNASSIGNED for i in self.label]


@dataclass(frozen=True)
class ClassScorer:
    """Marker scores, fitted on training spots and on nothing else.

    Attributes
    ----------
    classes
        Classes that the training tissue shows.
    absent
        Class → why it is not scored.
    coherence
        Class → mean correlation of its markers among training spots, and the largest of the control sets.
    axis
        The genes the counts must be on.
    columns, weights
        Their markers: columns of the axis, and (markers, K) weights.
    mean, deviation
        (markers,) of the training spots.
    low, high
        (K,) ends of the scale.
    """

    classes: tuple[str, ...]
    absent: Mapping[str, str]
    coherence: Mapping[str, tuple[float, float]]
    axis: GeneAxis
    columns: Int64[np.ndarray, m]
    weights: Float64[np.ndarray, "m k"]
    mean: Float64[np.ndarray, m]
    deviation: Float64[np.ndarray, m]
    low: Float64[np.ndarray, k]
    high: Float64[np.ndarray, k]

    @classmethod
    def fit(
        cls,
        training: Expressed,
        wanted: Sequence[str] = (),
        seed: int = 0,
        also: Mapping[str, Mapping[str, float]] | None = None,
    ) -> ClassScorer:
        """Find out which classes the training tissue shows, and the scale of their scores.

        Parameters
        ----------
        training
            Spots of the training sections.
        wanted
            Classes to score, whether or not their markers are coherent; by default all that are.
        seed
            Of the control sets.
        also
            Further classes that the table does not know: name → gene (symbol or Ensembl id) → weight. They pass the
            same test.

        Raises
        ------
        StainglassError
            When fewer than two classes can be scored, or a wanted one has no markers in the data.
        """
        table = tissue_classes()
        sets = {name: table.markers(name) for name in wanted or table.names}  # refuses an unknown class
        test = _Coherence(training, np.random.default_rng(seed))
        kept: dict[str, tuple[Int64[np.ndarray, c], Float64[np.ndarray, c]]] = {}
        absent, coherence = {}, {}
        for name, markers in {**sets, **(also or {})}.items():
            columns, weights = test.detected(markers)
            if len(columns) < LEAST_MARKERS:
                absent[name] = f"{len(columns)} of its markers are detected, {LEAST_MARKERS} are needed"
                continue
            incoherent = None
            if len(test.genes) < 2 * len(columns):
                incoherent = f"{len(test.genes)} genes are detected, too few to hold its {len(columns)} markers against"
            else:
                own, control, p = test.of(columns, weights)
                coherence[name] = (own, control)
                if p > CONTROL_P:
                    incoherent = (
                        f"its {len(columns)} markers rise and fall together no more than other genes do "
                        f"(mean r {own:.3f}, control sets up to {control:.3f})"
                    )
            if incoherent is not None and not wanted:
                absent[name] = incoherent
            else:
                kept[name] = columns, weights
        if len(kept) < 2 or (wanted and absent):
            why = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
            raise StainglassError(
                "classes",
                f"{len(kept)} classes can be scored in the training tissue ({why})",
                "Name the classes to score (--classes), or give data that measure their markers",
            )
        return cls._scaled(training, kept, absent, coherence)

    @classmethod
    def _scaled(
        cls,
        training: Expressed,
        kept: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]],
        absent: Mapping[str, str],
        coherence: Mapping[str, tuple[float, float]],
    ) -> ClassScorer:
        columns = np.unique(np.concatenate([found for found, _ in kept.values()]))
        weights = np.zeros((len(columns), len(kept)))
        for k, (found, weight) in enumerate(kept.values()):
            weights[np.searchsorted(columns, found), k] = weight
        x = root_share(training.columns(columns), training.totals())
        x = np.where(training.measured[training.section][:, columns], x, np.nan)
        one = np.ones(len(kept))
        raw = cls(tuple(kept), absent, coherence, training.axis, columns, weights,
                  np.nanmean(x, axis=0), np.maximum(np.nanstd(x, axis=0), 1e-6), 0 * one, one)  # fmt: skip
        scores = raw.scores(training)
        low, high = np.quantile(scores, LOW, axis=0), np.quantile(scores, HIGH, axis=0)
        return cls(raw.classes, absent, coherence, raw.axis, columns, weights, raw.mean, raw.deviation,
                   low, np.maximum(high, low + 1e-6))  # fmt: skip

    def scores(self, spots: Expressed) -> Float64[np.ndarray, "n k"]:
        """Score of every class in every spot; a spot without counts scores at most 0."""
        return self._of_counts(spots, spots.columns(self.columns), spots.totals())

    def _of_counts(
        self, spots: Expressed, counts: Float64[np.ndarray, "n m"], totals: Float64[np.ndarray, n]
    ) -> Float64[np.ndarray, "n k"]:
        z = (root_share(counts, totals) - self.mean) / self.deviation
        known = spots.measured[spots.section][:, self.columns].astype(np.float64)
        total = known @ self.weights
        scores = (z * known) @ self.weights / np.where(total > 0, total, 1.0)
        # A class none of whose markers this section measured has no evidence here.
        scaled = np.where(total > 0, (scores - self.low) / (self.high - self.low), 0.0)
        return np.where(totals[:, None] > 0, scaled, np.minimum(scaled, 0.0))

    def call(self, spots: Expressed, seed: int = 0) -> Called:
        """Call every spot the class that leads, unless a redraw of its counts often says another or none.

        Counts are drawn anew round what was measured (Poisson, a parametric bootstrap, Efron 1979): a class
        that wins by two molecules does not win each time.
        """
        counts, totals, rng = spots.columns(self.columns), spots.totals(), np.random.default_rng(seed)
        won = np.zeros((len(spots), len(self.classes)))
        for _ in range(REDRAWS):
            scores = self._of_counts(spots, rng.poisson(counts).astype(np.float64), totals)
            led = scores.argmax(axis=1)
            rows = np.flatnonzero(scores.max(axis=1) >= LEAST_SCORE)
            won[rows, led[rows]] += 1 / REDRAWS
        leads = won.argmax(axis=1).astype(np.int64)
        sure = won.max(axis=1) > MAJORITY
        return Called(self.classes, self.scores(spots), won, np.where(sure, leads, -1).astype(np.int64))


class _Coherence:
    """Mean correlation of weighted gene sets among training spots, against sets of genes of equal expression."""

    def __init__(self, training: Expressed, rng: np.random.Generator) -> None:
        some = training.take(np.array(spread(len(training), COHERENCE_SPOTS)))
        share = np.asarray((some.counts > 0).mean(axis=0)).reshape(-1)
        self.genes = np.flatnonzero((share >= DETECTED) & training.measured.all(axis=0))
        self.axis, self.rng = training.axis, rng
        x = root_share(some.columns(self.genes), some.totals()).astype(np.float32)
        level = x.mean(axis=0)
        for section in np.unique(some.section):
            inside = some.section == section
            part = x[
                inside
            ]  # within sections: stain, depth and patient make every gene correlate between them
            x[inside] = (part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-6)
        self.z = x
        self.by_level = np.argsort(level, kind="stable")
        self.rank = np.empty(len(level), np.int64)
        self.rank[self.by_level] = np.arange(len(level))

    def detected(self, markers: Mapping[str, float]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Columns and weights of the markers that the training spots show."""
        found: dict[int, float] = {}
        for symbol, weight in markers.items():
            for column in self.axis.columns_of([symbol]):
                found[int(column)] = weight
        columns = np.array(sorted(set(found) & set(self.genes.tolist())), np.int64)
        return columns, np.array([found[int(column)] for column in columns], np.float64)

    def of(self, columns: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[float, float, float]:
        """Mean r of the set, the largest of the control sets, and the share of controls that reach it."""
        local = np.searchsorted(self.genes, columns)
        own = self._mean_r(local, weights)
        # A marker in a control set would rise with itself.
        others = self.by_level[~np.isin(self.by_level, local)]
        controls = [self._mean_r(self._control(local, others), weights) for _ in range(CONTROLS)]
        p = (1 + sum(control >= own for control in controls)) / (1 + CONTROLS)
        return own, max(controls), p

    def _control(self, markers: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
        """A gene of nearly the same rank of expression for every marker, each gene once."""
        drawn = np.empty(len(markers), np.int64)
        free = np.ones(len(others), bool)
        nearest = np.searchsorted(self.rank[others], self.rank[markers])
        for i in self.rng.permutation(len(markers)):
            # At either end of the ranks the range is moved inwards, not cut, so that it always holds as many genes.
            first = int(np.clip(nearest[i] - CONTROL_RANKS, 0, max(len(others) - 2 * CONTROL_RANKS - 1, 0)))
            near = np.flatnonzero(free[first : first + 2 * CONTROL_RANKS + 1]) + first
            chosen = self.rng.choice(near if len(near) else np.flatnonzero(free))
            drawn[i], free[chosen] = others[chosen], False
        return drawn

    def _mean_r(self, local: NDArray[np.integer], weights: NDArray[np.float64]) -> float:
        alone = float((weights**2).sum())
        together = float(((self.z[:, local] @ weights) ** 2).mean())
        return (together - alone) / max(float(weights.sum()) ** 2 - alone, 1e-9)
