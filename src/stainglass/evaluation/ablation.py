"""Variants of one recipe beside each other: what the card says of each, with three kinds of chance told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stainglass.evaluation.card import Card, Row
from stainglass.files import atomic_path, write_json

FORMAT = 2
FIGURES = {
    ("recovery", "generated"): "recovery r",
    ("recovery_share", "generated"): "share of real",
    ("recovery_gain", "shuffled"): "gain over shuffled",
    ("recovery_gain", "bulk"): "gain over bulk",
    ("kid", "generated"): "KID",
}
"""(metric, subject) → heading; by one judge."""
FD_RATIO = "FD ratio"
"""Fréchet distance of what is painted from real held-out windows, in units of that of as many training windows."""
UNJUDGED = {("nuclei_density", "generated"): "nuclear density r"}
"""The same of what no network judges."""


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
    trainings
        How many trainings stand behind each variant.
    figures
        Judge → variant → heading → figure, variants in the recipe's order; a figure nobody could compute is left out.
        What no network judges stands with the first.
    earlier
        Variants that were tried in the same folder before and are not in the recipe any more.
    """

    recipe: str
    split: str
    n: int
    noise_seeds: tuple[int, ...]
    trainings: Mapping[str, int]
    held_out: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    earlier: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: str, cards: Mapping[str, Sequence[Card]], earlier: Sequence[str] = ()) -> Ablation:
        """From every variant's cards, one a training.

        Raises
        ------
        ValueError
            When the cards are not of the same windows and noise seeds.
        """
        flat = [card for some in cards.values() for card in some]
        first = flat[0]
        for card in flat:
            if (card.n, card.seeds, card.split, card.held_out_sections) != (
                first.n, first.seeds, first.split, first.held_out_sections,
            ):  # fmt: skip
                raise ValueError("cards of different windows or seeds cannot stand in one table")
        figures = {
            judge: {name: dict(_figures(some, judge, i == 0)) for name, some in cards.items()}
            for i, judge in enumerate(_judges(flat) or ("none",))
        }
        trainings = {name: len(some) for name, some in cards.items()}
        return cls(
            recipe, first.split, first.n, first.seeds, trainings, first.held_out_sections, figures, tuple(earlier)
        )  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write ``ablation.json`` and ``ablation.md``; returns the latter."""
        write_json(folder / "ablation.json", {"format": FORMAT, **asdict(self)})
        path = folder / "ablation.md"
        with atomic_path(path) as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")
        return path

    def markdown(self) -> str:
        """A table a judge for people, with what its brackets mean and how many variants were tried."""
        before = f" Tried before, not shown: {', '.join(self.earlier)}." if self.earlier else ""
        lines = [
            f"{len(self.trainings)} variants of {self.recipe}, {self._trainings()}, judged on "
            f"{', '.join(self.held_out)} ({self.split}); N = {self.n} windows, "
            f"noise seeds {list(self.noise_seeds)}.{before}",
            "[interval over windows of these sections, not over patients]; ± deviation between trainings; "
            "(± between noise seeds of one training); –: not measured, or the judge took part in training.",
        ]
        for judge, found in self.figures.items():
            lines += ["", f"Judge: {judge}.", "", *_table(found)]
        return "\n".join(lines) + "\n"

    def _trainings(self) -> str:
        usual = min(self.trainings.values())
        more = ", ".join(f"{name}: {n}" for name, n in self.trainings.items() if n != usual)
        word = "training" if usual == 1 else "trainings"
        return f"{usual} {word} each" + (f" ({more})" if more else "")


def _table(found: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    known = (*FIGURES.values(), FD_RATIO, *UNJUDGED.values())
    headings = [heading for heading in known if any(heading in some for some in found.values())]
    lines = ["| variant | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
    for name, some in found.items():
        lines.append(f"| {name} | " + " | ".join(_cell(some.get(heading)) for heading in headings) + " |")
    return lines


def _judges(cards: Sequence[Card]) -> tuple[str, ...]:
    """Networks that could judge at least one variant, in the cards' order."""
    able = [j.name for card in cards for j in card.judges if j.why_absent is None]
    return tuple(j.name for j in cards[0].judges if j.name in able)


def _figures(cards: Sequence[Card], judge: str, leads: bool) -> Iterator[tuple[str, Figure]]:
    asked: list[tuple[tuple[str, str], str, str | None]]
    asked = [(key, heading, judge) for key, heading in FIGURES.items()]
    asked += [(key, heading, None) for key, heading in UNJUDGED.items() if leads]
    for (metric, subject), heading, features in asked:
        rows = [row for card in cards if (row := card.find(metric, subject, features=features)) is not None]
        rows = [row for row in rows if row.value is not None]
        if rows:
            yield heading, _figure(rows)
    ratios = [ratio for card in cards if (ratio := _fd_ratio(card, judge)) is not None]
    if ratios:
        spread = float(np.std(ratios, ddof=1)) if len(ratios) > 1 else None
        yield FD_RATIO, Figure(float(np.mean(ratios)), None, None, spread, None)


def _fd_ratio(card: Card, judge: str) -> float | None:
    painted, train = (card.find("fd", subject, features=judge) for subject in ("generated", "train"))
    if painted is None or train is None or painted.value is None or not train.value:
        return None
    return painted.value / train.value


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
