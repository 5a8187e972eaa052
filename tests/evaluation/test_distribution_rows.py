"""Rows of distances between clouds: what is called FID, what is warned of, and large clouds beside small ones."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_toy import SETTINGS, FaithfulPainter, ToyJudge

from stainglass.errors import StainglassError
from stainglass.evaluation import clouds, measure, rows
from stainglass.evaluation.card import METRICS
from stainglass.evaluation.evaluate import evaluate
from stainglass.evaluation.features import Inception2015, build_judges
from stainglass.evaluation.inception import RESIZE
from stainglass.report.words import FAMILIES
from stainglass.report.words import METRICS as WORDS


class NarrowJudge(ToyJudge):
    """Mean and deviation of colour: two features, so that few windows are many."""

    def features(self, pixels, advance=None):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return np.stack([flat.mean(1), flat.std(1)], 1)


class QuickInception(Inception2015, NarrowJudge):
    """Stands where the 2015 network stands, and sees what the narrow judge sees."""

    name = Inception2015.name
    weights = "none"
    features = NarrowJudge.features

    def __init__(self):
        pass


@pytest.fixture(scope="module")
def card(tissues, tmp_path_factory):
    held_out, train, _ = tissues
    judges = (ToyJudge(), NarrowJudge("narrow"), QuickInception())
    settings = replace(SETTINGS, judges=judges, seeds=(0, 1), bootstrap=20, n=24)
    return evaluate(held_out, train, None, FaithfulPainter(), settings, tmp_path_factory.mktemp("three"))


def test_only_the_2015_network_has_a_fid(card):
    of = {row.metric: set() for row in card.rows}
    for row in card.rows:
        of[row.metric].add(row.features)
    assert of["fid"] == of["fid_infinity"] == {"Inception-2015"}
    assert of["fd"] == {"toy", "narrow"}
    assert of["kid"] == {"toy", "narrow", "Inception-2015"}


def test_no_other_network_may_call_itself_the_2015_one():
    with pytest.raises(StainglassError, match="would be called FID"):
        build_judges(replace(SETTINGS, judges=(ToyJudge("Inception-2015"),)))


def test_the_resize_stands_beside_every_figure_of_the_2015_network(card):
    for row in card.rows:
        if row.metric in ("kid", "fid", "fid_infinity", "precision"):
            assert (RESIZE in row.on) == (row.features == "Inception-2015")
    assert [record.sees for record in card.judges] == [None, None, RESIZE]


def test_few_windows_are_warned_of_and_enough_are_extrapolated(card):
    few = card.find("fd", "generated", features="toy")  # 96 features, 24 windows
    assert few.why.endswith("biased upwards at N = 24: read the kernel distance first; FD∞ needs 384 windows")
    assert card.find("fd_infinity", "generated", features="toy") is None
    enough = card.find("fid_infinity", "generated")  # 2 features, 24 windows
    assert enough.value < card.find("fid", "generated").value
    assert "a line through 5 subsets" in enough.why
    assert {row.subject for row in card.rows if row.metric == "fd_infinity" and row.value is not None} >= {
        *("generated", "shuffled", "bulk", "retrieval", "train"),
    }
    # The floor's halves of 24 windows are compared with themselves: next to nothing is left of their distance.
    assert abs(card.find("fid_infinity", "floor").value) < card.find("fid", "mean_image").value / 100


def test_every_metric_has_a_place_in_the_report():
    placed = {metric for *_, metrics in FAMILIES for metric in metrics}
    for metric in ("fd", "fd_infinity", "fid", "fid_infinity"):
        assert metric in METRICS
        assert metric in placed
        assert WORDS[metric].meaning


def test_many_windows_give_the_same_figures_by_blocks(card, tissues, tmp_path, monkeypatch):
    for module in (clouds, measure, rows):
        monkeypatch.setattr(module, "DENSE", 10)
    monkeypatch.setattr(measure, "BLOCK", 7)
    held_out, train, _ = tissues
    settings = replace(SETTINGS, judges=(ToyJudge(),), seeds=(0, 1), bootstrap=20, n=24)
    large = evaluate(held_out, train, None, FaithfulPainter(), settings, tmp_path)
    compared = 0
    for row in large.rows:
        before = card.find(row.metric, row.subject, features=row.features)
        if row.metric in ("kid", "fd", *rows.SHARES) and row.value is not None:
            assert row.value == pytest.approx(before.value, rel=1e-7, abs=1e-9), row
            compared += 1
        if row.metric == "kid" and row.value is not None:
            assert (row.low, row.high) == pytest.approx((before.low, before.high), rel=1e-7)
            assert row.by_seed == pytest.approx(before.by_seed)
        if row.metric in rows.SHARES and row.value is not None and row.subject != "floor":
            assert row.low is None
            assert "no interval beyond N = 10" in row.why
        if row.metric == "recovery":
            assert row == before  # whoever else reads features does not notice that they lie on disk
    assert compared >= 6 * 9
