"""A blinded reading: pairs in an order drawn by a seed, a template for ratings, and the key apart from both."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stainglass.analysis.find_compartments import CompartmentStudy
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.report.compartment_pairs import Pair, another_place
from stainglass.report.figure_page import script_json, template
from stainglass.report.images import data_uri, scale_bar_um
from stainglass.report.patch_strip import Cell, enlargement, save_strip, strip

SENTENCE = "A pair of a blinded reading by stainglass: at most one of the two patches is synthetic. Not for diagnosis."
COLUMNS = ("pair", "compartment", "similarity 1-5", "which is real (A, B, both)", "remark")
QUALITY = 95


@dataclass(frozen=True)
class BlindPair:
    """Two pictures of one compartment: (kind, row of the study) each."""

    name: str
    compartment: str
    a: tuple[str, int]
    b: tuple[str, int]


def draw_blind(study: CompartmentStudy, pairs: Mapping[str, Sequence[Pair]], seed: int) -> list[BlindPair]:
    """Generated beside real of another place, and one pair of two real places for each compartment.

    The real pairs tell how alike two places of a compartment are at best. No place is shown twice: a picture that
    comes back would tell what it is.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    shown: set[int] = set()
    drawn: list[tuple[str, tuple[str, int], tuple[str, int]]] = []
    for name, members in pairs.items():
        for pair in members:
            if pair.other is not None and not shown & {pair.spot, pair.other}:
                shown |= {pair.spot, pair.other}
                drawn.append((name, ("generated", pair.spot), ("real", pair.other)))
    for name in pairs:
        pool = np.array(
            [i for i, one in enumerate(study.expression) if one == name and i not in shown], np.int64
        )
        if len(pool):
            spot = int(rng.choice(pool))
            other = another_place(study, spot, pool[pool != spot], shown, rng)
            if other is not None:
                shown |= {spot, other}
                drawn.append((name, ("real", spot), ("real", other)))
    found = []
    for number, k in enumerate(rng.permutation(len(drawn)), start=1):
        name, one, two = drawn[k]
        a, b = (one, two) if rng.random() < 0.5 else (two, one)
        found.append(BlindPair(f"pair-{number:03d}", name, a, b))
    return found


def refuse_rated(folder: Path) -> None:
    """Ratings that somebody gave are not overwritten.

    Raises
    ------
    StainglassError
        When ``ratings.csv`` of the folder is filled in.
    """
    path = folder / "ratings.csv"
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8-sig") as handle:
        rated = sum(any(cell.strip() for cell in row[2:]) for row in list(csv.reader(handle))[1:])
    if rated:
        raise StainglassError(
            path, f"{rated} pairs are rated already", "Move the folder and key.csv away, then draw new pairs"
        )


def write_blind(
    study: CompartmentStudy, pairs: Mapping[str, Sequence[Pair]], folder: Path, key: Path, seed: int
) -> Path:
    """Write the reading into ``folder``, which may be handed on, and its key to ``key``, which may not.

    Returns
    -------
    The page.

    Raises
    ------
    StainglassError
        When its ratings are filled in already, the key there is of other pairs, or no compartment has two places to compare.
    """
    refuse_rated(folder)
    drawn = draw_blind(study, pairs, seed)
    if not drawn:
        raise StainglassError(
            folder, "no compartment has two places to compare", "Take more spots (--most) or more sections"
        )
    opened = _key(study, drawn)
    if key.is_file() and key.read_text(encoding="utf-8") != opened:
        # The reading may have been handed on: its ratings would be read with the wrong key.
        raise StainglassError(
            key, "is the key of other pairs", f"Move {folder} and the key away together, then draw new pairs"
        )
    mpp = study.judged.sections[0].painted.mpp
    size = study.patch("real", 0).shape[0]
    times = enlargement(size)
    shown = []
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for pair in drawn:
            cells = [Cell(study.patch(*which), letter) for which, letter in ((pair.a, "A"), (pair.b, "B"))]
            sheet = strip(cells, f"{pair.name} · {pair.compartment}", mpp)
            save_strip(sheet, temporary / f"{pair.name}.png", mpp / times, None, SENTENCE)
            tiles = [data_uri(Image.fromarray(cell.pixels), size, QUALITY) for cell in cells]
            shown.append({"name": pair.name, "compartment": pair.compartment, "a": tiles[0], "b": tiles[1]})
        rows = [[pair.name, pair.compartment, "", "", ""] for pair in drawn]
        (temporary / "ratings.csv").write_text(_csv(COLUMNS, rows), encoding="utf-8")
        bar_um = scale_bar_um(size * mpp * 0.8)
        html = template("blinded.html.j2").render(
            pairs=shown, side=size * times, bar_um=bar_um, bar_px=bar_um / mpp * times, about=SENTENCE,
            columns=script_json(list(COLUMNS)),
        )  # fmt: skip
        (temporary / "index.html").write_text(html, encoding="utf-8")
        with atomic_path(key) as hidden:
            hidden.write_text(opened, encoding="utf-8")
    return folder / "index.html"


def _key(study: CompartmentStudy, drawn: Sequence[BlindPair]) -> str:
    rows = []
    for pair in drawn:
        places = []
        for _, spot in (pair.a, pair.b):
            one, row = study.place(spot)
            places += [one.painted.section, one.barcodes[row]]
        rows.append([pair.name, pair.compartment, pair.a[0], pair.b[0], *places])
    columns = ("pair", "compartment", "A", "B", "section A", "barcode A", "section B", "barcode B")
    return _csv(columns, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()
