"""All figures of a run: composite, maps and attribution of sections, each as PNG, SVG and a page, and an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stainglass.analysis.attribution import Attribution, attribute
from stainglass.analysis.painted import PaintedSection, painted_section
from stainglass.analysis.read_signals import Look, ReadSignal, SignalReader, TrainingLook, default_signals
from stainglass.analysis.signals import find_signal
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, write_json
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import console
from stainglass.report.composite import (
    ATTRIBUTION_CAPTION,
    CompositeTiles,
    attribution_figure,
    composite_caption,
    composite_figure,
    shown_spots,
)
from stainglass.report.figure_page import Page, PagePanel, ends, gradient, panel, template, write_page
from stainglass.report.map_figures import SectionPictures, SignalMaps, caption, map_figure
from stainglass.report.panels import MATTER_MAP, Field, figure_text, map_at, robust_scale, save_figure
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.stamp import Stamp

FOLDER = Path("analysis") / "figures"
FORMAT = 1


@dataclass(frozen=True)
class Made:
    """One figure as the index and the report know it: its files' stem and its figures of merit."""

    kind: str
    section: str
    signal: str
    title: str
    stem: str
    n: int
    r_real: float | None = None
    r_generated: float | None = None
    shuffled: float | None = None


def write_figures(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str],
    signals: Sequence[str] = (),
    most: int | None = None,
    *,
    seed: int = 0,
    batch: int = 16,
    look: Look | None = None,
) -> Path:
    """Draw the figures of sections into ``RUN/analysis/figures``.

    Parameters
    ----------
    settings, seed, batch
        How to paint; patches painted before with the same are taken as they are.
    sections
        Ids of sections of the cohort.
    signals
        Names of genes, gene sets or ``clip``; by default two genes that training tissue shows best, hypoxia, and
        CLIP where the run has it.
    most
        At most this many spots a section, spread evenly.
    look
        Pictures → features the reader stands on; by default EfficientNet-Lite0's.

    Returns
    -------
    Path of ``index.html``; ``figures.json`` beside it lists every figure with its files and correlations.

    Raises
    ------
    StainglassError
        When a section or a signal is not there; nothing is painted or written then.
    """
    refuse_unknown(cohort, sections, most)
    names = [find_signal(name, cohort.axis) for name in signals]
    train = training_sections(cohort, generator)
    if look is None:
        from stainglass.models.features import EfficientNetLite0

        look = EfficientNetLite0().features
    training = TrainingLook.at(cohort, train, generator.facts.window_px, look)
    names = names or [
        find_signal(name, cohort.axis)
        for name in default_signals(cohort, training, generator.facts.axis, run, sections)
    ]
    names = list({name.name: name for name in names}.values())
    reader = SignalReader.fit(cohort, training, names, look, run)
    for name in names:  # a signal that a section lacks is found before anything is painted
        for section in sections:
            reader.refuse_unmeasured(name, section)
    folder, made = run / FOLDER, []
    for section in sections:
        painted = painted_section(
            run, cohort, section, generator, settings, seed=seed, most=most, batch=batch
        )
        made += _of_section(folder, cohort, generator, settings, painted, reader.read(painted), seed)
    return _write_index(folder, made, generator)


def refuse_unknown(cohort: Cohort, sections: Sequence[str], most: int | None) -> None:
    """Every section must be of the cohort, and there must be something to show."""
    for section in sections:
        if section not in cohort.sections:
            raise StainglassError(
                cohort.path, f"has no section {section!r}", f"Choose one of {', '.join(cohort.sections)}"
            )
    if not sections:
        raise StainglassError(cohort.path, "no section to show", "Name one with --section")
    if most is not None and most < 4:
        raise StainglassError("--most", f"{most} spots are too few for a figure", "Give 4 or more")


def training_sections(cohort: Cohort, generator: Generator) -> list[str]:
    """The sections the generator was trained on: the only ones anything is fitted on."""
    found = [name for name in generator.facts.trained_on if name in cohort.sections]
    if not found:
        raise StainglassError(
            cohort.path,
            f"holds none of the sections {generator.facts.name!r} was trained on ({', '.join(generator.facts.trained_on)})",
            "Use the cohort the generator was trained with",
        )
    return found


def _of_section(
    folder: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    painted: PaintedSection,
    reads: Sequence[ReadSignal],
    seed: int,
) -> list[Made]:
    section = cohort.sections[painted.section]
    pictures = SectionPictures.of(section, painted)
    held_out = painted.section not in generator.facts.trained_on
    stamp = section_stamp(generator, painted, seed)
    made = []
    for read in reads:
        maps = SignalMaps.of(section, painted, read)
        about = caption(read, painted, len(section.used_spots), held_out)
        stem = f"{painted.section}_{read.name.stem}"
        merits = _number(read.r_real), _number(read.r_generated), _number(read.shuffled)
        named = (painted.section, read.name.name, read.name.title)
        save_figure(
            composite_figure(pictures, maps, painted, about),
            folder / f"composite_{stem}",
            stamp,
            read.name.title,
        )
        write_page(composite_page(pictures, maps, painted, about), folder / f"composite_{stem}.html")
        made.append(Made("composite", *named, f"composite_{stem}", len(painted), *merits))
        save_figure(
            map_figure(pictures, maps, painted, about), folder / f"map_{stem}", stamp, read.name.title
        )
        write_page(map_page(pictures, maps, painted, about), folder / f"map_{stem}.html")
        made.append(Made("map", *named, f"map_{stem}", len(painted), *merits))
    if generator.facts.told == "bulk":  # every place is told the same: there is nothing to attribute
        console.print(
            "  no attribution: this generator is told each section's mean expression", soft_wrap=True
        )
    else:
        made.append(_attribution(folder, cohort, generator, settings, painted, stamp, seed))
    return made


def section_stamp(generator: Generator, painted: PaintedSection, seed: int) -> Stamp:
    """Provenance of a figure that shows generated patches of a section."""
    spots = tuple(str(w.spot) for w in painted.windows)
    y, x = painted.centres_um_yx.mean(0)
    return Stamp(generator.facts.name, painted.section, spots, seed, painted.mpp, (float(y), float(x)))


def _attribution(
    folder: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    painted: PaintedSection,
    stamp: Stamp,
    seed: int,
) -> Made:
    """The middle row of the composite, beside the same patch told of the farthest place's spots."""
    rows = shown_spots(len(painted))
    i = int(rows[len(rows) // 2])
    away = painted.centres_um_yx - painted.centres_um_yx[i]
    far = int(np.argmax(np.hypot(away[:, 0], away[:, 1])))
    facts, window = generator.facts, painted.windows[i]
    told = cohort.conditions([window, painted.windows[far]], facts.axis, facts.reach_um, facts.max_spots)
    mine, other = (attribute(generator.pipeline, window, told.take([k]), settings, seed) for k in (0, 1))
    stem = f"attribution_{painted.section}_{''.join(c if c.isalnum() or c in '-_' else '_' for c in str(window.spot))}"
    title = f"Attribution · section {painted.section}, spot {window.spot}"
    save_figure(attribution_figure(painted, mine, other, i), folder / stem, stamp, title)
    write_page(attribution_page(painted, mine, other, i), folder / f"{stem}.html")
    return Made("attribution", painted.section, "", title, stem, 1)


def _spot_texts(maps: SignalMaps, painted: PaintedSection) -> dict[str, str]:
    read = maps.read
    return {
        str(
            w.spot
        ): f"{w.spot}\nmeasured {figure_text(a)}\nread from real {figure_text(b)}\nread from generated {figure_text(c)}"
        for w, a, b, c in zip(painted.windows, read.measured, read.real, read.generated, strict=True)
    }


def _places(painted: PaintedSection, field: Field) -> tuple[tuple[float, float, str], ...]:
    """Where the spots lie in a field, as shares of its width and height."""
    at = field.px(painted.centres_um_yx) / np.array(field.shape)
    return tuple(
        (round(float(x), 5), round(float(y), 5), str(w.spot))
        for (y, x), w in zip(at, painted.windows, strict=True)
    )


def map_page(pictures: SectionPictures, maps: SignalMaps, painted: PaintedSection, about: str) -> Page:
    """The three maps over the tissue they belong to, spots linked."""
    read, field = maps.read, pictures.field
    spots = _places(painted, field)
    panels = [
        panel(title, base, field.mpp, map_at(smooth, field), maps.scale, note=note,
              synthetic=synthetic, spots=spots)
        for title, base, smooth, note, synthetic in (
            ("Measured", pictures.real, maps.measured, "", False),
            ("Read from real patches", pictures.real, maps.real, f"r = {figure_text(read.r_real)}", False),
            ("Read from generated patches", pictures.generated, maps.generated,
             f"r = {figure_text(read.r_generated)}", True),
        )
    ]  # fmt: skip
    text = about + f"\nShuffled spots: r within ±{figure_text(read.shuffled)}."
    return _page(maps, painted, text, panels, 3)


def composite_page(pictures: SectionPictures, maps: SignalMaps, painted: PaintedSection, about: str) -> Page:
    """The section at the left, rows of spots at the right, maps to fade."""
    read, field = maps.read, pictures.field
    tiles = CompositeTiles.of(painted, maps)
    size, places = painted.real.shape[1], {key: (x, y) for x, y, key in _places(painted, field)}
    chosen = [str(painted.windows[i].spot) for i in tiles.at]
    panels = [
        panel("Measured, over the section", pictures.real, field.mpp, map_at(maps.measured, field),
              maps.scale, wide=True, spots=tuple((*places[key], key) for key in chosen))
    ]  # fmt: skip
    for row, (i, key) in enumerate(zip(tiles.at, chosen, strict=True)):
        window = painted.windows[i]
        corner = window.top_px * painted.mpp, window.left_px * painted.mpp
        for which, smooth in (("real", maps.measured), ("generated", maps.generated)):
            values = smooth.crop(*corner, size * painted.mpp, min(size, 96))
            note = "measured" if which == "real" else "read back"
            panels.append(
                panel(f"{row + 1} {which}", getattr(painted, which)[i], painted.mpp, values, maps.scale, note=note,
                      synthetic=which == "generated", spots=((0.5, 0.5, key),))
            )  # fmt: skip
    text = composite_caption(read.r_real, read.r_generated, read.shuffled, len(tiles.at), about)
    return _page(maps, painted, text, panels, 2)


def _page(
    maps: SignalMaps, painted: PaintedSection, text: str, panels: Sequence[PagePanel], columns: int
) -> Page:
    read, (low, high) = maps.read, ends(maps.scale)
    title = f"{read.name.title} · section {painted.section}, patient {painted.patient}"
    unit = f"{read.name.name} ({read.name.unit})"
    return Page(title, text, tuple(panels), columns, _spot_texts(maps, painted), low, high, unit, gradient())


def attribution_page(painted: PaintedSection, mine: Attribution, shuffled: Attribution, i: int) -> Page:
    """The patch under each spot's map, and the genes as a table."""
    slots = [s for s in range(len(mine.present)) if mine.present[s]]
    scale = robust_scale(mine.spots[slots])
    scale.vmin = 0.0
    panels: list[Any] = [
        panel("Real", painted.real[i], painted.mpp),
        panel("Generated", mine.picture, painted.mpp, synthetic=True),
    ]
    about = {}
    for k, slot in enumerate(slots, start=1):
        key, (y, x) = f"spot {k}", mine.offsets_um_yx[slot] / (mine.picture.shape[0] * painted.mpp) + 0.5
        about[key] = f"{key}\n{mine.share[slot]:.0%} of all change"
        panels.append(
            panel(key, mine.picture, painted.mpp, mine.spots[slot], scale, MATTER_MAP, synthetic=True,
                  note=f"{mine.share[slot]:.0%}", spots=((round(float(x), 4), round(float(y), 4), key),))
        )  # fmt: skip
    other = dict(zip(shuffled.symbols, shuffled.genes, strict=True))
    table = tuple((s, figure_text(v, "+.3f"), figure_text(other[s], "+.3f")) for s, v in mine.top_genes(20))
    low, high = ends(scale)
    return Page(
        f"What the condition does where · section {painted.section}, spot {painted.windows[i].spot}",
        ATTRIBUTION_CAPTION + f" Equal shares would be {1 / max(len(slots), 1):.0%}.",
        tuple(panels), min(5, len(panels)), about, low, high, "change of brightness (grey levels)",
        gradient(MATTER_MAP), table, ("gene", "darkens by (grey levels)", "told of a distant place"),
    )  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _write_index(folder: Path, made: Sequence[Made], generator: Generator) -> Path:
    """``figures.json``, then ``index.html``, which shows the PNGs beside it."""
    figures = [m.__dict__ | {"files": [f"{m.stem}.{s}" for s in ("png", "svg", "html")]} for m in made]
    write_json(folder / "figures.json", {"format": FORMAT, "model": generator.facts.name, "figures": figures})
    by_section: dict[str, list[Made]] = {}
    for m in made:
        by_section.setdefault(m.section, []).append(m)
    html = template("figure_index.html.j2").render(
        name=generator.facts.name,
        sections=by_section,
        figure_text=lambda v: "–" if v is None else figure_text(v),
    )
    path = folder / "index.html"
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path
