"""Signals: a value a spot with its name and origin, and the same value read back from pictures.

A signal is a gene (log1p CP10k), a published gene set, or the agreement of picture and expression in a CLIP of the
run. What is fitted (means of genes, the reader of pictures) is fitted on training sections alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.recovery import Reader, grouped_correlation, variable_genes
from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.genes.axis import UNMAPPED, GeneAxis
from stainglass.genes.gene_sets import HYPOXIA, PROGENY, find_gene_set, gene_sets
from stainglass.genes.normalise import COUNTS_PER, log_normalised
from stainglass.genes.table import ensembl_id, gene_id

CLIP, CLIP_FACTS = "clip", "clip.json"

Look = Callable[[UInt8[np.ndarray, "n h w 3"]], Float32[np.ndarray, "n d"]]
"""Pictures → features, e.g. ``EfficientNetLite0().features``."""

MOST_TRAINING = 1000
"""Training patches the reader learns from, spread evenly."""

CANDIDATES = 100
"""Of this many most variable genes the default ones are chosen."""

HOUSEKEEPING = ("MT-", "RPL", "RPS")
"""Never chosen by default: they tell the quality of a spot before its tissue."""

LEAST_STD = 0.1
"""Deviation below which a gene's z-score would be noise blown up."""

SHUFFLES = 200


@dataclass(frozen=True)
class SignalName:
    """A signal asked for, known to exist in the cohort.

    Attributes
    ----------
    name
        As it is written on the command line: ``KRT5``, ``HALLMARK_HYPOXIA``, ``PROGENy:Hypoxia``, ``clip``.
    title, unit, source
        For people: what it is called, what its values are, where it comes from.
    kind
        What it is computed from.
    weights
        Ensembl id → weight; empty for ``clip``.
    """

    name: str
    title: str
    unit: str
    source: str
    kind: Literal["gene", "set", "clip"]
    weights: Mapping[str, float]

    @property
    def stem(self) -> str:
        """The name as part of a file's name."""
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in self.name)


def find_signal(name: str, axis: GeneAxis) -> SignalName:
    """What a name on the command line means on a cohort's gene axis.

    Raises
    ------
    StainglassError
        When it is no gene of the cohort and no gene set (near names are suggested), or none of a set's genes
        were measured.
    """
    if name.lower() == CLIP:
        return SignalName(
            CLIP, "CLIP similarity", "cosine", "picture against expression, CLIP of this run", "clip", {}
        )
    found = find_gene_set(name)
    if found is not None:
        weights = {gene: weight for gene, weight in found.weights.items() if gene in axis.position}
        if not weights:
            raise StainglassError(
                found.name,
                f"none of its {len(found.weights)} genes was measured",
                "Choose a gene or another set",
            )
        unit = "weighted mean z-score" if found.name.startswith(PROGENY) else "mean z-score"
        measured = f"{len(weights)} of {len(found.weights)} genes measured"
        return SignalName(found.name, found.title, unit, f"{found.source}; {measured}", "set", weights)
    gene = _gene_on(axis, name)
    if gene is None:
        raise StainglassError(
            name,
            "no gene of this cohort, and no gene set",
            _suggestion(name, axis, gene_id(name) is not None),
        )
    symbol = axis.symbols[axis.position[gene]]
    return SignalName(symbol, symbol, "log1p CP10k", f"gene {gene}", "gene", {gene: 1.0})


def _gene_on(axis: GeneAxis, name: str) -> str | None:
    """Id of a gene on the axis by symbol (whatever its case), former symbol or id."""
    for written in (name, name.upper()):
        gene = ensembl_id(written) or gene_id(written) or UNMAPPED + written
        if gene in axis.position:
            return gene
    return None


def _suggestion(name: str, axis: GeneAxis, is_gene: bool) -> str:
    known = {n.lower(): n for n in (*axis.symbols, *gene_sets(), CLIP)}
    near = [known[n] for n in difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.6)]
    near += [n for n in gene_sets() if len(name) > 3 and name.lower() in n.lower() and n not in near][:3]
    if near:
        return f"Did you mean {', '.join(near)}"
    also = "It is a human gene but was not measured here; choose" if is_gene else "Choose"
    return f"{also} a gene such as {', '.join(axis.symbols[:3])}, a hallmark set or a PROGENy pathway"


def log_levels(section: PreparedSection, genes: Sequence[str]) -> Float64[np.ndarray, "spots k"]:
    """log1p of counts per 10,000 of some genes in the used spots; NaN where the section lacks the gene.

    Raises
    ------
    StainglassError
        When a used spot has no counts at all.
    """
    counts = section.used_spots.X
    total = np.asarray(counts.sum(axis=1), np.float64).ravel()
    if (total <= 0).any():
        empty = section.used_spots.obs_names[int(np.argmin(total))]
        raise StainglassError(
            section.path,
            f"{int((total <= 0).sum())} of {len(total)} used spots have no counts (the first is {empty})",
            "Run 'stainglass prepare' again: it leaves such spots out",
        )
    column = [section.genes.position.get(gene, -1) for gene in genes]
    levels = np.full((len(total), len(genes)), np.nan)
    known = [i for i, c in enumerate(column) if c >= 0]
    if known:
        picked = np.asarray(counts[:, [column[i] for i in known]].toarray(), np.float64)
        levels[:, known] = np.log1p(picked / total[:, None] * COUNTS_PER)
    return levels


@dataclass(frozen=True)
class GeneScale:
    """Mean and deviation of genes over the spots of the training sections; z-scores stand on them."""

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, cohort: Cohort, train: Sequence[str], names: Sequence[SignalName]) -> GeneScale:
        """Fit on training sections, for the genes of the sets among ``names``."""
        genes = sorted({gene for name in names if name.kind == "set" for gene in name.weights})
        levels = np.concatenate([log_levels(cohort.sections[s], genes) for s in train])
        known = np.isfinite(levels)
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, levels, 0).sum(0) / n
        std = np.sqrt(np.where(known, levels - mean, 0).__pow__(2).sum(0) / n)
        seen = known.any(0)
        return cls(
            {g: float(m) for g, m, s in zip(genes, mean, seen) if s},
            {g: max(float(d), LEAST_STD) for g, d, s in zip(genes, std, seen) if s},
        )


def measure(
    name: SignalName, section: PreparedSection, barcodes: Sequence[str], scale: GeneScale, run: Path | None
) -> Float64[np.ndarray, n]:
    """A signal at spots of a section.

    Parameters
    ----------
    barcodes
        Spots, in the wanted order.
    run
        Folder of the run, whose ``embeddings/`` hold CLIP's vectors.

    Raises
    ------
    StainglassError
        When the section lacks the genes, a spot has no counts, or the run has no CLIP embeddings of the section.
    """
    if name.kind == "clip":
        return clip_similarity(run, section, barcodes)
    place = {barcode: i for i, barcode in enumerate(section.used_spots.obs_names)}
    at = np.array([place[barcode] for barcode in barcodes], dtype=np.int64)
    genes = [g for g in name.weights if name.kind == "gene" or g in scale.mean]
    levels = log_levels(section, genes)[at]
    known = ~np.isnan(levels).all(0) if len(at) else np.ones(len(genes), bool)
    if not known.any():
        raise StainglassError(
            section.id, f"{name.name} was not measured there", "Show other sections, or another signal"
        )
    if name.kind == "gene":
        return levels[:, 0]
    z = [
        (levels[:, i] - scale.mean[g]) / scale.std[g] * name.weights[g]
        for i, g in enumerate(genes)
        if known[i]
    ]
    size = sum(abs(name.weights[g]) for i, g in enumerate(genes) if known[i])
    return np.asarray(np.sum(z, axis=0) / size)


def embeddings_file(run: Path, section: str) -> Path:
    """Where the run keeps CLIP's embeddings of a section."""
    return run / "embeddings" / f"{section}.h5ad"


def clip_vectors(
    run: Path | None, section: PreparedSection, barcodes: Sequence[str]
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "n d"]]:
    """CLIP's unit vectors of picture and expression at spots.

    Raises
    ------
    StainglassError
        When there is no embedding of the section, or it was made on other genes or other spots.
    """
    path = embeddings_file(run, section.id) if run is not None else Path("embeddings")
    if run is None or not path.is_file():
        raise StainglassError(
            path,
            f"this run has no CLIP embeddings of {section.id}",
            "Run 'stainglass align' and 'stainglass embed', or ask for another signal",
        )
    try:
        found = ad.read_h5ad(path)
        image, gene = (np.asarray(found.obsm[f"X_clip_{what}"], np.float64) for what in ("image", "gene"))
    except (OSError, KeyError, ValueError) as error:
        raise StainglassError(
            path, f"not readable as CLIP embeddings ({error})", "Run 'stainglass embed' again"
        ) from None
    _refuse_other_genes(found, section, run, path)
    place = {str(barcode): i for i, barcode in enumerate(found.obs_names)}
    lacking = [barcode for barcode in barcodes if barcode not in place]
    if lacking or image.shape != gene.shape:
        finding = (
            f"{len(lacking)} spots are missing (the first is {lacking[0]})" if lacking else "widths differ"
        )
        raise StainglassError(path, finding, "Run 'stainglass embed' again")
    at = np.array([place[barcode] for barcode in barcodes], dtype=np.int64)
    return image[at], gene[at]


def _refuse_other_genes(found: ad.AnnData, section: PreparedSection, run: Path, path: Path) -> None:
    """The genes an embedding was made from are those of the run's CLIP, and the section measured them."""
    told = found.uns.get("clip", {}).get("genes", found.var_names)
    genes = [str(gene) for gene in told]
    facts = run / "clip" / "model" / CLIP_FACTS
    own = (
        [str(gene) for gene in read_json(facts, "CLIP").get("gene_ids", genes)] if facts.is_file() else genes
    )
    strange = [g for g in genes if (ensembl_id(g) or g) not in section.genes.position]
    if genes != own or len(strange) > len(genes) / 2:
        why = (
            f"{len(strange)} of its {len(genes)} genes are not of {section.id}"
            if genes == own
            else "this run's CLIP reads others"
        )
        raise StainglassError(path, f"made on another gene axis ({why})", "Run 'stainglass embed' again")


def clip_similarity(
    run: Path | None, section: PreparedSection, barcodes: Sequence[str]
) -> Float64[np.ndarray, n]:
    """Cosine of picture and expression at spots."""
    image, gene = clip_vectors(run, section, barcodes)
    size = np.linalg.norm(image, axis=1) * np.linalg.norm(gene, axis=1)
    return np.asarray((image * gene).sum(1) / np.where(size > 0, size, 1))


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
        if len(windows) > most:
            windows = [windows[i] for i in np.linspace(0, len(windows) - 1, most).round().astype(int)]
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


def default_signals(cohort: Cohort, training: TrainingLook, axis: GeneAxis, run: Path | None) -> list[str]:
    """The two genes best read from real training patches, hypoxia, and CLIP when the run has it.

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
    if run is not None and (run / "embeddings").is_dir():
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
