"""Figures of signals: drawn whole, stamped, with their controls, and never half-written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from signals_toy import as_painted, look

from stainglass.analysis.attribution import Attribution
from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.read_signals import SignalReader, TrainingLook
from stainglass.analysis.signals import find_signal
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.report.composite import attribution_figure, composite_figure, shown_spots
from stainglass.report.figure_folder import write_figures
from stainglass.report.map_figures import SectionPictures, SignalMaps, caption, map_figure
from stainglass.report.panels import Field, colours, figure_text, over, overview, patchwork, robust_scale
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.stamp import SENTENCE, read_stamp

SETTINGS = SamplerSettings(steps=2)


@pytest.fixture(scope="module")
def painted(cohort: Cohort, pipeline: TissuePipeline) -> PaintedSection:
    assert pipeline.facts is not None
    return as_painted(cohort, cohort.split().test[0], pipeline.facts.axis)


@pytest.fixture(scope="module")
def maps(cohort: Cohort, painted: PaintedSection) -> SignalMaps:
    training = TrainingLook.at(cohort, cohort.split().train, 64, look)
    reader = SignalReader.fit(cohort, training, [find_signal("COL1A1", cohort.axis)], look, None)
    return SignalMaps.of(cohort.sections[painted.section], painted, reader.read(painted)[0])


def texts_inside(figure: Figure) -> None:
    """No text reaches beyond the figure, and no two titles lie over one another."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    width, height = figure.bbox.width, figure.bbox.height
    boxes = []
    # Ticks beyond an axis' limits exist but are not drawn.
    ticks = {
        id(label) for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }
    for text in figure.findobj(lambda a: isinstance(a, Text) and a.get_visible() and bool(a.get_text())):
        if id(text) in ticks:
            continue
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1, text.get_text()
        assert box.x1 <= width + 1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.y1 <= height + 1, text.get_text()
        if text.get_fontweight() == "bold" or text.get_fontsize() < 7.7:
            boxes.append((text.get_text(), box))
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            assert not a.overlaps(b), (one, other)


def test_no_text_is_cut_or_overlaps(cohort: Cohort, painted: PaintedSection, maps: SignalMaps) -> None:
    pictures = SectionPictures.of(cohort.sections[painted.section], painted)
    about = caption(maps.read, painted, len(painted) + 5, held_out=False)
    assert "spread evenly" in about
    assert "trained on" in about
    for figure in (
        map_figure(pictures, maps, painted, about),
        composite_figure(pictures, maps, painted, about),
    ):
        texts_inside(figure)
        shown = " ".join(t.get_text() for t in figure.findobj(Text))
        assert "µm" in shown
        assert "synthetic" in shown
        assert "log1p CP10k" in shown
        assert figure_text(maps.read.r_generated) in shown
        assert figure_text(maps.read.shuffled) in shown


def test_attribution_figure(painted: PaintedSection) -> None:
    rng = np.random.default_rng(0)
    present = np.array([True, True, True, False])
    offsets = np.array([[0, 0], [100, 20], [-90, -80], [0, 0]], np.float32)
    found = [
        Attribution(painted.windows[0], painted.real[0], rng.random((4, 8, 8)).astype(np.float32), offsets, present,
                    np.array([0.5, 0.3, 0.2, 0]), rng.normal(size=60), painted.axis.symbols)
        for _ in range(2)
    ]  # fmt: skip
    figure = attribution_figure(painted, found[0], found[1], 0)
    texts_inside(figure)
    words = " ".join(t.get_text() for t in figure.findobj(Text))
    assert "Gradient attribution" in words
    assert found[0].top_genes(1)[0][0] in words
    assert "spot 4" not in words  # an empty slot


def test_rows_are_evenly_spaced() -> None:
    assert shown_spots(50).tolist() == [5, 15, 25, 35, 45]
    assert shown_spots(3).tolist() == [0, 1, 2]


def test_patches_lie_where_they_belong() -> None:
    patches = np.stack([np.full((8, 8, 3), v, np.uint8) for v in (10, 200)])
    canvas = patchwork(patches, np.array([[16.0, 16], [16, 24]]), 2.0, Field((0, 0), (40, 60), 1.0))
    assert (canvas[16:32, 16:26] == 10).all()
    assert (canvas[16:32, 30:40] == 200).all()
    assert (canvas[:16] == 255).all()
    assert (canvas[:, 41:] == 255).all()


def test_maps_over_tissue_keep_their_colour_and_leave_the_rest() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    scale = Normalize(0, 1)
    white = np.full((2, 2, 3), 255, np.uint8)
    tinted = over(white, values, scale)
    plain = colours(values, scale)
    np.testing.assert_allclose(tinted[0].astype(int), plain[0], atol=2)
    assert tinted[1, 0].tolist() == [255, 255, 255]
    dark = over(white // 4, values, scale)
    assert (dark[0] <= tinted[0]).all()
    flat = robust_scale(np.full(5, 2.0))
    assert flat.vmin < 2 < flat.vmax


def test_a_field_holds_tissue_and_spots_and_its_picture_is_the_slide(
    cohort: Cohort, painted: PaintedSection
) -> None:
    section = cohort.sections[painted.section]
    field = Field.of(section, painted.centres_um_yx, 32.0, 200)
    assert max(field.shape) == 200
    at = field.px(painted.centres_um_yx)
    assert (at >= 0).all()
    assert (at <= np.array(field.shape)).all()
    picture = overview(section, field)
    assert picture.shape == (*field.shape, 3)
    # The same place, read at full resolution.
    for i in (0, len(painted) // 2):
        y, x = at[i].astype(int)
        half = max(1, int(16 / field.mpp))
        seen = picture[max(y - half, 0) : y + half, max(x - half, 0) : x + half].mean((0, 1))
        own = painted.real[i, 16:48, 16:48].mean((0, 1))
        assert np.abs(seen - own).max() < 22


@pytest.fixture(scope="module")
def made(
    run_folder: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Cohort, Generator]:
    run = tmp_path_factory.mktemp("figures")
    (run / "generator").symlink_to(run_folder / "generator")
    generator = Generator.from_pretrained(run / "generator")
    page = write_figures(
        run, cohort, generator, SETTINGS, cohort.split().test[:1], ["COL1A1", "PROGENy:TGFb"], 12, look=look
    )
    assert page == run / "analysis" / "figures" / "index.html"
    return run, cohort, generator


def test_every_figure_is_there_in_three_forms_and_stamped(made: tuple[Path, Cohort, Generator]) -> None:
    run, cohort, generator = made
    folder = run / "analysis" / "figures"
    index = json.loads((folder / "figures.json").read_text())
    kinds = [figure["kind"] for figure in index["figures"]]
    assert kinds == ["composite", "map", "composite", "map", "attribution"]
    page = (folder / "index.html").read_text()
    for figure in index["figures"]:
        for name in figure["files"]:
            assert (folder / name).stat().st_size > 1000
        stamp = read_stamp(folder / f"{figure['stem']}.png")
        assert stamp.synthetic
        assert stamp.model == generator.facts.name
        assert stamp.section == cohort.split().test[0]
        svg = (folder / f"{figure['stem']}.svg").read_text()
        assert SENTENCE in svg
        html = (folder / f"{figure['stem']}.html").read_text()
        assert "synthetic" in html
        assert "µm" in html
        assert not re.search(r'(src|href)="(?!data:)', html)  # nothing from outside
        assert figure["stem"] in page
        if figure["kind"] != "attribution":
            assert {"r_real", "r_generated", "shuffled"} <= set(figure)
            assert figure["n"] == 12
    assert not list(folder.glob(".*"))


def test_an_unknown_signal_or_section_writes_nothing(
    made: tuple[Path, Cohort, Generator], tmp_path: Path, run_folder: Path
) -> None:
    _, cohort, generator = made
    test = cohort.split().test[:1]
    wrong: list[tuple[Any, ...]] = [
        (test, ["KRT55"], 12, "KRT5"),
        (["P9"], [], 12, "no section|has no section"),
        (test, ["clip"], 12, "no CLIP embeddings"),
        (test, [], 2, "too few"),
        ([], [], None, "no section to show"),
    ]
    for sections, signals, most, words in wrong:
        with pytest.raises(StainglassError, match=words):
            write_figures(tmp_path, cohort, generator, SETTINGS, sections, signals, most, look=look)
    assert not (tmp_path / "analysis").exists()
