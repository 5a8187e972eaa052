"""Whether a generator is worth shipping: the figures of its card beside what was asked of them, as a table.

    python -m benchmarks.gates RUN

RUN was evaluated; the judged split alone counts. A gate is passed by the far bound of the figure's interval where it has
one (ratios of Fréchet distances have none), and by every judge that says it. None of them is moved to be passed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import arguments
from stainglass.evaluation.card import Card, Row


@dataclass(frozen=True)
class Gate:
    """One line of the table."""

    asked: str
    judge: str
    found: str
    beside: str
    passed: bool


def main(argv: list[str] | None = None) -> list[Gate]:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("run", type=Path)
    options = parser.parse_args(argv)
    gates = list(gates_of(Card.read(options.run / "evaluation" / "card.json")))
    print("| asked | judge | found | beside | |\n|---|---|---|---|---|")
    for gate in gates:
        print(
            f"| {gate.asked} | {gate.judge} | {gate.found} | {gate.beside} | {'met' if gate.passed else 'missed'} |"
        )
    return gates


def gates_of(card: Card) -> Iterator[Gate]:
    """The gates of a breast generator, judge by judge."""
    reader = _Reader(card)
    for judge in reader.judges("fd"):
        ratio = reader.value("fd", "generated", judge) / reader.value("fd", "train", judge)
        yield Gate("Fréchet distance ≤ 1.5 × training tissue's", judge, f"{ratio:.2f} ×", "", ratio <= 1.5)
    for judge in reader.judges("kid"):
        row, train = reader.row("kid", "generated", judge), reader.row("kid", "train", judge)
        yield Gate(
            "KID ≤ 2 × training tissue's", judge, _told(row), f"training tissue {_told(train)}",
            _high(row) <= 2 * max(train.value or 0.0, 0.0),
        )  # fmt: skip
    yield from _control(reader)
    yield from _manifold(reader)
    yield from _likeness(reader)


def _control(reader: _Reader) -> Iterator[Gate]:
    for judge in reader.judges("recovery_share"):
        row = reader.row("recovery_share", "generated", judge)
        yield Gate("≥ 90 % of what real windows give", judge, _told(row), "", _low(row) >= 0.9)
        for control in ("shuffled", "bulk", "unconditional", "other_patient_genes"):
            gain = reader.row("recovery_gain", control, judge)
            name = control.replace("_", " ")
            yield Gate(f"expression read back: more than {name}", judge, _told(gain), "", _low(gain) > 0)
    for judge in reader.judges("cell_types_share"):
        row = reader.row("cell_types_share", "generated", judge)
        yield Gate("cell types: r ≥ 70 % of real windows'", judge, _told(row), "", _low(row) >= 0.7)
    row, real = (reader.row("nuclei_density", name) for name in ("generated", "reconstruction"))
    met = _low(row) >= 0.7 * (real.value or 1.0)
    yield Gate(
        "nuclear density: r ≥ 70 % of the ceiling", "", _told(row), f"reconstruction {_told(real)}", met
    )


def _manifold(reader: _Reader) -> Iterator[Gate]:
    for metric, least in (("precision", 0.65), ("recall", 0.45), ("coverage", 0.65)):
        for judge in reader.judges(metric):
            row = reader.row(metric, "generated", judge)
            beside = ", ".join(
                f"{name} {_told(reader.row(metric, name, judge))}" for name in ("floor", "reconstruction")
            )
            yield Gate(f"{metric} ≥ {least}", judge, _told(row), beside, _low(row) >= least)


def _likeness(reader: _Reader) -> Iterator[Gate]:
    for judge in reader.judges("lpips"):
        row, same = reader.row("lpips", "generated", judge), reader.row("lpips", "same_class", judge)
        met = _high(row) <= (same.value or 0.0) + 0.03
        yield Gate(
            "LPIPS ≤ real of the same class + .03", judge, _told(row), f"same class {_told(same)}", met
        )
    for judge in reader.judges("copy_rate"):
        row, floor = reader.row("copy_rate", "generated", judge), reader.row("copy_rate", "floor", judge)
        met = (row.value or 0.0) <= _high(floor)
        yield Gate(
            "copies: no more than real held-out tissue", judge, _told(row), f"floor {_told(floor)}", met
        )


class _Reader:
    """Rows of the judged split."""

    def __init__(self, card: Card) -> None:
        self.rows = {(r.metric, r.subject, r.features): r for r in card.rows if r.split == card.split}

    def judges(self, metric: str) -> list[str]:
        """Who says a metric, in the card's order; one that has no figure is left out."""
        return [
            judge
            for (name, subject, judge), row in self.rows.items()
            if name == metric and subject == "generated" and judge is not None and row.value is not None
        ]

    def row(self, metric: str, subject: str, judge: str | None = None) -> Row:
        """A row that must be there."""
        return self.rows[metric, subject, judge]

    def value(self, metric: str, subject: str, judge: str) -> float:
        """Its figure."""
        found = self.row(metric, subject, judge).value
        assert found is not None  # judges() has seen it
        return found


def _told(row: Row) -> str:
    if row.value is None:
        return "–"
    bounds = "" if row.low is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{bounds}"


def _low(row: Row) -> float:
    return row.low if row.low is not None else row.value if row.value is not None else float("-inf")


def _high(row: Row) -> float:
    return row.high if row.high is not None else row.value if row.value is not None else float("inf")


if __name__ == "__main__":
    main(sys.argv[1:])
