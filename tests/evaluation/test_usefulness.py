"""Usefulness rows: painted patches teach what real ones would, and only when they were painted from the right genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_toy import CLASSES, SETTINGS, BlindPainter, FaithfulPainter, ToyJudge, labelled, toy_tissue

from stainglass.evaluation.card import TRAINING_SETS, Card
from stainglass.evaluation.evaluate import evaluate
from stainglass.evaluation.tissue import Tissue
from stainglass.evaluation.usefulness import label_draws, lessons, ordinarily_augmented

SETTING = replace(SETTINGS, usefulness=60, judges=(ToyJudge(),), derange_um=200, n=36)


@pytest.fixture(scope="module")
def toys() -> tuple[Tissue, Tissue]:
    held = labelled(toy_tissue("held", 2, 7, 7, sections=2), 2)
    return held, labelled(toy_tissue("train", 1, 8, 8, sections=3), 3)


@pytest.fixture(scope="module")
def card(toys, tmp_path_factory) -> Card:
    return evaluate(*toys, None, FaithfulPainter(), SETTING, tmp_path_factory.mktemp("useful"))


def test_painted_patches_teach_and_shuffled_ones_do_not(card: Card):
    real, painted, shuffled, majority = (
        card.find("usefulness_auroc", name) for name in ("train", "generated", "shuffled", "majority")
    )
    assert painted.low > 0.75
    assert painted.value > real.value - 0.1
    assert abs(shuffled.value - 0.5) < 0.1
    assert majority.value == 0.5
    gain = card.find("usefulness_auroc_gain", "shuffled")
    assert gain.low > 0.1
    assert gain.value == pytest.approx(painted.value - shuffled.value)
    assert card.find("usefulness_f1", "generated").value > card.find("usefulness_f1", "majority").value + 0.2


def test_patches_of_a_painter_that_ignores_genes_teach_nothing(toys, tmp_path):
    card = evaluate(*toys, None, BlindPainter(), replace(SETTING, seeds=(10, 11)), tmp_path)
    assert abs(card.find("usefulness_auroc", "shuffled").value - 0.5) < 0.1
    gain = card.find("usefulness_auroc_gain", "shuffled")
    assert gain.low < 0 < gain.high


def test_every_training_set_at_every_share_and_in_every_group(card: Card):
    mine = [row for row in card.rows if row.metric.startswith("usefulness")]
    for metric in ("usefulness_f1", "usefulness_auroc"):
        for share in (1.0, 0.5, 0.1):
            rows = [r for r in mine if (r.metric, r.labels, r.group) == (metric, share, None)]
            assert tuple(row.subject for row in rows) == TRAINING_SETS
            gains = [r for r in mine if (r.metric, r.labels, r.group) == (f"{metric}_gain", share, None)]
            assert [row.subject for row in gains] == ["train", "augmented", "shuffled"]
            assert all(row.low <= row.value <= row.high or row.n < 36 for row in gains)
        groups = {row.group for row in mine if row.metric == metric} - {None}
        patients = {"patient held-0", "patient held-1"}
        assert groups == {f"class {name}" for name in CLASSES} | patients | {"site left", "site right"}
    whole = card.find("usefulness_f1", "train")
    assert whole.labels == 1
    parts = [card.find("usefulness_f1", "train", group=f"site {side}").n for side in ("left", "right")]
    assert sum(parts) == whole.n
    assert {row.features for row in mine} == {"toy"}
    assert all("logistic regression" in row.on for row in mine)
    assert "as many pictures as" in card.notes[-1]


def test_the_budget_is_stated_and_equal(card: Card):
    taught = {}
    for share in (1.0, 0.5, 0.1):
        both = card.find("usefulness_f1", "both", labels=share)
        augmented = card.find("usefulness_f1", "augmented", labels=share)
        taught[share] = int(both.on.split("trained on ")[1].split()[0])
        assert f"{taught[share]} patches painted" in both.on
        assert f"{taught[share]} real windows and a flipped" in augmented.on
    assert taught[1.0] <= SETTING.usefulness
    assert taught[0.5] == pytest.approx(taught[1.0] / 2, abs=2)
    assert taught[0.1] == pytest.approx(taught[1.0] / 10, abs=2)


def test_shares_of_the_labels_are_counted_within_each_patient():
    patients = ["a"] * 40 + ["b"] * 10 + ["c"] * 3
    for share, counts in ((0.5, (20, 5, 2)), (0.1, (4, 1, 1)), (1.0, (40, 10, 3))):
        draws = label_draws(patients, share, 4, np.random.default_rng(0))
        assert len(draws) == (1 if share == 1 else 4)
        for at in draws:
            assert len(set(at)) == len(at)
            assert tuple(sum(patients[i] == p for i in at) for p in "abc") == counts
    few = label_draws(patients, 0.1, 4, np.random.default_rng(0))
    assert len({tuple(at) for at in few}) == 4


class _Stage:
    """What `lessons` asks of a stage: whose windows are tested."""

    def __init__(self, real: Tissue) -> None:
        self.real = real


def taught(train: Tissue, tested: Tissue, settings=SETTING):
    judge = ToyJudge()
    features = {judge.name: judge.features(train.pixels)}
    return lessons(train, features, [_Stage(tested)], FaithfulPainter(), judge, settings)


def test_no_held_out_patient_is_taught(toys):
    held, train = toys
    shared = replace(held, patients=tuple("train-1" for _ in held.patients))
    given = taught(train, shared)
    assert set(given.patients) == {"train-0", "train-2"}
    assert "trained on another section of patient train-1" in given.why(shared.patients)
    assert taught(train, held).why(held.patients) is None


def test_where_no_other_patient_is_there_the_row_says_so(toys, tmp_path):
    held, train = toys
    one = [replace(tissue, patients=tuple("P" for _ in tissue.patients)) for tissue in (held, train)]
    card = evaluate(*one, None, FaithfulPainter(), replace(SETTING, usefulness=40), tmp_path)
    row = card.find("usefulness_f1", "both")
    assert row.value is not None
    assert "patient P is among those taught" in row.why
    assert "one held-out patient" in row.why


def test_without_classes_the_row_is_empty_and_says_why(toys, tmp_path):
    held, train = (replace(tissue, classes=None) for tissue in toys)
    card = evaluate(held, train, None, FaithfulPainter(), SETTING, tmp_path)
    row = card.find("usefulness_f1", "generated")
    assert row.value is None
    assert "no classes by markers" in row.why


def test_rows_are_absent_unless_asked_for_and_change_no_other_row(toys, card: Card, tmp_path):
    painter = FaithfulPainter()
    without = evaluate(*toys, None, painter, replace(SETTING, usefulness=0), tmp_path)
    assert not any(row.metric.startswith("usefulness") for row in without.rows)
    assert without.rows == tuple(row for row in card.rows if not row.metric.startswith("usefulness"))
    assert {n for n, _ in painter.calls} == {36}


def test_ordinary_augmentation_turns_and_stains_but_keeps_the_tissue(toys):
    pixels = toys[1].pixels[:6]
    varied = ordinarily_augmented(pixels, seed=1)
    assert varied.shape == pixels.shape
    assert varied.dtype == np.uint8
    assert (ordinarily_augmented(pixels, seed=1) == varied).all()
    assert (ordinarily_augmented(pixels, seed=2) != varied).any()
    plain = ordinarily_augmented(pixels, seed=1, deviation=0)
    for before, after in zip(pixels, plain):
        assert np.array_equal(np.sort(before.reshape(-1, 3), axis=0), np.sort(after.reshape(-1, 3), axis=0))
    assert (plain != pixels).any()
