"""The card's rows on usefulness as two tables: what was trained on by share of the labels, and group by group."""

from __future__ import annotations

from dataclasses import dataclass

from stainglass.evaluation.card import TRAINING_SETS as ORDER
from stainglass.evaluation.card import Card, Row
from stainglass.report.table import Cell, cell_of
from stainglass.report.words import METRICS, TRAINING_SETS, USEFULNESS_GAINS

FIGURES = ("usefulness_f1", "usefulness_auroc")


@dataclass(frozen=True)
class UsefulnessLine:
    """A training set, a gain or a group, with its cells."""

    title: str
    meaning: str
    cells: tuple[Cell, ...]
    gain: bool = False


@dataclass(frozen=True)
class UsefulnessTables:
    """Both tables of a split.

    Attributes
    ----------
    heads, lines
        Columns are figure and share of the labels; rows are training sets, then gains.
    group_heads, group_lines
        Columns are training sets, then gains (macro-F1, all labels); rows are classes, patients and groups.
    note
        Why there is nothing to show, or what keeps the figures from being about new patients.
    """

    heads: tuple[str, ...]
    lines: tuple[UsefulnessLine, ...]
    group_heads: tuple[str, ...]
    group_lines: tuple[UsefulnessLine, ...]
    note: str


def usefulness_tables(card: Card, split: str) -> UsefulnessTables | None:
    """Tables of a split; None when usefulness was not asked for."""
    rows = [row for row in card.rows if row.split == split and row.labels is not None]
    if not rows:
        return None
    by = {(row.metric, row.subject, row.labels, row.group): row for row in rows}
    shares = sorted({row.labels for row in rows if row.labels is not None})
    whole = rows[0]
    columns = [(figure, share) for figure in FIGURES for share in shares]
    sets = [name for name in ORDER if any(row.subject == name for row in rows)]
    gains = [name for name in USEFULNESS_GAINS if (f"{FIGURES[0]}_gain", name, 1.0, None) in by]

    def cells(subject: str, suffix: str) -> tuple[Cell, ...]:
        return tuple(_cell(by.get((figure + suffix, subject, share, None))) for figure, share in columns)

    lines = [
        UsefulnessLine(TRAINING_SETS[name].title, TRAINING_SETS[name].meaning, cells(name, ""))
        for name in sets
    ]
    lines += [UsefulnessLine(USEFULNESS_GAINS[name], "", cells(name, "_gain"), True) for name in gains]
    groups = []
    for name in dict.fromkeys(row.group for row in rows if row.group is not None):
        own = [by.get((FIGURES[0], subject, 1.0, name)) for subject in sets]
        own += [by.get((f"{FIGURES[0]}_gain", subject, 1.0, name)) for subject in gains]
        n = next((row.n for row in own if row is not None), 0)
        groups.append(UsefulnessLine(name, f"{n} windows", tuple(_cell(row) for row in own)))
    return UsefulnessTables(
        tuple(f"{METRICS[figure].title}, {share:.0%} of labels" for figure, share in columns),
        tuple(lines),
        (*(TRAINING_SETS[name].title for name in sets), *(USEFULNESS_GAINS[name] for name in gains)),
        tuple(groups),
        whole.why or "",
    )


def _cell(row: Row | None) -> Cell:
    return cell_of(row, row.metric if row is not None else "")
