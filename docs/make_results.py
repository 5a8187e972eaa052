"""A run's card as tables for the docs: every figure beside its controls.

python docs/make_results.py runs/her2st             # the figures that docs/results.md quotes
python docs/make_results.py runs/her2st --whole     # every row but the groups', as in docs/results/
"""

from __future__ import annotations

import sys
from pathlib import Path

from stainglass.evaluation.card import Card
from stainglass.report.markdown import card_markdown


def main(run: Path, whole: bool) -> None:
    """Print the tables of every split of the card."""
    card = Card.read(run / "evaluation" / "card.json")
    if whole:
        print(f"# {run.name}: the whole card\n\n`python docs/make_results.py runs/{run.name} --whole`\n")
    print(card_markdown(card, whole, "##" if whole else "###"), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--whole" in sys.argv[2:])
