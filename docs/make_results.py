"""A run's card as tables for the docs: every figure beside its controls.

python docs/make_results.py runs/her2st             # the figures that docs/results.md quotes
python docs/make_results.py runs/her2st --whole     # every row but the groups', as in docs/results/
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stainglass.evaluation.card import METRICS, SUBJECTS, TRAINING_SETS, Card, Row

QUOTED = (
    *("recovery", "recovery_gain", "cell_types_gain", "hypoxia_gain", "immune_gain", "stroma_gain"),
    *("nuclei_density", "lpips", "ssim", "cosine", "kid", "fid", "precision", "coverage"),
    *("clip_gene", "clip_gene_mismatched", "clip_gene_gap"),
    *("clip_real", "clip_real_mismatched", "clip_real_gap"),
)
BESIDE = ("floor", "same_class", "retrieval", "generated", "from_image", "shuffled", "bulk", "mean_image")


def main(run: Path, whole: bool) -> None:
    """Print the tables of every split of the card."""
    verdict = {True: "yes", False: "no", None: "undefined"}
    card = Card.read(run / "evaluation" / "card.json")
    head = "##" if whole else "###"
    if whole:
        print(f"# {run.name}: the whole card\n\n`python docs/make_results.py runs/{run.name} --whole`\n")
    window = f"{card.window_px} px at {card.mpp:g} µm/px"
    print(f"N = {card.n} windows of {window}; noise seeds {list(card.seeds)}; primary: {card.primary}.")
    for answer in card.answers:
        holds = verdict[answer.holds]
        print(f"\nDo the genes drive the picture, {answer.split}? **{holds}**. {answer.why}")
    for split in dict.fromkeys(row.split for row in card.rows):
        rows = [row for row in card.rows if row.split == split and row.group is None]
        print(f"\n{head} {split}\n")
        pictures = [row for row in rows if row.labels is None]
        _table(pictures, METRICS if whole else QUOTED, SUBJECTS if whole else BESIDE)
        shares = sorted({row.labels for row in rows if row.labels is not None})
        if shares:
            print(f"\n{head} {split}: of use to a classifier\n")
        for share in shares:
            print(f"\nTrained on {share:.0%} of the labels:\n")
            _table([row for row in rows if row.labels == share], METRICS, TRAINING_SETS)


def _table(rows: list[Row], metrics: Sequence[str], subjects: Sequence[str]) -> None:
    there = [s for s in subjects if any(row.subject == s and row.metric in metrics for row in rows)]
    print("| metric | judge | " + " | ".join(there) + " |")
    print("|---" * (len(there) + 2) + "|")
    for metric in metrics:
        for features in dict.fromkeys(row.features for row in rows if row.metric == metric):
            mine = [row for row in rows if (row.metric, row.features) == (metric, features)]
            cells = {row.subject: _cell(row) for row in mine}
            if any(cells.get(s) for s in there):
                print(
                    f"| {metric} | {features or ''} | " + " | ".join(cells.get(s, "") for s in there) + " |"
                )


def _cell(row: Row) -> str:
    if row.value is None:
        return ""
    interval = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{interval}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--whole" in sys.argv[2:])
