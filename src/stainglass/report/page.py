"""One self-contained HTML page of a run: the answer first, then all that a sceptic asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from stainglass.evaluation.card import Answer, Card
from stainglass.evaluation.recovery_rows import RULES
from stainglass.files import atomic_path
from stainglass.report.analysis_part import analysis_groups
from stainglass.report.figures import recovery_bars, training_curves
from stainglass.report.gallery import galleries
from stainglass.report.images import picture_file, scale_bar_um
from stainglass.report.run_folder import RunFolder
from stainglass.report.table import COLUMNS, card_table, columns, short
from stainglass.report.usefulness_table import UsefulnessTables, usefulness_tables
from stainglass.report.words import ARROWS, METRICS, SUBJECTS

RECOVERY_LABEL = "gene recovery: mean Pearson r, measured against read from the picture"
BARS = (*("floor", "generated", "retrieval", "bulk", "shuffled", "other_patient_genes", "unconditional"),)
MOST_PROOFS, MOST_PREVIEWS, MOST_GENES = 12, 4, 12


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run's folder.

    Parameters
    ----------
    run
        ``runs/NAME``; whatever it lacks is told in the page.

    Returns
    -------
    Path of the page: one file that loads nothing from outside.
    """
    folder = RunFolder(run)
    environment = Environment(
        loader=PackageLoader("stainglass.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(short=short, words=SUBJECTS)
    html = environment.get_template("template.html.j2").render(_context(folder))
    path = run / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _context(folder: RunFolder) -> dict[str, Any]:
    card = folder.card()
    recipe = folder.tree("recipe.yaml", "the recipe")
    provenance = folder.tree("provenance.json", "the provenance")
    cohort = folder.tree(folder.cohort() / "cohort.json", "the cohort's record")
    window_um = card.window_px * card.mpp if card is not None else None
    bar_um = scale_bar_um(window_um) if window_um else None
    named = recipe if isinstance(recipe, dict) else {}
    return {
        "name": str(named.get("title") or named.get("name") or folder.path.name),
        "run": folder.path.name,
        "card": card,
        "splits": [_split(card, answer) for answer in card.answers] if card is not None else [],
        "columns": COLUMNS,
        "galleries": galleries(folder.pictures()),
        "bar_um": bar_um,
        "bar_share": 100 * bar_um / window_um if bar_um and window_um else None,
        "genes": _genes(folder, card),
        "analysis": analysis_groups(folder.path),
        "latent": (folder.path / "analysis" / "latent.html").is_file(),
        "trainings": [_training(folder, name) for name in _trained(folder)],
        "previews": _previews(folder),
        "proofs": _proofs(folder),
        "sections": _sections(cohort),
        "facts": _facts(provenance),
        "recipe": yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe is not None else None,
        "missing": folder.missing,
    }


@dataclass(frozen=True)
class SplitPart:
    """What the page says about one part of the split."""

    split: str
    title: str
    verdict: str
    kind: str
    summary: str
    answer: Answer
    bars: Markup | None
    caption: str
    columns: tuple[str, ...]
    table: tuple[Any, ...]
    usefulness: UsefulnessTables | None


def _split(card: Card, answer: Answer) -> SplitPart:
    kind, verdict = {
        True: ("yes", "Yes. The genes drive the picture."),
        False: ("no", "Not shown. The pictures do not follow the genes beyond chance."),
        None: ("unknown", "Not measured."),
    }[answer.holds]
    judge = card.judges[0].name if card.judges else None
    shown = _shown_metric(card)
    rows = {name: row for name in BARS if (row := card.find(shown, name, answer.split)) is not None}
    label = METRICS[shown].title if shown != "recovery" else RECOVERY_LABEL
    bars = recovery_bars(rows, label, f"{METRICS[shown].title}, {answer.split}")
    return SplitPart(
        split=answer.split,
        title=_split_title(card, answer.split),
        verdict=verdict,
        kind=kind,
        summary=_summary(card, answer.split) or f"Judged by {judge}.",
        answer=answer,
        bars=Markup(bars) if bars is not None else None,  # noqa: S704 our own SVG
        caption=_caption(shown, rows["generated"].better if "generated" in rows else "higher")
        if bars is not None
        else f"{METRICS[shown].title} was not measured.",
        columns=columns(card, answer.split),
        table=card_table(card, answer.split),
        usefulness=usefulness_tables(card, answer.split),
    )


def _caption(metric: str, better: str) -> str:
    """What the bars under the answer show."""
    bars = "mean over genes" if metric == "recovery" else METRICS[metric].title
    expected = (
        "Orange should be near zero."
        if metric == "recovery"
        else f"Orange should be worse; {ARROWS[better][2:]}."
    )
    return f"Bars: {bars}; lines: 95 % intervals. Green is real tissue. {expected}"


def _shown_metric(card: Card) -> str:
    """The metric behind the answer, as a figure of each subject."""
    return card.primary.removesuffix("_gain") if card.primary in RULES else "recovery"


def _split_title(card: Card, split: str) -> str:
    if split == card.split:
        return f"Held-out tissue ({split}): {_list(card.held_out_sections)}"
    return f"Another patient: {_list(card.other_sections)}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _summary(card: Card, split: str) -> str:
    """The sentence under the verdict: the figure, its ceiling, and what the controls reach."""
    own, real = (card.find("recovery", name, split) for name in ("generated", "floor"))
    if own is None or own.value is None:
        return ""
    text = f"Expression read back from the generated windows: r = {short(own.value)}"
    if real is not None and real.value is not None:
        text += f", from the real ones {short(real.value)}"
    share = card.find("recovery_share", "generated", split)
    if share is not None and share.value is not None:
        text += f" (a share of {short(share.value, share=True)})"
    controls = [
        f"{SUBJECTS[name].title} {short(row.value)}"
        for name in ("shuffled", "bulk", "unconditional")
        if (row := card.find("recovery", name, split)) is not None and row.value is not None
    ]
    return text + (f". Controls: {', '.join(controls)}." if controls else ".")


def _genes(folder: RunFolder, card: Card | None) -> list[dict[str, Any]]:
    table = folder.genes()
    if table is None or card is None:
        return []
    return table[table["split"] == card.split].head(MOST_GENES).to_dict("records")  # type: ignore[return-value]


def _trained(folder: RunFolder) -> tuple[str, ...]:
    """The networks this run trained; only some have a CLIP."""
    return (
        *(["clip"] if (folder.path / "clip" / "metrics.jsonl").is_file() else []),
        "autoencoder",
        "denoiser",
    )


def _training(folder: RunFolder, name: str) -> dict[str, Any]:
    records = folder.metrics(name)
    svg = training_curves(records, f"training loss of the {name}")
    last = records[-1] if records else {}
    figures = {k: v for k, v in last.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    curve = Markup(svg) if svg is not None else None  # noqa: S704 our own SVG
    return {"name": name, "curve": curve, "last": {k: f"{v:.4g}" for k, v in figures.items()}}


def _previews(folder: RunFolder) -> list[dict[str, str]]:
    files = folder.files("denoiser/previews", "previews painted during training")
    at = (
        sorted({round(i * (len(files) - 1) / (MOST_PREVIEWS - 1)) for i in range(MOST_PREVIEWS)})
        if files
        else []
    )
    return _shown([files[i] for i in at], 900)


def _proofs(folder: RunFolder) -> list[dict[str, str]]:
    proofs = folder.cohort() / "proofs"
    files = folder.files(proofs, "proof images")
    if len(files) > MOST_PROOFS:
        folder.missing.append(f"{len(files) - MOST_PROOFS} more proof images: see {proofs}")
    return _shown(files[:MOST_PROOFS], 1100 if len(files) <= 6 else 700)


def _shown(files: list[Path], longest_px: int) -> list[dict[str, str]]:
    found = ((path.stem, picture_file(path, longest_px)) for path in files)
    return [{"name": name, "image": image} for name, image in found if image is not None]


SECTION_COLUMNS = (
    "id",
    "patient",
    "used",
    "spots",
    "source_mpp",
    "mpp_source",
    "genes",
    "median_counts",
    "notices",
)


def _sections(cohort: Any) -> list[dict[str, str]]:
    """The cohort's sections, as plain text; an unknown layout gives none."""
    records = cohort.get("sections") if isinstance(cohort, dict) else None
    if isinstance(records, dict):
        records = [{"id": name, **record} for name, record in records.items() if isinstance(record, dict)]
    if not isinstance(records, list):
        return []
    return [
        {name: _plain(record[name]) for name in SECTION_COLUMNS if name in record}
        for record in records
        if isinstance(record, dict)
    ]


def _facts(provenance: Any) -> list[tuple[str, str]]:
    """Provenance as (name, value) lines, nested ones joined by dots."""
    found: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found.append((prefix or "value", _plain(value)))

    if provenance is not None:
        walk("", provenance)
    return found


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return (
            " ".join(_plain(item) for item in value)
            if all(isinstance(i, str) for i in value)
            else json.dumps(value)
        )
    return str(value)
