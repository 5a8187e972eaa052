"""``RUN/analysis/components``: nuclei and regions of real and generated tissue, as clusters, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree
from scipy.stats import pearsonr

from stainglass.analysis.agreement import (
    Interval,
    compared,
    dice,
    kappa,
    matched_dice,
    mean_dice,
    moved,
    rand_index,
)
from stainglass.analysis.block_draws import BlockDraws
from stainglass.analysis.classes import ClassScorer
from stainglass.analysis.classifier import Embed, PictureClassifier
from stainglass.analysis.components import SOURCES, Components
from stainglass.analysis.dividers import ComponentSettings, Divider, fit_divider, refuse_signal
from stainglass.analysis.nuclei import (
    FoundNuclei,
    NucleusFinder,
    detection,
    nuclei_of_patches,
    nuclei_of_section,
)
from stainglass.analysis.overlay import colours_of, draw_nuclei, draw_regions
from stainglass.analysis.polygons import Polygon, feature, full_resolution_mpp, write_geojson
from stainglass.analysis.study import (
    JudgedSection,
    Looker,
    TrainingTissue,
    as_json,
    honesty_notes,
    judged_sections,
    names_of,
    scorer_note,
    teach,
)
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, write_json
from stainglass.genes.classes import UNASSIGNED
from stainglass.genes.normalise import log_normalised
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import console
from stainglass.sections.simulate.truth import load_truth
from stainglass.synthesis.generator import Generator

FORMAT = 1
NUCLEUS_COLOUR = (0, 114, 178)
PAIRS = (("real", "generated"), ("expression", "real"), ("expression", "generated"))


def write_components(
    run: Path,
    cohort: Cohort,
    generator: Generator,
    settings: SamplerSettings,
    sections: Sequence[str] = (),
    most: int | None = None,
    how: ComponentSettings | None = None,
    embed: Embed | None = None,
    noise_seed: int = 0,
) -> Path:
    """Find nuclei and connected regions, classify them as clusters, and compare real and generated tissue.

    Everything that is fitted (threshold of nuclei, scale of markers, readers of pictures) is fitted on real tissue
    of the generator's training sections.

    Parameters
    ----------
    run
        Folder of the run; ``analysis/components`` is written in it, and for a signal other than the classes
        ``analysis/components/SIGNAL``.
    settings
        How to paint.
    sections
        Ids; by default the judged part of the run's split.
    most
        At most this many spots a section, spread evenly; None takes all. Regions are then made of these alone.
    how
        What tissue is divided by.
    embed
        Pictures to features, frozen; EfficientNet-Lite0 by default.
    noise_seed
        Of the painted patches, as `painted_section` keeps them.

    Returns
    -------
    ``components.json``.

    Raises
    ------
    StainglassError
        For an unknown section or signal, a cohort at another µm/px, or training tissue without two classes.
    """
    how = how or ComponentSettings()
    judged = judged_sections(run, cohort, sections)
    refuse_signal(how, cohort)  # before minutes of painting
    looker = Looker(run, embed)
    training = TrainingTissue.of(cohort, generator, judged, looker)
    window_um = generator.facts.window_px * cohort.mpp
    scorer = ClassScorer.fit(training.expressed, seed=how.seed)
    classes = teach(training, names_of(scorer.call(training.expressed, how.seed)), window_um)
    if classes.result is None:
        raise StainglassError(
            "training tissue",
            "; ".join(classes.notes),
            "Train on more sections, or give sections with more counts",
        )
    divider = fit_divider(how, cohort, training, scorer, classes.result.classifier, window_um)
    finder = NucleusFinder.fit(training.sample, cohort.mpp)
    out = run / "analysis" / "components"
    if how.signal != "classes":  # each division in its own folder: none overwrites another's
        out = out / "".join(c if c.isalnum() or c in "-_." else "_" for c in how.signal)
    found = {}
    for name in judged:
        console.print(f"  components of {name}", highlight=False)
        one = JudgedSection.of(run, cohort, name, generator, settings, looker, most, noise_seed)
        found[name] = _Section(
            run, cohort, one, divider, scorer, classes.result.classifier, finder, how, out
        ).write()
    write_json(
        out / "components.json",
        as_json(
            {
                "format": FORMAT,
                "signal": how.signal,
                "groups": divider.names,
                "divided_by": divider.about,
                "classes": scorer_note(scorer),
                "fitted_on": sorted(set(training.sections)),
                "features": looker.name,
                "nucleus_threshold": finder.threshold,
                "sections": found,
                "notes": [*honesty_notes(cohort, generator, judged), *classes.notes],
            }
        ),
    )
    return out / "components.json"


class _Section:
    """One section's components, written file by file."""

    def __init__(
        self,
        run: Path,
        cohort: Cohort,
        one: JudgedSection,
        divider: Divider,
        scorer: ClassScorer,
        classifier: PictureClassifier,
        finder: NucleusFinder,
        how: ComponentSettings,
        out: Path,
    ) -> None:
        self.one, self.divider, self.scorer, self.classifier = one, divider, scorer, classifier
        self.finder, self.how, self.out = finder, how, out
        self.painted = one.painted
        self.written: set[str] = set()
        self.truth = run / "simulated" / cohort.sections[self.painted.section].source_id / "truth"
        self.prepared = cohort.sections[self.painted.section]
        self.mpp_full = full_resolution_mpp(self.prepared)
        self.log = log_normalised(self.painted.counts)
        self.labels = {
            source: [finder.find(picture) for picture in pixels]
            for source, pixels in (("real", self.painted.real), ("generated", self.painted.generated))
        }

    def write(self) -> dict[str, Any]:
        """Find everything in this section; what stands in the JSON."""
        corners = (
            np.array([[w.top_px, w.left_px] for w in self.painted.windows], np.float64) * self.painted.mpp
        )
        nuclei = self._nuclei(corners)
        components = self._components()
        probability = self._probability()
        tables = []
        for source, found in components.items():
            centres = nuclei["generated" if source == "generated" else "real"].table[["y_um", "x_um"]]
            table = found.table(
                self.painted.centres_um_yx,
                probability[source],
                self.scorer.classes,
                centres.to_numpy(np.float64),
                corners,
                self.painted.real.shape[1] * self.painted.mpp,
            )
            self._write_regions(source, found, table)
            mean = found.mean_of(self.log, self.painted.axis.symbols)
            tables.append((source, table, mean))
        self._csv(
            "components",
            pd.concat([t.assign(source=s).set_index("source", append=True) for s, t, _ in tables]),
        )
        self._csv(
            "expression",
            pd.concat([m.assign(source=s).set_index("source", append=True) for s, _, m in tables]),
        )
        self._spots(components, probability)
        draw_regions(
            self._path("regions.png"), self.prepared, self.painted, components,
            f"{self.painted.section}: {self.how.signal}",
        )  # fmt: skip
        draw_nuclei(self._path("nuclei.png"), self.painted, self.finder, f"{self.painted.section}: nuclei")
        return {
            "spots": len(self.painted),
            "full_resolution_mpp": self.mpp_full,
            "components": {source: len(found) for source, found in components.items()},
            "agreement": self._agreement(components),
            "nuclei": self._compare_nuclei(nuclei),
            "files": sorted(self.written),
        }

    def _components(self) -> dict[str, Components]:
        groups = {
            "expression": self.divider.measured(self.painted.windows, self.one.expressed),
            "real": self.divider.read(self.one.features["real"]),
            "generated": self.divider.read(self.one.features["generated"]),
        }
        return {
            source: Components.of(groups[source], self.divider.names, self.painted.centres_um_yx)
            for source in SOURCES
        }

    def _probability(self) -> dict[str, Float64[np.ndarray, "n k"]]:
        """Of the scored classes in every spot, by source; a class pictures were not taught has none there."""
        at = [self.scorer.classes.index(name) for name in self.classifier.classes]
        found = {"expression": self.scorer.call(self.one.expressed, self.how.seed).probability}
        for source in ("real", "generated"):
            found[source] = np.zeros((len(self.painted), len(self.scorer.classes)))
            found[source][:, at] = self.classifier.probabilities(self.one.features[source])
        return found

    def _nuclei(self, corners: Float64[np.ndarray, "n 2"]) -> dict[str, FoundNuclei]:
        pictures = {"real": self.painted.real, "generated": self.painted.generated}
        found = {
            source: nuclei_of_patches(pixels, corners, self.finder, self.labels[source])
            for source, pixels in pictures.items()
        }
        if self.how.whole:
            found["whole"] = nuclei_of_section(self.prepared, self.finder)
        for source, nuclei in found.items():
            label = {"whole": "nuclei_real_whole", "real": "nuclei_real", "generated": "nuclei_generated"}[
                source
            ]
            self._csv(label, nuclei.table.rename_axis("nucleus"))
            write_geojson(
                self._path(f"{label}.geojson"),
                (
                    feature(
                        outline, self.mpp_full, name=f"nucleus {i}", classification="nucleus",
                        colour=NUCLEUS_COLOUR, kind="detection",
                        measurements={"area µm²": area, "haematoxylin": stain},
                    )
                    for i, (area, stain, outline) in enumerate(_of_nuclei(nuclei))
                    if outline
                ),
            )  # fmt: skip
        return found

    def _compare_nuclei(self, nuclei: Mapping[str, FoundNuclei]) -> dict[str, Any]:
        """Real and generated nuclei on the same patches: how many, how large, and whether they go together."""
        painted = self.painted
        labels = self.labels
        count = {
            k: np.array([len(np.unique(one)) - 1 for one in found], np.float64) for k, found in labels.items()
        }
        area_mm2 = painted.real[0, ..., 0].size * (painted.mpp / 1000) ** 2
        moves = moved(painted.centres_um_yx, np.zeros(len(painted), np.int64))
        covered = {k: [one > 0 for one in found] for k, found in labels.items()}

        def overlap(at: Int64[np.ndarray, n]) -> float:
            return dice(np.stack(covered["real"]), np.stack([covered["generated"][i] for i in at]))

        return {
            "against_truth": self._against_truth(nuclei),
            "per_mm2": {k: float(found.mean() / area_mm2) for k, found in count.items()},
            "median_area_um2": {k: _median(found.table["area_um2"]) for k, found in nuclei.items()},
            "found": {k: len(found) for k, found in nuclei.items()},
            "density_r": _r(count["real"], count["generated"]),
            "density_r_chance": _mean([_r(count["real"], count["generated"][at]) for at in moves]),
            # A generator is not told where a nucleus lies: overlap above chance is where tissue is dense.
            "dice_of_pixels": overlap(np.arange(len(painted))),
            "dice_of_pixels_chance": _mean([overlap(at) for at in moves[:5]]),
        }

    def _against_truth(self, nuclei: Mapping[str, FoundNuclei]) -> dict[str, float] | None:
        """On simulated tissue, whole section: every nucleus is known. Density in discs of 100 µm round the spots."""
        if "whole" not in nuclei or not (self.truth / "nuclei.csv").is_file():
            return None
        true = load_truth(self.truth).nuclei[["y_um", "x_um"]].to_numpy(np.float64)
        found = nuclei["whole"].table[["y_um", "x_um"]].to_numpy(np.float64)
        density = [
            np.array(
                [len(near) for near in cKDTree(places).query_ball_point(self.painted.centres_um_yx, 50.0)]
            )
            for places in (found, true)
        ]
        return {**detection(found, true), "density_r": _r(density[0].astype(float), density[1].astype(float))}

    def _agreement(self, components: Mapping[str, Components]) -> list[dict[str, Any]]:
        n = len(self.painted)
        one = np.zeros(n, np.int64)
        draws = BlockDraws.of(self.painted.centres_um_yx, one, np.random.default_rng(self.how.seed))
        moves = moved(self.painted.centres_um_yx, one)
        rows = []
        for a, b in PAIRS:
            x, y = components[a], components[b]
            parts = {
                "ari_groups": (x.groups, y.groups, rand_index),
                "ari_components": (_or_none(x.of_spot), _or_none(y.of_spot), rand_index),
                "dice_groups": (x.groups, y.groups, mean_dice),
                "dice_components": (x.of_spot, y.of_spot, matched_dice),
                "kappa_groups": (x.groups, y.groups, kappa),
            }
            for metric, (p, q, statistic) in parts.items():
                found: Interval = compared(p, q, statistic, draws, moves)
                rows.append({"between": [a, b], "metric": metric, "group": None, **found.record()})
            for k, name in enumerate(x.names):

                def of_group(p: Int64[np.ndarray, m], q: Int64[np.ndarray, m], k: int = k) -> float:
                    return dice(p == k, q == k)

                found = compared(x.groups, y.groups, of_group, draws, moves)
                rows.append({"between": [a, b], "metric": "dice", "group": name, **found.record()})
        return rows

    def _write_regions(self, source: str, found: Components, table: pd.DataFrame) -> None:
        colours = colours_of(found.names)
        shares = [str(key) for key in table.columns if str(key).startswith("share ")]
        measured = ["confidence", "spots", "area_um2", "perimeter_um", "nuclei", *shares]
        features = []
        for number, group, lead, values in zip(
            table.index, table["group"], table["class"], table[measured].to_numpy(np.float64)
        ):
            name = f"component {number} ({source}): {lead}"
            features.append(
                feature(
                    found.outline(int(number)), self.mpp_full, name=name, classification=str(group),
                    colour=colours[str(group)], measurements=dict(zip(measured, values)),
                )
            )  # fmt: skip
        write_geojson(self._path(f"regions_{source}.geojson"), features)

    def _spots(
        self, components: Mapping[str, Components], probability: Mapping[str, Float64[np.ndarray, "n k"]]
    ) -> None:
        table = pd.DataFrame(
            {"y_um": self.painted.centres_um_yx[:, 0], "x_um": self.painted.centres_um_yx[:, 1]},
            index=pd.Index(self.one.barcodes, name="barcode"),
        )
        for source, found in components.items():
            table[f"{source} component"] = found.of_spot
            table[f"{source} group"] = [found.names[g] if g >= 0 else UNASSIGNED for g in found.groups]
            table[f"{source} confidence"] = probability[source].max(axis=1)
        self._csv("spots", table)

    def _csv(self, label: str, table: pd.DataFrame) -> None:
        with atomic_path(self._path(f"{label}.csv")) as temporary:
            table.to_csv(temporary, float_format="%.6g")

    def _path(self, name: str) -> Path:
        path = self.out / f"{self.painted.section}_{name}"
        self.written.add(path.name)
        return path


def _of_nuclei(found: FoundNuclei) -> Iterator[tuple[float, float, tuple[Polygon, ...]]]:
    """Area, haematoxylin and outline of each."""
    yield from zip(
        found.table["area_um2"].to_numpy(np.float64),
        found.table["haematoxylin"].to_numpy(np.float64),
        found.outlines,
    )


def _or_none(components: Int64[np.ndarray, n]) -> Int64[np.ndarray, n]:
    """Components from 0, -1 where a spot has none."""
    return components - 1


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _median(values: pd.Series[float]) -> float:
    return float(values.median()) if len(values) else float("nan")


def _r(a: Float64[np.ndarray, n], b: Float64[np.ndarray, n]) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(pearsonr(a, b).statistic)
