"""The card: every figure of an evaluation with its controls beside it, as versioned JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from stainglass.config.metrics import METRICS as METRICS
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json

FORMAT = 1

Better = Literal["higher", "lower", "neither"]

SUBJECTS = (
    "floor",
    "reconstruction",
    "generated",
    "from_image",
    "retrieval",
    "same_class",
    "bulk",
    "shuffled",
    "other_patient_genes",
    "unconditional",
    "mean_image",
    "train",
    "other_patient",
)
"""Everything that is put beside the generator, in the order in which it is shown."""

TRAINING_SETS = ("train", "augmented", "generated", "both", "shuffled", "majority")
"""Subjects of the rows on usefulness: what a classifier of real held-out windows was trained on."""


class Row(BaseModel):
    """One figure about one subject.

    Attributes
    ----------
    metric
        ``kid``, ``fd``, ``fid`` (both also ``_infinity``: extrapolated to infinite N),
        ``precision``, ``recall``, ``density``, ``coverage``, ``ssim``, ``lpips``,
        ``cosine``, ``recovery``, ``recovery_share``, ``cell_types``, ``hypoxia``, ``immune``, ``stroma``,
        ``nuclei_density``, ``nuclei_area``,
        ``optical_density``, ``nuclei_density_ratio``, ``nearest_train``, ``copy_rate``; with ``_gain`` behind
        it, the paired advantage of the generated windows over the subject (positive: generated is better);
        ``clip_gene`` and ``clip_real`` (cosine of the picture with the genes, with the real window), ``…_mismatched``,
        ``…_gap``, and ``recall_at_K_image_to_gene`` / ``…_gene_to_image``;
        ``usefulness_f1`` and ``usefulness_auroc``: of a classifier of real windows, trained on the subject (one of
        `TRAINING_SETS`); their ``_gain``: over a classifier trained on the subject, as ``on`` says.
    features
        The judging network, None where no network judges.
    on
        What was compared with what.
    split
        The part of the split whose windows are judged.
    value, low, high
        The figure and its 95 % interval; None is undefined, and ``why`` says why.
    interval
        How the interval was made.
    n
        Windows of the subject behind the figure.
    seeds
        Noise seeds averaged over; 0 where no noise is drawn.
    by_seed
        The figure under each noise seed, where it was kept.
    labels
        Of usefulness: the share of the training labels that the classifier was given.
    group
        Of usefulness: the class, patient or group of the held-out windows that the figure is about; None: all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    features: str | None = None
    on: str
    split: str
    subject: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    n: int
    seeds: int = 0
    by_seed: tuple[float, ...] = ()
    better: Better
    why: str | None = None
    labels: float | None = None
    group: str | None = None


class JudgeRecord(BaseModel):
    """A network that judges, or why it could not.

    Attributes
    ----------
    sees, weights
        Of the 2015 Inception network: how pictures come to its size, and the file of its weights with its hash.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    took_part_in_training: bool
    why_absent: str | None = None
    sees: str | None = None
    weights: str | None = None


class Answer(BaseModel):
    """Do the genes drive the picture? Recovery, matched minus shuffled, gated on its lower bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str
    holds: bool | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str


class Card(BaseModel):
    """The evaluation of one generator.

    Attributes
    ----------
    primary
        The metric declared before the run; everything else is secondary.
    answers
        One gate a split: "do the genes drive the picture?".
    n
        Windows behind every subject (the floor's halves say their own).
    seeds
        The noise seeds.
    sampling
        How windows were painted: `SamplerSettings` as a mapping; empty where nobody said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    primary: str
    split: str
    answers: tuple[Answer, ...]
    trained_on: str
    held_out_sections: tuple[str, ...]
    held_out_patients: tuple[str, ...]
    other_sections: tuple[str, ...] = ()
    other_patients: tuple[str, ...] = ()
    n: int
    seeds: tuple[int, ...]
    sampling: dict[str, Any] = {}
    window_px: int
    mpp: float
    judges: tuple[JudgeRecord, ...]
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]

    def find(
        self,
        metric: str,
        subject: str,
        split: str | None = None,
        features: str | None = None,
        labels: float | None = None,
        group: str | None = None,
    ) -> Row | None:
        """The first row that fits: of the held-out split, the first judge, all labels and windows if not told otherwise."""
        wanted = (metric, subject, split or self.split, group)
        for row in self.rows:
            fits = features in (None, row.features) and labels in (None, row.labels)
            if fits and (row.metric, row.subject, row.split, row.group) == wanted:
                return row
        return None

    @property
    def answer(self) -> Answer | None:
        """The gate on the held-out split."""
        return next((answer for answer in self.answers if answer.split == self.split), None)

    def primary_row(self) -> Row | None:
        """The primary metric: the advantage over shuffled, or the generated windows' own figure."""
        return self.find(self.primary, "shuffled" if self.primary.endswith("_gain") else "generated")

    def write(self, path: Path) -> None:
        """Write the card as JSON, atomically."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card; another format or a broken file is a `StainglassError`."""
        content = read_json(path, "card")
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise StainglassError(
                path,
                f"a card of format {found!r}, this version reads {FORMAT}",
                "Run the evaluation again with this version",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise StainglassError(
                path,
                f"not a valid card ({error.error_count()} faults, first: {error.errors()[0]['msg']})",
                "Run the evaluation again",
            ) from None
