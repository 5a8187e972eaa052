"""From a run to its latent view: points, colours, thumbnails and what the slider moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stainglass.analysis.clip_signal import clip_vectors
from stainglass.analysis.latent_view import (
    MOST_POINTS,
    Moves,
    Projection,
    ProjectionKind,
    classes_of,
    dose_moves,
    own_and_shuffled,
    refuse_without_umap,
    shares_of,
    trajectory_moves,
)
from stainglass.analysis.painted import PaintedSection, painted_section
from stainglass.analysis.read_signals import Look
from stainglass.analysis.signals import HOUSEKEEPING, GeneScale, SignalName, find_signal, measure
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import progress_bar
from stainglass.report.figure_folder import refuse_unknown, training_sections
from stainglass.report.images import tile
from stainglass.report.latent_page import OKABE_ITO, Colouring, LatentData, packed, write_latent_page
from stainglass.report.panels import figure_text
from stainglass.spread import spread
from stainglass.synthesis.generator import Generator

SliderKind = Literal["expression", "dose", "trajectory"]
FeaturesKind = Literal["efficientnet", "clip"]

THUMBNAILS, THUMB_PX = 600, 104
MOVING = 60
"""Spots that move along a dose or trajectory slider: each is painted at every stop."""

EXPRESSION_STOPS = 11


def write_latent(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str],
    *,
    colour: str = "class",
    slider: SliderKind = "expression",
    gene: str | None = None,
    projection: ProjectionKind = "pca",
    features: FeaturesKind = "efficientnet",
    most: int = MOST_POINTS,
    thumbnails: int = THUMBNAILS,
    moving: int = MOVING,
    seed: int = 0,
    batch: int = 16,
    look: Look | None = None,
) -> Path:
    """Write ``RUN/analysis/latent.html``.

    Parameters
    ----------
    colour
        ``class``, ``patient``, or a signal (`stainglass.analysis.signals.find_signal`); the page can change it.
    slider
        ``expression`` hides spots below a threshold; ``dose`` repaints some spots with the gene's counts multiplied;
        ``trajectory`` follows some spots from noise to tissue.
    gene
        A gene or gene set for the slider; by default the colour's, or the most variable gene of the model.
    projection, features
        Axes, and what they are axes of: EfficientNet-Lite0's features, or the run's own CLIP.
    most
        At most this many points, two a spot; more are thinned evenly.
    thumbnails
        Spots whose pictures are kept in the page.
    moving
        Spots that move along a dose or trajectory slider.
    look
        Pictures → features, instead of ``features``.

    Raises
    ------
    StainglassError
        When a section, gene, colour or package is not there; nothing is painted or written then.
    """
    refuse_unknown(cohort, sections, None)
    if min(most, moving, thumbnails + 1) < 1 or most < 8:
        raise StainglassError("--most", f"{most} points are too few for a view", "Give 8 or more")
    if projection == "umap":
        refuse_without_umap()
    by_colour = None if colour in ("class", "patient") else find_signal(colour, cohort.axis)
    moved = _slider_signal(gene, by_colour, cohort, generator)
    train = training_sections(cohort, generator)
    wanted = [s for s in (by_colour, moved) if s is not None]
    scale = GeneScale.fit(cohort, train, wanted)
    budget = _budget(run, cohort, generator, sections, wanted, scale, most, features)
    look = look or _look(run, features)
    painted = [
        painted_section(run, cohort, s, generator, settings, seed=seed, most=n, batch=batch)
        for s, n in budget.items()
    ]
    real, fake = (
        np.concatenate([_looked(look, getattr(p, which), f"looking at {which} {p.section}") for p in painted])
        for which in ("real", "generated")
    )
    fitted = Projection.fit(real, projection, seed)
    moves = _moves(slider, generator, cohort, painted, moved, settings, look, moving, seed, batch)
    values = np.concatenate([_at(moved, cohort, p, scale, run) for p in painted])
    colourings = _colourings(cohort, painted, train, scale, run, colour, by_colour, moved, values)
    spots = sum(len(cohort.patches([s], generator.facts.window_px)) for s in sections)
    data = LatentData(
        title=f"{generator.facts.name}: {', '.join(sections)}",
        axes=fitted.axes,
        real=fitted.apply(real),
        generated=fitted.apply(fake),
        labels=tuple(f"{p.section} · {w.spot}" for p in painted for w in p.windows),
        colourings=colourings,
        thumbs=_thumbs(painted, thumbnails),
        slider=_slider(slider, moved, values, moves, fitted, len(real)),
        notes=_notes(painted, spots, real, fake, thumbnails, features, projection, moves),
    )
    return write_latent_page(data, run / "analysis" / "latent.html")


def _slider_signal(
    gene: str | None, by_colour: SignalName | None, cohort: Cohort, generator: Generator
) -> SignalName:
    """The gene or set behind the slider."""
    if gene is None and by_colour is not None and by_colour.weights:
        return by_colour
    facts = generator.facts
    usable = (s for s in facts.gene_symbols if not s.startswith(HOUSEKEEPING))
    found = find_signal(gene or next(usable, facts.gene_symbols[0]), cohort.axis)
    if not found.weights:
        raise StainglassError(
            f"--gene {gene}", "is no gene and no gene set", "Give one, e.g. HALLMARK_HYPOXIA"
        )
    return found


def _budget(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    sections: Sequence[str],
    wanted: Sequence[SignalName],
    scale: GeneScale,
    most: int,
    features: FeaturesKind,
) -> dict[str, int | None]:
    """Spots a section; what a section lacks is found here, before anything is painted."""
    sizes = []
    for name in sections:
        section = cohort.sections[name]
        barcodes = [str(b) for b in section.used_spots.obs_names]
        for signal in wanted:
            measure(signal, section, barcodes, scale, run)
        if features == "clip":
            clip_vectors(run, section, barcodes)
        sizes.append(len(cohort.patches([name], generator.facts.window_px)))
    taken = shares_of(sizes, most // 2)
    return {s: None if n == size else n for s, n, size in zip(sections, taken, sizes, strict=True)}


def _look(run: Path, features: FeaturesKind) -> Look:
    if features == "clip":
        from stainglass.models.clip import TissueCLIP

        look: Look = TissueCLIP.load(run / "clip" / "model").embed_images
        return look
    from stainglass.models.features import EfficientNetLite0

    return EfficientNetLite0().features


def _looked(look: Look, pixels: NDArray[np.uint8], title: str, chunk: int = 64) -> NDArray[np.floating]:
    found = []
    with progress_bar(title, len(pixels)) as advance:
        for first in range(0, len(pixels), chunk):
            some = pixels[first : first + chunk]
            found.append(look(some))
            advance(len(some))
    return np.concatenate(found)


def _at(
    signal: SignalName, cohort: Cohort, painted: PaintedSection, scale: GeneScale, run: Path
) -> NDArray[np.float64]:
    barcodes = [str(w.spot) for w in painted.windows]
    return measure(signal, cohort.sections[painted.section], barcodes, scale, run)


def _colourings(
    cohort: Cohort,
    painted: Sequence[PaintedSection],
    train: Sequence[str],
    scale: GeneScale,
    run: Path,
    colour: str,
    by_colour: SignalName | None,
    moved: SignalName,
    values: NDArray[np.float64],
) -> tuple[Colouring, ...]:
    """Class, patient, the slider's gene and the colour asked for; that one first."""
    classes, about = classes_of(cohort, painted, train, painted[0].windows[0].size_px)
    patients = [p.patient for p in painted for _ in range(len(p))]
    ways = [
        _by_name("class", about, classes),
        _by_name("patient", "whose tissue it is", patients),
        Colouring(moved.name, moved.source, values=values, unit=moved.unit),
    ]
    if by_colour is not None and by_colour.name != moved.name:
        found_values = np.concatenate([_at(by_colour, cohort, p, scale, run) for p in painted])
        ways.append(Colouring(by_colour.name, by_colour.source, values=found_values, unit=by_colour.unit))
    first = by_colour.name if by_colour is not None else colour
    return tuple(sorted(ways, key=lambda way: way.name != first))


def _by_name(name: str, about: str, of: Sequence[str]) -> Colouring:
    """Commonest first; beyond what colours can tell apart, one grey class."""
    names, codes = np.unique(np.array(of), return_inverse=True)
    order = np.argsort(-np.bincount(codes), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    ordered = tuple(str(names[i]) for i in order)
    most = len(OKABE_ITO)
    if len(ordered) > most + 1:
        return Colouring(name, about, np.minimum(rank[codes], most), (*ordered[:most], "others"))
    return Colouring(name, about, rank[codes], ordered)


def _thumbs(painted: Sequence[PaintedSection], most: int) -> dict[int, tuple[str, str]]:
    where = [(p, i) for p in painted for i in range(len(p))]
    return {
        int(row): tuple(tile(pictures[where[row][1]], THUMB_PX) for pictures in _both(where[row][0]))  # type: ignore[misc]
        for row in spread(len(where), most)
        if most > 0
    }


def _both(painted: PaintedSection) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return painted.real, painted.generated


def _moves(
    slider: SliderKind,
    generator: Generator,
    cohort: Cohort,
    painted: Sequence[PaintedSection],
    moved: SignalName,
    settings: SamplerSettings,
    look: Look,
    moving: int,
    seed: int,
    batch: int,
) -> Moves | None:
    windows = [w for p in painted for w in p.windows]
    some = [windows[i] for i in spread(len(windows), moving)]
    if slider == "dose":
        return dose_moves(generator.pipeline, cohort, some, moved, settings, look, seed=seed, batch=batch)
    if slider == "trajectory":
        return trajectory_moves(generator.pipeline, cohort, some, settings, look, seed=seed, batch=batch)
    return None


def _slider(
    kind: SliderKind,
    moved: SignalName,
    values: NDArray[np.float64],
    moves: Moves | None,
    fitted: Projection,
    n: int,
) -> dict[str, Any]:
    """The fourth dimension, as the page's script reads it."""
    if moves is None:
        known = values[np.isfinite(values)]
        at = (
            np.unique(np.quantile(known, np.linspace(0, 0.95, EXPRESSION_STOPS)))
            if len(known)
            else np.zeros(1)
        )
        return {
            "kind": kind,
            "title": f"{moved.name} at least",
            "stops": [f"{figure_text(float(v))} {moved.unit}" for v in at],
            "at": [float(v) for v in at],
            "values": packed(np.where(np.isfinite(values), values, -1e9).astype(np.float32)),
            "start": 0,
        }
    places = np.stack([fitted.apply(f) for f in moves.features])  # (F, m, 3)
    titles = {"dose": f"dose of {moved.name}", "trajectory": "from noise to tissue"}
    start = next((i for i, stop in enumerate(moves.stops) if stop.endswith("× 1")), len(moves.stops) - 1)
    return {
        "kind": kind,
        "title": titles[kind],
        "stops": list(moves.stops),
        "rows": [int(i) for i in spread(n, places.shape[1])],
        "places": packed(places.astype(np.float32)),
        "thumbs": [[tile(p, THUMB_PX) for p in pictures] for pictures in moves.pixels],
        "start": start,
    }


def _notes(
    painted: Sequence[PaintedSection],
    spots: int,
    real: NDArray[np.floating],
    fake: NDArray[np.floating],
    thumbnails: int,
    features: FeaturesKind,
    projection: ProjectionKind,
    moves: Moves | None,
) -> tuple[str, ...]:
    shown = sum(len(p) for p in painted)
    named = {"efficientnet": "EfficientNet-Lite0 features", "clip": "this run's CLIP image embeddings"}[
        features
    ]
    own, other = own_and_shuffled(real, fake)
    notes = [
        f"{projection.upper()} of {named}, fitted on the real patches alone; generated patches are laid into the same axes.",
        f"A generated patch lies {figure_text(own, '.3f')} from the real patch of its own spot and "
        f"{figure_text(other, '.3f')} from that of another spot (standardised features, root mean square); without the "
        "genes' help both would be alike.",
    ]
    if shown < spots:
        notes.append(f"Thinned evenly: {shown:,} of {spots:,} spots are shown.")
    if thumbnails < shown:
        notes.append(
            f"Pictures are kept for {len(spread(shown, thumbnails)):,} of {shown:,} spots, spread evenly."
        )
    if moves is not None:
        notes.append(
            f"{moves.features.shape[1]} spots, spread evenly, move with the slider; each keeps its noise."
        )
    return tuple(notes)
