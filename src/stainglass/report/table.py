"""The card as a table: one line a metric and judge, one column a subject."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stainglass.evaluation.card import SUBJECTS, Card, Row
from stainglass.report.words import ARROWS, FAMILIES, METRICS, Words

COLUMNS = ("generated", *(name for name in SUBJECTS if name != "generated"))


@dataclass(frozen=True)
class Cell:
    """One figure: text, its interval, and what stands behind it when pointed at."""

    text: str
    interval: str = ""
    about: str = ""


@dataclass(frozen=True)
class Line:
    """One metric by one judge."""

    title: str
    meaning: str
    judge: str
    cells: tuple[Cell, ...]
    note: str
    primary: bool


@dataclass(frozen=True)
class Family:
    """The lines that answer one question."""

    question: str
    about: str
    lines: tuple[Line, ...]


def columns(card: Card, split: str) -> tuple[str, ...]:
    """The subjects of a split, generated first."""
    there = {row.subject for row in card.rows if row.split == split and row.labels is None}
    return tuple(name for name in COLUMNS if name in there)


def card_table(card: Card, split: str) -> tuple[Family, ...]:
    """The card's rows of a split, sorted into questions; families without rows are left out.

    Rows on usefulness have a table of their own (`stainglass.report.usefulness_table`).
    """
    rows = [row for row in card.rows if row.split == split and row.labels is None]
    known = {metric for *_, metrics in FAMILIES for metric in metrics}
    rest = tuple(dict.fromkeys(row.metric for row in rows if row.metric not in known))
    found = []
    for question, about, metrics in (*FAMILIES, ("Further figures", "", rest)):
        lines = [line for metric in metrics for line in _lines(card, rows, metric, columns(card, split))]
        if lines:
            found.append(Family(question, about, tuple(lines)))
    return tuple(found)


def _lines(card: Card, rows: list[Row], metric: str, subjects: tuple[str, ...]) -> list[Line]:
    mine = [row for row in rows if row.metric == metric]
    words = METRICS.get(metric, Words(metric, ""))
    lines: list[Line] = []
    for judge in dict.fromkeys(row.features for row in mine):
        by_subject = {row.subject: row for row in mine if row.features == judge}
        first = next(iter(by_subject.values()))
        title = f"FD-{judge}" if metric == "fd" else words.title
        cells = tuple(cell_of(by_subject.get(name), metric) for name in subjects)
        reasons = {row.why for row in by_subject.values() if row.why and row.value is None}
        note = (
            reasons.pop() if len(reasons) == 1 and all(r.value is None for r in by_subject.values()) else ""
        )
        # What a metric means is said once, above its first judge.
        meaning = f"{ARROWS[first.better]}. {words.meaning}" if not lines or metric == "fd" else ""
        lines.append(
            Line(
                title,
                meaning,
                judge if judge and metric != "fd" else "",
                cells,
                note,
                metric == card.primary and not lines,
            )
        )
    return lines


def cell_of(row: Row | None, metric: str) -> Cell:
    """A row's figure; nothing where there is no row."""
    if row is None:
        return Cell("")
    behind = f"{row.on}; n = {row.n}" + (f", {row.seeds} noise seeds" if row.seeds else "")
    behind += "".join(
        f"; {text}" for text in (row.interval and f"95 % interval: {row.interval}", row.why) if text
    )
    if row.value is None:
        return Cell("–", "", behind)
    share = metric.endswith("_share") or metric in ("copy_rate", "coverage", "precision", "recall")
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"{short(row.low, share)} … {short(row.high, share)}"
    return Cell(short(row.value, share), interval, behind)


def short(value: float, share: bool = False) -> str:
    """Three decimals or so, or a whole percentage, with a true minus sign; a dash where it is not defined."""
    if math.isnan(value):
        return "–"
    if share:
        text = f"{value:.0%}".replace("%", " %")
    elif abs(value) >= 10000:
        text = f"{value:.1e}"
    elif abs(value) >= 10:
        text = f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
    else:
        text = f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.4f}" if abs(value) >= 0.00005 else "0"
    return text.replace("-", "−")
