"""Signals read back from pictures: a reader learns on real training patches, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

from stainglass.analysis.clip_signal import embeddings_file
from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.recovery import Reader, grouped_correlation, variable_genes
from stainglass.analysis.signals import CLIP, HOUSEKEEPING, GeneScale, SignalName, measure
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis
from stainglass.genes.gene_sets import HYPOXIA, find_gene_set
from stainglass.genes.normalise import log_normalised
from stainglass.spread import spread

Look = Callable[[UInt8[np.ndarray, "n h w 3"]], Float32[np.ndarray, "n d"]]
"""Pictures → features, e.g. ``EfficientNetLite0().features``."""

MOST_TRAINING = 1000
"""Training patches the reader learns from, spread evenly."""

CANDIDATES = 100
"""Of this many most variable genes the default ones are chosen."""

SHUFFLES = 200


@dataclass(frozen=True)
class TrainingLook:
    """Real training patches and their features: all that a reader learns from."""

    windows: tuple[Window, ...]
    features: NDArray[np.floating]
    sections: tuple[str, ...]

    @classmethod
    def at(
        cls, cohort: Cohort, train: Sequence[str], size_px: int, look: Look, most: int = MOST_TRAINING
    ) -> TrainingLook:
        """Look at the patches of the training sections, at most ``most``, spread evenly."""
        windows = cohort.patches(train, size_px)
        if not windows:
            raise StainglassError(cohort.path, "no spot on its training sections", "Look at the proof images")
        windows = [windows[i] for i in spread(len(windows), most)]
        features = np.concatenate(
            [look(cohort.pixels(windows[i : i + 128])) for i in range(0, len(windows), 128)]
        )
        return cls(tuple(windows), features, tuple(dict.fromkeys(w.section for w in windows)))

    def signal(
        self, name: SignalName, cohort: Cohort, scale: GeneScale, run: Path | None
    ) -> Float64[np.ndarray, n]:
        """A signal at these patches."""
        found = np.empty(len(self.windows))
        for section in self.sections:
            here = [i for i, w in enumerate(self.windows) if w.section == section]
            barcodes = [str(self.windows[i].spot) for i in here]
            found[here] = measure(name, cohort.sections[section], barcodes, scale, run)
        return found


def default_signals(
    cohort: Cohort, training: TrainingLook, axis: GeneAxis, run: Path | None, shown: Sequence[str] = ()
) -> list[str]:
    """The two genes best read from real training patches, hypoxia, and CLIP when the run has it of these sections.

    The genes are chosen without a look at the judged sections: of the most variable genes of the training patches,
    those that a reader fitted on one half of the sections reads best on the other.
    """
    level = log_normalised(cohort.measured(list(training.windows), axis))
    symbols = np.array(axis.symbols)
    usable = np.array([not s.startswith(HOUSEKEEPING) for s in symbols])
    chosen = variable_genes(np.where(usable, level, 0), CANDIDATES)
    section = np.array([training.sections.index(w.section) for w in training.windows])
    half = section % 2 if len(training.sections) > 1 else np.arange(len(section)) * 2 // max(len(section), 1)
    read = np.zeros((len(section), len(chosen)))
    if min((half == 0).sum(), (half == 1).sum()) >= 8:
        for k in (0, 1):
            reader = Reader.fit(training.features[half != k], level[half != k][:, chosen])
            read[half == k] = reader.read(training.features[half == k])
    r = np.nan_to_num(grouped_correlation(read, level[:, chosen].astype(np.float64), section), nan=-1.0)
    best = chosen[np.argsort(-r, kind="stable")[:2]]
    names = [str(symbols[i]) for i in best]
    hypoxia = find_gene_set(HYPOXIA)
    if hypoxia is not None and any(gene in cohort.axis.position for gene in hypoxia.weights):
        names.append(HYPOXIA)
    needed = (*training.sections, *shown)
    if run is not None and all(embeddings_file(run, section).is_file() for section in needed):
        names.append(CLIP)
    return names


@dataclass(frozen=True)
class ReadSignal:
    """A signal of a section: measured, and read from real and from generated patches of the same spots.

    Attributes
    ----------
    name, section
        Which signal, and where.
    measured, real, generated
        (n,) one a patch of the painted section.
    r_real, r_generated
        Pearson r with what was measured; NaN when that is constant.
    shuffled
        Of 200 shuffles of the spots 95 % have an r nearer to zero than this (the larger of both readings).
    """

    name: SignalName
    section: str
    measured: Float64[np.ndarray, n]
    real: Float64[np.ndarray, n]
    generated: Float64[np.ndarray, n]
    r_real: float
    r_generated: float
    shuffled: float


class SignalReader:
    """Reads signals from pictures; fitted on real training patches and on nothing else.

    Parameters
    ----------
    names
        The signals.
    readers
        One a signal.
    """

    def __init__(
        self,
        names: Sequence[SignalName],
        readers: Sequence[Reader],
        scale: GeneScale,
        look: Look,
        cohort: Cohort,
        run: Path | None,
    ) -> None:
        self.names, self.readers = tuple(names), tuple(readers)
        self.scale, self.look, self.cohort, self.run = scale, look, cohort, run

    @classmethod
    def fit(
        cls, cohort: Cohort, training: TrainingLook, names: Sequence[SignalName], look: Look, run: Path | None
    ) -> SignalReader:
        """Fit one reader a signal, each with a penalty of its own."""
        scale = GeneScale.fit(cohort, training.sections, names)
        readers = [
            Reader.fit(training.features, training.signal(name, cohort, scale, run)[:, None])
            for name in names
        ]
        return cls(names, readers, scale, look, cohort, run)

    def measured(self, name: SignalName, painted: PaintedSection) -> Float64[np.ndarray, n]:
        """The signal at the spots of a painted section."""
        barcodes = [str(window.spot) for window in painted.windows]
        return measure(name, self.cohort.sections[painted.section], barcodes, self.scale, self.run)

    def refuse_unmeasured(self, name: SignalName, section: str) -> None:
        """Raise what `measure` would raise on a whole section, before anything costly is done."""
        prepared = self.cohort.sections[section]
        measure(
            name, prepared, [str(barcode) for barcode in prepared.used_spots.obs_names], self.scale, self.run
        )

    def read(self, painted: PaintedSection) -> list[ReadSignal]:
        """Every signal, measured and read from real and generated patches."""
        measured = [self.measured(name, painted) for name in self.names]  # before the costly look at pictures
        seen = {"real": self.look(painted.real), "generated": self.look(painted.generated)}
        found = []
        for name, reader, truth in zip(self.names, self.readers, measured):
            real, generated = (reader.read(seen[which])[:, 0] for which in ("real", "generated"))
            bound = max(shuffled_bound(real, truth), shuffled_bound(generated, truth))
            r = correlation(real, truth), correlation(generated, truth)
            found.append(ReadSignal(name, painted.section, truth, real, generated, *r, bound))
        return found


def correlation(read: Float64[np.ndarray, n], measured: Float64[np.ndarray, n]) -> float:
    """Pearson r; 0 for a constant reading, NaN for a constant measurement."""
    groups = np.zeros(len(measured), np.int64)
    return float(grouped_correlation(read[:, None], measured[:, None], groups)[0])


def shuffled_bound(
    read: Float64[np.ndarray, n], measured: Float64[np.ndarray, n], share: float = 0.95
) -> float:
    """What the size of r stays below in ``share`` of 200 shuffles of the spots; NaN for a constant measurement."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(len(measured)) for _ in range(SHUFFLES)], 1)
    shuffled = np.asarray(read, np.float64)[order]
    r = grouped_correlation(
        shuffled,
        np.repeat(np.asarray(measured, np.float64)[:, None], SHUFFLES, 1),
        np.zeros(len(measured), np.int64),
    )
    return float("nan") if np.isnan(r).all() else float(np.nanquantile(np.abs(r), share))
