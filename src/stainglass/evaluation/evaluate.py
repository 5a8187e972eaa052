"""The whole evaluation, top to bottom: real windows and a painter go in, a card comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stainglass.analysis.nuclei import LOOKS, NucleusReader
from stainglass.config.metrics import METRICS, metric_named
from stainglass.errors import StainglassError
from stainglass.evaluation.alignment import alignment_rows
from stainglass.evaluation.card import Answer, Card, JudgeRecord, Row
from stainglass.evaluation.features import build_judges
from stainglass.evaluation.lpips import Lpips
from stainglass.evaluation.measure import Measurer, judge_features
from stainglass.evaluation.pictures import Pictures
from stainglass.evaluation.recovery_rows import Target, answer, fit_targets, gene_table, recovery_rows
from stainglass.evaluation.rows import distribution_rows, look_rows, memorisation_rows, pair_rows, present
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.evaluation.stage import Stage, equal_n, set_stage
from stainglass.evaluation.tissue import Painter, Tissue, require_same_axis
from stainglass.evaluation.usefulness import lessons
from stainglass.evaluation.usefulness_rows import usefulness_notes, usefulness_rows
from stainglass.files import atomic_path
from stainglass.models.clip import TissueCLIP

OTHER_PATIENT = "other_patient"


def evaluate(
    held_out: Tissue,
    train: Tissue,
    other: Tissue | None,
    painter: Painter,
    settings: EvaluationSettings,
    out: Path,
    clip: TissueCLIP | None = None,
) -> Card:
    """Judge a painter on held-out windows, with every control beside every figure.

    Parameters
    ----------
    held_out
        Real windows the painter was not trained on.
    train
        Real windows it was trained on: fits the recovery, the nucleus threshold, and is searched for copies.
    other
        Real windows of another patient, or None. They are judged as a split of their own, and stand
        beside the held-out ones as a subject.
    painter
        What is judged.
    settings
        How.
    out
        Folder for ``card.json``, ``windows.parquet``, ``genes.parquet`` and ``pictures.npz``.
    clip
        The run's CLIP where it has one: its cosines and recall stand on the card too.

    Returns
    -------
    The card, as written.

    Raises
    ------
    StainglassError
        When the tissues do not fit together, are too small, or nobody is left to judge.
    """
    primary = _primary(settings.primary)
    _check(held_out, train, other, settings)
    judges, records = build_judges(settings)
    lpips, lpips_absent = _lpips(settings)
    n = equal_n(settings, held_out, train, other)

    all_train = train
    train = train.take(train.chosen(settings.train_max, np.random.default_rng(settings.choice_seed)))
    train_features = judge_features(judges, train.pixels, "real training windows")
    nuclei = NucleusReader.fit(train.pixels, settings.mpp)
    measurer = Measurer(judges, lpips, nuclei, train_features, clip)
    targets = fit_targets(train, train_features, settings.recovery_genes)
    pictures = Pictures(train.pixels, judges[0].name)

    stages = [
        set_stage(
            settings.split,
            held_out,
            train,
            other,
            painter,
            measurer,
            settings,
            n,
            pictures,
            True,
            other,
            all_train,
        ),
    ]
    if other is not None:
        stages.append(
            set_stage(
                OTHER_PATIENT, other, train, None, painter, measurer, settings, n, pictures, False, held_out
            )
        )
    rows = [found for stage in stages for found in _rows(stage, targets, lpips_absent)]
    for stage in stages:
        rows += memorisation_rows(stage, judges[0].name, len(train), settings.saw_train)
    if clip is not None:
        rows += [found for stage in stages for found in alignment_rows(stage, clip, train)]
    useful = []
    if settings.usefulness:
        given = lessons(train, train_features, stages, painter, judges[0], settings)
        rows += [found for stage in stages for found in usefulness_rows(stage, given)]
        useful = usefulness_notes(given)
    rows += _absent_judges(records, settings, n)
    answers = tuple(answer(stage, rows, judges[0].name, primary) for stage in stages)
    card = _card(primary, held_out, other, settings, n, records, rows, answers, stages, useful)

    out.mkdir(parents=True, exist_ok=True)
    pictures.write(out / "pictures.npz")
    _write_parquet(pd.concat([_windows(stage) for stage in stages]), out / "windows.parquet")
    genes = [
        gene_table(stage, targets[0], judges[0].name).assign(split=stage.split, features=judges[0].name)
        for stage in stages
    ]
    _write_parquet(pd.concat(genes), out / "genes.parquet")
    card.write(out / "card.json")
    return card


def _primary(declared: str) -> str:
    """The declared metric by its name on the card."""
    try:
        return metric_named(declared)
    except ValueError:
        raise StainglassError(
            "evaluation settings", f"no metric is called {declared!r}", f"Choose one of {', '.join(METRICS)}"
        ) from None


def _check(held_out: Tissue, train: Tissue, other: Tissue | None, settings: EvaluationSettings) -> None:
    for tissue in (held_out, other):
        if tissue is not None:
            require_same_axis(train, tissue)
    if not settings.seeds:
        raise StainglassError(
            "evaluation settings", "no noise seed is named", "Give at least one, as seeds: [0]"
        )
    if settings.split == OTHER_PATIENT and other is not None:
        raise StainglassError(
            "evaluation settings",
            "the held-out part is named other_patient, and another patient is given too",
            "Name it by its part of the split, or leave the other patient out",
        )
    both = {*zip(train.sections, (w.spot for w in train.windows))} & {
        *zip(held_out.sections, (w.spot for w in held_out.windows))
    }
    if both:
        section, spot = sorted(both, key=str)[0]
        raise StainglassError(
            f"tissue {held_out.name}",
            f"{len(both)} of its windows are training windows too (first: {section} {spot})",
            "Split by patient, or at least by section",
        )


def _lpips(settings: EvaluationSettings) -> tuple[Lpips | None, str | None]:
    path = settings.lpips_weights
    if Lpips.name in settings.took_part_in_training:
        return None, f"not available: {Lpips.name} took part in training"
    if path is None or not path.is_file():
        return (
            None,
            "not available: no LPIPS weights were given"
            if path is None
            else f"not available: no weights at {path.name}",
        )
    return Lpips(path), None


def _rows(stage: Stage, targets: list[Target], lpips_absent: str | None) -> list[Row]:
    judges = list(stage.pool)
    rows = [found for target in targets for judge in judges for found in recovery_rows(stage, target, judge)]
    rows += pair_rows(stage, Lpips.name, lpips_absent)
    for judge in judges:
        rows += distribution_rows(stage, judge)
    return rows + look_rows(stage)


def _absent_judges(records: tuple[JudgeRecord, ...], settings: EvaluationSettings, n: int) -> list[Row]:
    """A row for what a judge that could not judge would have said, so that its silence is seen."""
    return [
        Row(
            metric="fid" if record.name == "Inception-2015" else "kid",
            features=record.name,
            on="the generated windows, against the real windows",
            split=settings.split,
            subject="generated",
            n=n,
            seeds=len(settings.seeds),
            better="lower",
            why=f"not available: {record.why_absent}",
        )
        for record in records
        if record.why_absent is not None
    ]


def _card(
    primary: str,
    held_out: Tissue,
    other: Tissue | None,
    settings: EvaluationSettings,
    n: int,
    records: tuple[JudgeRecord, ...],
    rows: list[Row],
    answers: tuple[Answer, ...],
    stages: list[Stage],
    useful: list[str],
) -> Card:
    notes = list(settings.notes) + [note for stage in stages for note in stage.notes] + useful
    if n < settings.n:
        notes.append(
            f"{settings.n} windows a subject were asked for; the smallest tissue has {n}, so all have {n}"
        )
    return Card(
        primary=primary,
        split=settings.split,
        answers=answers,
        trained_on=settings.trained_on,
        held_out_sections=tuple(sorted(set(held_out.sections))),
        held_out_patients=tuple(sorted(set(held_out.patients))),
        other_sections=tuple(sorted(set(other.sections))) if other is not None else (),
        other_patients=tuple(sorted(set(other.patients))) if other is not None else (),
        n=n,
        seeds=settings.seeds,
        sampling=dict(settings.sampling),
        window_px=int(held_out.pixels.shape[1]),
        mpp=settings.mpp,
        judges=records,
        notes=tuple(notes),
        rows=tuple(rows),
    )


def _windows(stage: Stage) -> pd.DataFrame:
    """Scores of every window, subject and noise seed."""
    parts = []
    for subject in present(stage):
        for number, measured in enumerate(subject.sets):
            part: dict[str, object] = {
                "split": stage.split,
                "subject": subject.name,
                "seed": subject.seeds[number] if subject.seeds else -1,
                "section": subject.tissue.sections,
                "barcode": [window.spot for window in subject.tissue.windows],
                "y_um": subject.tissue.centres_um_yx[:, 0],
                "x_um": subject.tissue.centres_um_yx[:, 1],
                "ssim": measured.pairs["ssim", None],
                "lpips": measured.pairs.get(("lpips", Lpips.name), np.full(len(subject.tissue), np.nan)),
                "nearest_train": measured.nearest,
            }
            part |= {name: measured.looks[:, column] for column, name in enumerate(LOOKS)}
            cosines = [(judge, score) for (name, judge), score in measured.pairs.items() if name == "cosine"]
            part |= {
                "cosine" if i == 0 else f"cosine_{judge}": score for i, (judge, score) in enumerate(cosines)
            }
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
