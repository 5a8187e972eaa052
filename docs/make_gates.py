"""Whether a generator is worth shipping: the figures of its card beside what was asked of them, as a table for the docs.

    python docs/make_gates.py runs/breast

The judged split alone counts. A gate is passed by the far bound of the figure's interval where it has one (ratios of Fréchet
distances have none), judge by judge. None is moved to be passed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stainglass.evaluation.card import Card, Row
from stainglass.report.markdown import cell


@dataclass(frozen=True)
class Gate:
    """One line of the table."""

    asked: str
    judge: str
    found: str
    beside: str
    met: bool

    def line(self) -> str:
        """As Markdown."""
        end = "met" if self.met else "missed"
        return f"| {self.asked} | {self.judge} | {self.found} | {self.beside} | {end} |"


def main(run: Path) -> None:
    """Print the table."""
    card = Card.read(run / "evaluation" / "card.json")
    print("| asked | judge | found | beside | |\n|---|---|---|---|---|")
    for gate in gates_of(card):
        print(gate.line())


def gates_of(card: Card) -> Iterator[Gate]:
    """The gates of a breast generator, judge by judge."""
    reader = _Reader(card)
    for metric in ("fd", "fid"):
        for judge in reader.judges(metric):
            painted, train = (reader.row(metric, name, judge).value for name in ("generated", "train"))
            ratio = painted / train if painted is not None and train else float("inf")
            yield Gate(
                "Fréchet distance ≤ 1.5 × training tissue's", judge, f"{ratio:.2f} ×", "", ratio <= 1.5
            )
    for judge in reader.judges("kid"):
        row, train = reader.row("kid", "generated", judge), reader.row("kid", "train", judge)
        yield Gate(
            "KID ≤ 2 × training tissue's", judge, cell(row), f"training tissue {cell(train)}",
            _high(row) <= 2 * max(train.value or 0.0, 0.0),
        )  # fmt: skip
    yield from _control(reader)
    yield from _manifold(reader)
    yield from _likeness(reader)


def _control(reader: _Reader) -> Iterator[Gate]:
    for judge in reader.judges("recovery_share"):
        row = reader.row("recovery_share", "generated", judge)
        yield Gate("≥ 90 % of what real windows give", judge, cell(row), "", _low(row) >= 0.9)
        for control in ("shuffled", "bulk", "unconditional", "other_patient_genes"):
            gain = reader.row("recovery_gain", control, judge)
            name = control.replace("_", " ")
            yield Gate(f"expression read back: more than {name}", judge, cell(gain), "", _low(gain) > 0)
    for judge in reader.judges("cell_types_share"):
        row = reader.row("cell_types_share", "generated", judge)
        yield Gate("cell types: r ≥ 70 % of real windows'", judge, cell(row), "", _low(row) >= 0.7)
    row, real = (reader.row("nuclei_density", name) for name in ("generated", "reconstruction"))
    met = _low(row) >= 0.7 * (real.value or 1.0)
    yield Gate("nuclear density: r ≥ 70 % of the ceiling", "", cell(row), f"reconstruction {cell(real)}", met)


def _manifold(reader: _Reader) -> Iterator[Gate]:
    for metric, least in (("precision", 0.65), ("recall", 0.45), ("coverage", 0.65)):
        for judge in reader.judges(metric):
            row = reader.row(metric, "generated", judge)
            beside = ", ".join(
                f"{name} {cell(reader.row(metric, name, judge))}" for name in ("floor", "reconstruction")
            )
            yield Gate(f"{metric} ≥ {least}", judge, cell(row), beside, _low(row) >= least)


def _likeness(reader: _Reader) -> Iterator[Gate]:
    for judge in reader.judges("lpips"):
        row, same = reader.row("lpips", "generated", judge), reader.row("lpips", "same_class", judge)
        met = _high(row) <= (same.value or 0.0) + 0.03
        yield Gate("LPIPS ≤ real of the same class + .03", judge, cell(row), f"same class {cell(same)}", met)
    for judge in reader.judges("copy_rate"):
        row, floor = reader.row("copy_rate", "generated", judge), reader.row("copy_rate", "floor", judge)
        met = _high(row) <= _high(floor)
        yield Gate("copies: no more than real held-out tissue", judge, cell(row), f"floor {cell(floor)}", met)


class _Reader:
    """Rows of the judged split."""

    def __init__(self, card: Card) -> None:
        self.rows = {(r.metric, r.subject, r.features): r for r in card.rows if r.split == card.split}
        self.absent = {judge.name for judge in card.judges if judge.why_absent is not None}

    def judges(self, metric: str) -> list[str]:
        """Who was asked for a metric, in the card's order: a figure that is not defined is a gate that is missed."""
        return [
            judge
            for name, subject, judge in self.rows
            if name == metric and subject == "generated" and judge is not None and judge not in self.absent
        ]

    def row(self, metric: str, subject: str, judge: str | None = None) -> Row:
        """A row; one that is not there has no figure."""
        missing = Row(metric=metric, features=judge, on="", split="", subject=subject, n=0, seeds=0, better="neither",
                      why="not on the card")  # fmt: skip
        return self.rows.get((metric, subject, judge), missing)


def _low(row: Row) -> float:
    return row.low if row.low is not None else row.value if row.value is not None else float("-inf")


def _high(row: Row) -> float:
    return row.high if row.high is not None else row.value if row.value is not None else float("inf")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
