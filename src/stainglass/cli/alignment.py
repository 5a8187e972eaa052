"""A run's CLIP examined on held-out sections: ``clip/alignment.json`` and a table on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from stainglass.analysis.embeddings import few_genes
from stainglass.cli.judge import TRAIN_WINDOWS, read_patches
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.evaluation.alignment import CHANCE, CLIP, COLOUR, write_alignment
from stainglass.evaluation.card import Row
from stainglass.models.clip import TissueCLIP
from stainglass.progress import console


def examine(run: Path, cohort: Cohort, recipe: Recipe) -> Path:
    """Recall and cosines on every spot of the judged part; returns the path of ``alignment.json``."""
    clip = TissueCLIP.load(run / "clip" / "model")
    facts = clip.facts
    assert facts is not None
    split, part = cohort.split(recipe.split.name), recipe.evaluation.part
    held_out = split.part(part)
    if not held_out:
        raise StainglassError(
            cohort.path, f"its split has no {part} sections", "Set evaluation.part to the other part"
        )
    for section, median in few_genes(cohort, held_out, recipe.genes.top_k).items():
        console.print(
            f"  {section}: the median spot expresses {median:.0f} genes, fewer than the {recipe.genes.top_k} of a set; "
            "short sets are read as they are",
            highlight=False,
            soft_wrap=True,
        )
    read = (cohort, facts.axis, facts.window_px, recipe.windows.reach_um, recipe.windows.max_spots)
    path = run / "clip" / "alignment.json"
    rows = write_alignment(
        path,
        clip,
        read_patches(*read, held_out, part, TRAIN_WINDOWS),
        read_patches(*read, split.train, "train", TRAIN_WINDOWS),
        part,
        recipe.evaluation.derange_um,
        recipe.seed,
    )
    console.print(_table(rows))
    return path


def _table(rows: list[Row]) -> Table:
    """Every figure beside what chance and colour give."""
    table = Table(title=f"CLIP on held-out sections (N = {rows[0].n})", title_justify="left")
    for column in ("", "CLIP", COLOUR, CHANCE):
        table.add_column(column, justify="left" if not column else "right")
    for metric in dict.fromkeys(row.metric for row in rows):
        by_way = {row.features: row for row in rows if row.metric == metric}
        cells = [_cell(by_way.get(way)) for way in (CLIP, COLOUR, CHANCE)]
        table.add_row(metric.replace("_", " "), *cells)
    return table


def _cell(row: Row | None) -> str:
    if row is None or row.value is None:
        return ""
    if row.low is None or row.high is None or row.features == CHANCE:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
