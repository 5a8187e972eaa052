"""Variants of one recipe beside each other: what the card says of each, with three kinds of chance told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stainglass.evaluation.card import Card, Row
from stainglass.files import write_json

FORMAT = 1
FIGURES = {
    ("recovery", "generated"): "recovery r",
    ("recovery_share", "generated"): "share of real",
    ("recovery_gain", "shuffled"): "gain over shuffled",
    ("recovery_gain", "bulk"): "gain over bulk",
    ("kid", "generated"): "KID",
    ("nuclei_density", "generated"): "nuclear density r",
}
"""(metric, subject) → heading; by the first judge where it needs one."""


@dataclass(frozen=True)
class Figure:
    """One figure of one variant over its trainings.

    Attributes
    ----------
    value
        Mean over trainings (and, within each, over noise seeds).
    low, high
        95 % interval over windows: the mean of the trainings' bounds; None where there is none.
    training_sd
        Deviation between trainings that differ by their seed only; None with one training.
    noise_sd
        Deviation between noise seeds of one training, root mean square over trainings; None with one seed.
    """

    value: float
    low: float | None
    high: float | None
    training_sd: float | None
    noise_sd: float | None


@dataclass(frozen=True)
class Ablation:
    """All variants of one ablation.

    Attributes
    ----------
    figures
        Variant → heading → figure, variants in the recipe's order; a figure nobody could compute is left out.
    earlier
        Variants that were tried in the same folder before and are not in the recipe any more.
    """

    recipe: str
    split: str
    judge: str
    n: int
    noise_seeds: tuple[int, ...]
    training_seeds: tuple[int, ...]
    held_out: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Figure]]
    earlier: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        recipe: str,
        cards: Mapping[str, Sequence[Card]],
        training_seeds: Sequence[int],
        earlier: Sequence[str] = (),
    ) -> Ablation:
        """From every variant's cards, one a training seed.

        Raises
        ------
        ValueError
            When the cards are not of the same windows, noise seeds and judge.
        """
        flat = [card for some in cards.values() for card in some]
        first = flat[0]
        for card in flat:
            if (card.n, card.seeds, card.split, card.held_out_sections) != (
                first.n, first.seeds, first.split, first.held_out_sections,
            ):  # fmt: skip
                raise ValueError("cards of different windows or seeds cannot stand in one table")
        return cls(
            recipe, first.split, _judge(first), first.n, first.seeds, tuple(training_seeds), first.held_out_sections,
            {name: dict(_figures(some)) for name, some in cards.items()}, tuple(earlier),
        )  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write ``ablation.json`` and ``ablation.md``; returns the latter."""
        write_json(folder / "ablation.json", {"format": FORMAT, **asdict(self)})
        path = folder / "ablation.md"
        path.write_text(self.markdown(), encoding="utf-8")
        return path

    def markdown(self) -> str:
        """The table for people, with what its brackets mean and how many variants were tried."""
        headings = [h for h in FIGURES.values() if any(h in found for found in self.figures.values())]
        before = f" Tried before, not shown: {', '.join(self.earlier)}." if self.earlier else ""
        lines = [
            f"{len(self.figures)} variants of {self.recipe}, {len(self.training_seeds)} trainings each, judged on "
            f"{', '.join(self.held_out)} ({self.split}) by {self.judge}; N = {self.n} windows, "
            f"noise seeds {list(self.noise_seeds)}.{before}",
            "[interval over windows of these sections, not over patients]; ± deviation between trainings; "
            "(± between noise seeds of one training).",
            "",
            "| variant | " + " | ".join(headings) + " |",
            "|---" * (len(headings) + 1) + "|",
        ]
        for name, found in self.figures.items():
            cells = [_cell(found.get(heading)) for heading in headings]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def _judge(card: Card) -> str:
    """The first network that could judge."""
    return next((j.name for j in card.judges if j.why_absent is None and not j.took_part_in_training), "none")


def _figures(cards: Sequence[Card]) -> Iterator[tuple[str, Figure]]:
    for (metric, subject), heading in FIGURES.items():
        rows = [row for card in cards if (row := card.find(metric, subject)) is not None]
        rows = [row for row in rows if row.value is not None]
        if rows:
            yield heading, _figure(rows)


def _figure(rows: Sequence[Row]) -> Figure:
    values = [row.value for row in rows if row.value is not None]
    lows = [row.low for row in rows if row.low is not None]
    highs = [row.high for row in rows if row.high is not None]
    noise = [float(np.var(row.by_seed, ddof=1)) for row in rows if len(row.by_seed) > 1]
    bounded = len(lows) == len(highs) == len(rows)
    return Figure(
        value=float(np.mean(values)),
        low=float(np.mean(lows)) if bounded else None,
        high=float(np.mean(highs)) if bounded else None,
        training_sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        noise_sd=float(np.sqrt(np.mean(noise))) if noise else None,
    )


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    text = f"{figure.value:.3f}"
    if figure.low is not None and figure.high is not None:
        text += f" [{figure.low:.3f}, {figure.high:.3f}]"
    if figure.training_sd is not None:
        text += f" ± {figure.training_sd:.3f}"
    if figure.noise_sd is not None:
        text += f" (± {figure.noise_sd:.3f})"
    return text
