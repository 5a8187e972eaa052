"""A run's card as a table for `docs/results.md`: every figure beside its controls.

python docs/make_results.py runs/her2st
"""

from __future__ import annotations

import sys
from pathlib import Path

from stainglass.evaluation.card import METRICS, SUBJECTS, Card, Row


def main(run: Path) -> None:
    """Print one table a split of the card."""
    verdict = {True: "yes", False: "no", None: "undefined"}
    card = Card.read(run / "evaluation" / "card.json")
    window = f"{card.window_px} px at {card.mpp:g} µm/px"
    print(f"N = {card.n} windows of {window}; noise seeds {list(card.seeds)}; primary: {card.primary}.")
    for answer in card.answers:
        holds = verdict[answer.holds]
        print(f"\nDo the genes drive the picture, {answer.split}? **{holds}**. {answer.why}")
    for split in dict.fromkeys(row.split for row in card.rows):
        rows = [row for row in card.rows if row.split == split]
        subjects = [s for s in SUBJECTS if any(row.subject == s for row in rows)]
        print(f"\n### {split}\n\n| metric | judge | " + " | ".join(subjects) + " |")
        print("|---" * (len(subjects) + 2) + "|")
        for metric in METRICS:
            for features in dict.fromkeys(row.features for row in rows if row.metric == metric):
                cells = {
                    row.subject: _cell(row)
                    for row in rows
                    if (row.metric, row.features) == (metric, features)
                }
                if any(cells.values()):
                    print(
                        f"| {metric} | {features or ''} | "
                        + " | ".join(cells.get(s, "") for s in subjects)
                        + " |"
                    )


def _cell(row: Row) -> str:
    if row.value is None:
        return ""
    interval = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{interval}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
