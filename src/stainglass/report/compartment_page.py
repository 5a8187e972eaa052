"""``RUN/analysis/compartments``: real and generated patches of one compartment side by side, for a pathologist's eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stainglass.analysis.classifier import Embed
from stainglass.analysis.compartments import COMPARTMENTS, Names
from stainglass.analysis.find_compartments import CompartmentStudy, study_compartments
from stainglass.analysis.overlay import PALETTE
from stainglass.analysis.study import as_json
from stainglass.analysis.unlike import UNLIKE
from stainglass.cohort.cohort import Cohort
from stainglass.files import atomic_path, write_json
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import console
from stainglass.report.blinded import refuse_rated, write_blind
from stainglass.report.compartment_pairs import PAIRS, Pair, choose_pairs
from stainglass.report.figure_page import template
from stainglass.report.images import data_uri, scale_bar_um
from stainglass.report.panels import figure_text
from stainglass.report.patch_strip import Cell, enlargement, save_strip, stacked, strip
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.stamp import SENTENCE, Stamp

MOST_FAILURES = 12
QUALITY = 92
METRICS = {"macro_f1": "macro-F1", "agreement": "share that agrees", "kappa": "Cohen's kappa"}
COLOURS = {
    name: "rgb({}, {}, {})".format(*PALETTE[i]) for i, name in enumerate((*COMPARTMENTS, "unassigned"))
}


def write_compartments(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str] = (),
    most: int | None = None,
    pairs: int = PAIRS,
    blind: bool = False,
    embed: Embed | None = None,
    noise_seed: int = 0,
    seed: int = 0,
) -> Path:
    """Put every spot into a compartment by expression and by appearance, and show real and generated in pairs.

    Parameters
    ----------
    run
        Folder of the run; ``analysis/compartments`` is written in it.
    settings
        How to paint.
    sections
        Ids; by default the judged part of the run's split.
    most
        At most this many spots a section, spread evenly.
    pairs
        Pairs for each compartment.
    blind
        Write a blinded reading too: ``blind/`` and, apart from it, ``key.csv``.
    embed
        Pictures to features, frozen; EfficientNet-Lite0 by default.
    noise_seed
        Of the painted patches, as `painted_section` keeps them.
    seed
        Of the choice of pairs, their order, redraws and intervals.

    Returns
    -------
    ``index.html``.

    Raises
    ------
    StainglassError
        As `study_compartments`; and when a blinded reading is asked for whose ratings are filled in.
    """
    out = run / "analysis" / "compartments"
    if blind:
        refuse_rated(out / "blind")  # before minutes of painting
    study = study_compartments(
        run, cohort, generator, settings, sections, most, embed, noise_seed=noise_seed, seed=seed
    )
    gallery = _Gallery(study, generator.facts.name, noise_seed, pairs, seed)
    tree = as_json(study.tree())
    for name, table in (("compartments.csv", study.table()), ("failures.csv", gallery.failures())):
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    gallery.write_pictures(out)
    if blind:
        write_blind(study, gallery.by_expression, out / "blind", out / "key.csv", seed)
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(gallery.page(tree), encoding="utf-8")
    write_json(out / "compartments.json", tree)
    return out / "index.html"


def file_stem(compartment: str) -> str:
    """A compartment's name as part of a file's name: ``tumour_epithelium``."""
    return "_".join("".join(c if c.isalnum() else " " for c in compartment).split())


class _Gallery:
    """The pairs of a study, as pictures and as a page."""

    def __init__(self, study: CompartmentStudy, model: str, noise_seed: int, per: int, seed: int) -> None:
        self.study, self.model, self.noise_seed = study, model, noise_seed
        self.by_expression = choose_pairs(study, study.expression, study.expression, per, seed)
        self.by_appearance: dict[str, list[Pair]] = {}
        if study.appearance:
            looks = study.appearance
            self.by_appearance = choose_pairs(study, looks["generated"], looks["real"], per, seed)
        self.worst = [int(i) for i in study.unlike["generated"].worst()[:MOST_FAILURES]]
        self.size = study.patch("real", 0).shape[0]
        self.mpp = study.judged.sections[0].painted.mpp
        self.times = enlargement(self.size)

    def failures(self) -> Any:
        """The study's failures, with the picture of those that are shown."""
        table = self.study.failures()
        table["picture"] = [
            f"failures/{self._failure_name(k)}" if k < len(self.worst) else "" for k in range(len(table))
        ]
        return table.drop(columns="spot")

    @staticmethod
    def _failure_name(k: int) -> str:
        return f"failure_{k + 1:02d}.png"

    def cells(self, pair: Pair) -> list[Cell]:
        """Generated, real of another place, real of the same place."""
        found = [Cell(self.study.patch("generated", pair.spot), "generated", synthetic=True)]
        if pair.other is not None:
            found.append(Cell(self.study.patch("real", pair.other), "real, another place"))
        return [*found, Cell(self.study.patch("real", pair.spot), "real, the same place")]

    def failure_cells(self, i: int) -> list[Cell]:
        """Generated, the real training patch nearest to it, real of the same place."""
        window = self.study.training.windows[int(self.study.unlike["generated"].nearest.at[i])]
        return [
            Cell(self.study.patch("generated", i), "generated", synthetic=True),
            Cell(self.study.nearest_pixels(i), f"nearest real training patch ({window.section})"),
            Cell(self.study.patch("real", i), "real, the same place"),
        ]

    def stamp(self, i: int) -> Stamp:
        """Provenance of the generated patch of a spot."""
        one, row = self.study.place(i)
        y, x = (float(v) for v in self.study.judged.centres_um_yx[i])
        return Stamp(self.model, one.painted.section, (one.barcodes[row],), self.noise_seed, self.mpp, (y, x))

    def write_pictures(self, out: Path) -> None:
        """``pairs/``, ``failures/`` and the thumbnail for the report."""
        mpp = self.mpp / self.times
        first = []
        with atomic_path(out / "pairs") as folder:
            folder.mkdir()
            for grouping, found in (("expression", self.by_expression), ("appearance", self.by_appearance)):
                for name, members in found.items():
                    for k, pair in enumerate(members, start=1):
                        sheet = strip(self.cells(pair), f"{name}, by {grouping}", self.mpp)
                        file = folder / f"{file_stem(name)}_by_{grouping}_{k}.png"
                        save_strip(sheet, file, mpp, self.stamp(pair.spot))
                        if grouping == "expression" and k == 1:
                            first.append((sheet, pair))
        if first:
            sheet = stacked([sheet for sheet, _ in first])
            save_strip(sheet, out / "compartments.png", mpp, self.stamp(first[0][1].spot))
        with atomic_path(out / "failures") as folder:
            folder.mkdir()
            for k, i in enumerate(self.worst):
                sheet = strip(self.failure_cells(i), self._what(i), self.mpp)
                save_strip(sheet, folder / self._failure_name(k), mpp, self.stamp(i))

    def _what(self, i: int) -> str:
        found = "; ".join(self.study.unlike["generated"].found(i))
        return f"{self.study.expression[i] or 'unassigned'}: {found}"

    def page(self, tree: Mapping[str, Any]) -> str:
        """The page: one file, nothing loaded from outside."""
        bar_um = scale_bar_um(self.size * self.mpp * 0.8)
        unlike = self.study.unlike["generated"]
        failures = [
            {"what": self._what(i), "where": self._where(i), "times": figure_text(float(unlike.times[i])),
             "far": UNLIKE in unlike.found(i), "cells": self._tiles(self.failure_cells(i))}
            for i in self.worst
        ]  # fmt: skip
        groups = [
            ("expression", "By expression", self._parts(self.by_expression, self.study.expression, self.study.expression)),
            ("appearance", "By appearance", self._parts(self.by_appearance, *self._looks())),
        ]  # fmt: skip
        return str(
            template("compartments.html.j2").render(
                model=self.model, tree=tree, names=self.study.names, groups=groups, failures=failures,
                failed=len(unlike.worst()), colours=COLOURS, metrics=METRICS, side=self.size * self.times,
                times=self.times, window_um=self.size * self.mpp, bar_um=bar_um,
                bar_px=bar_um / self.mpp * self.times, text=_text, footer=SENTENCE,
            )
        )  # fmt: skip

    def _looks(self) -> tuple[Names, Names]:
        nothing: Names = [None] * len(self.study)
        looks = self.study.appearance
        return looks.get("generated", nothing), looks.get("real", nothing)

    def _parts(
        self, pairs: Mapping[str, Sequence[Pair]], generated: Names, real: Names
    ) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "generated": sum(one == name for one in generated),
                "real": sum(one == name for one in real),
                "rows": [
                    {"cells": self._tiles(self.cells(pair)), "where": self._where(pair.spot)}
                    for pair in members
                ],
            }
            for name, members in pairs.items()
        ]

    def _where(self, i: int) -> str:
        """Which spot, and what its pictures look like."""
        one, row = self.study.place(i)
        looks = [
            f"{which} looks like {names[i]} ({figure_text(float(self.study.confidence[which][i]))})"
            for which, names in self.study.appearance.items()
        ]
        called = f"by expression {self.study.expression[i] or 'unassigned'}"
        return ", ".join([f"{one.painted.section} {one.barcodes[row]}: {called}", *looks])

    def _tiles(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        return [
            {"src": data_uri(Image.fromarray(c.pixels), self.size, QUALITY), "label": c.label, "synthetic": c.synthetic}
            for c in cells
        ]  # fmt: skip


def _text(value: float | None, form: str = ".2f") -> str:
    return figure_text(np.nan if value is None else value, form)


def tell(tree: Mapping[str, Any]) -> None:
    """The main figures on the terminal."""
    for row in tree["figures"]:
        if row["metric"] == "macro_f1" and row["value"] is not None:
            console.print(
                f"  macro-F1 of {row['subject']} against {row['against']} {_text(row['value'])} "
                f"[{_text(row['low'])}, {_text(row['high'])}], by chance {_text(row['chance'])}, {row['n']} spots",
                highlight=False, soft_wrap=True, markup=False,
            )  # fmt: skip
    for row in tree["findings"]:
        console.print(
            f"  {row['finding']}: {row['generated']} generated, {row['real']} real, of {row['n']} each",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
