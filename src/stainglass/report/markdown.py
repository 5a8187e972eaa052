"""The card as Markdown tables: for the docs and for the model card of a generator that is handed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stainglass.evaluation.card import METRICS, SUBJECTS, TRAINING_SETS, Card, Row

QUOTED = (
    *("recovery", "recovery_gain", "cell_types_gain", "hypoxia_gain", "immune_gain", "stroma_gain"),
    *("nuclei_density", "lpips", "ssim", "cosine", "kid", "fid", "precision", "coverage"),
    *("clip_gene", "clip_gene_mismatched", "clip_gene_gap"),
    *("clip_real", "clip_real_mismatched", "clip_real_gap"),
)
BESIDE = ("floor", "same_class", "retrieval", "generated", "from_image", "shuffled", "bulk", "mean_image")
VERDICT = {True: "yes", False: "no", None: "undefined"}


def card_markdown(card: Card, whole: bool = False, head: str = "###") -> str:
    """What was judged, the answers, and a table a split.

    Parameters
    ----------
    whole
        Every row but the groups', beside every subject; else the figures that are quoted most.
    head
        Of the splits' headings.
    """
    window = f"{card.window_px} px at {card.mpp:g} µm/px"
    painted = f"; painted by {_painted(card.sampling)}" if card.sampling else ""
    parts = [
        f"N = {card.n} windows of {window}; noise seeds {list(card.seeds)}{painted}; primary: {card.primary}."
    ]
    parts += [
        f"Do the genes drive the picture, {answer.split}? **{VERDICT[answer.holds]}**. {answer.why}"
        for answer in card.answers
    ]
    for split in dict.fromkeys(row.split for row in card.rows):
        rows = [row for row in card.rows if row.split == split and row.group is None]
        pictures = [row for row in rows if row.labels is None]
        table = rows_table(pictures, METRICS if whole else QUOTED, SUBJECTS if whole else BESIDE)
        parts += [f"{head} {split}", table]
        shares = sorted({row.labels for row in rows if row.labels is not None})
        if shares:
            parts.append(f"{head} {split}: of use to a classifier")
        for share in shares:
            told = [row for row in rows if row.labels == share]
            parts += [f"Trained on {share:.0%} of the labels:", rows_table(told, METRICS, TRAINING_SETS)]
    return "\n\n".join(parts) + "\n"


def _painted(sampling: Mapping[str, Any]) -> str:
    """The sampler in words."""
    told = f"{sampling['steps']} steps of {sampling['solver']}"
    if sampling["guidance"] != 1:
        low, high = sampling["interval"]
        told += f", guidance {sampling['guidance']:g} at noise levels {low:g} to {high:g}"
    thinning = sampling.get("thinning", 0)
    told += f", {thinning:.0%} of each spot's counts left out" if thinning else ""
    candidates = sampling.get("candidates", 1)
    told += (
        f", the best of {candidates} candidates by what the denoiser reads in them" if candidates > 1 else ""
    )
    depth = sampling.get("depth")
    return told + (
        f", sections deeper than {depth:g} counts a spot (median) thinned to that" if depth else ""
    )


def rows_table(rows: list[Row], metrics: Sequence[str], subjects: Sequence[str]) -> str:
    """A line a metric and judge, a column a subject; empty lines and columns are left out."""
    there = [s for s in subjects if any(row.subject == s and row.metric in metrics for row in rows)]
    lines = ["| metric | judge | " + " | ".join(there) + " |", "|---" * (len(there) + 2) + "|"]
    for metric in metrics:
        for features in dict.fromkeys(row.features for row in rows if row.metric == metric):
            mine = [row for row in rows if (row.metric, row.features) == (metric, features)]
            cells = {row.subject: cell(row) for row in mine}
            if any(cells.get(s) for s in there):
                shown = " | ".join(cells.get(s, "") for s in there)
                lines.append(f"| {metric} | {features or ''} | {shown} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    """A figure and its interval; nothing where it is undefined."""
    if row.value is None:
        return ""
    interval = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{interval}"
