"""CLIP on the card: recall against chance, cosines beside their mismatched partners."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_toy import SETTINGS, BlindPainter, FaithfulPainter, picture, programmes, toy_tissue
from hypothesis import given
from hypothesis import strategies as st

from stainglass.evaluation.alignment import (
    CHANCE,
    CLIP,
    COLOUR,
    KS,
    chance_hits,
    recall_hits,
    write_alignment,
)
from stainglass.evaluation.evaluate import evaluate
from stainglass.evaluation.subjects import same_class


class ToyClip:
    """Colour of a picture and programmes of a spot are one space already."""

    def embed_images(self, pixels, groups=None, advance=None):
        return self._unit((pixels.reshape(len(pixels), -1, 3).mean(1) - 150) / 45)

    def embed_genes(self, conditions, groups=None):
        return self._unit(programmes(conditions.counts[:, 0]) - 5.75)

    def _unit(self, x):
        return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)).astype(np.float32)


class ShownPainter(FaithfulPainter):
    """Paints the colour of the picture it is told, where it is told one."""

    def paint(self, windows, conditions, seed):
        if conditions.images is None:
            return super().paint(windows, conditions, seed)
        assert not conditions.present.any()
        return picture(conditions.images + 5.75, [w.spot for w in windows], seed)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    tissues = toy_tissue("held", 2, 7, 7), toy_tissue("train", 1, 8, 8), None
    settings = replace(SETTINGS, tells_images=True)
    return [
        evaluate(*tissues, painter, settings, tmp_path_factory.mktemp("card"), clip=ToyClip())
        for painter in (ShownPainter(), BlindPainter())
    ]


def test_a_faithful_painter_meets_its_genes_and_a_blind_one_does_not(cards):
    faithful, blind = cards
    for metric in ("clip_gene_gap", "clip_real_gap"):
        assert faithful.find(metric, "generated").low > 0.3
        row = blind.find(metric, "generated")
        assert row.low < 0.1 * faithful.find(metric, "generated").value, row
    assert faithful.find("clip_gene_gap", "floor").low > 0.3


def test_no_cosine_stands_without_its_partner_and_their_gap(cards):
    for card in cards:
        rows = {(r.metric, r.subject): r.value for r in card.rows if r.metric.startswith("clip_")}
        assert len(rows) > 30
        for (metric, subject), value in rows.items():
            base = metric.removesuffix("_gap").removesuffix("_mismatched")
            matched, mismatched = rows[base, subject], rows[f"{base}_mismatched", subject]
            assert rows[f"{base}_gap", subject] == pytest.approx(matched - mismatched), (metric, value)


def test_shuffled_pictures_show_neither_their_place_nor_its_partner(cards):
    faithful = cards[0]
    for metric in ("clip_gene", "clip_gene_mismatched", "clip_gene_gap"):
        assert abs(faithful.find(metric, "shuffled").value) < 0.35, metric
    assert faithful.find("clip_gene", "generated").value > 0.6


def test_recall_stands_beside_chance_and_colour(cards):
    card = cards[0]
    for k in KS:
        found = {
            r.features: r.value
            for r in card.rows
            if r.metric == f"recall_at_{k}_image_to_gene" and r.subject == "floor"
        }
        assert set(found) == {CLIP, COLOUR, CHANCE}
        assert found[CHANCE] == pytest.approx(k / card.n)
        assert found[CLIP] > 3 * found[CHANCE]


def test_a_patch_painted_again_from_its_picture_is_a_subject(cards):
    faithful, blind = cards
    assert faithful.find("clip_real_gap", "from_image").low > 0.3
    assert blind.find("clip_real_gap", "from_image").low < 0
    assert faithful.find("ssim", "from_image").n == faithful.n


def test_clip_judges_nothing(cards):
    assert not [
        r for r in cards[0].rows if r.features == CLIP and not r.metric.startswith(("clip_", "recall_at"))
    ]


def test_a_perfect_map_is_always_found_and_noise_as_often_as_chance():
    rng = np.random.default_rng(0)
    keys, groups = rng.normal(size=(240, 8)).astype(np.float32), np.repeat([0, 1], 120)
    perfect = recall_hits(keys, keys, groups, rng)
    assert all(perfect[k].mean() == 1 for k in KS)
    noise = recall_hits(rng.normal(size=(240, 8)).astype(np.float32), keys, groups, rng)
    chance = chance_hits(groups)
    for k in KS:
        assert noise[k].mean() == pytest.approx(chance[k].mean(), abs=0.06)
        assert chance[k].mean() == pytest.approx(k / 100)


@given(st.integers(2, 40), st.integers(0, 10**6))
def test_recall_grows_with_k_and_lies_between_none_and_all(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, keys = rng.normal(size=(2, n, 3)).astype(np.float32)
    hits = recall_hits(queries, keys, np.zeros(n, np.int64), rng)
    assert all((hits[k] >= 0).all() and (hits[k] <= 1).all() for k in KS)
    assert (hits[1] <= hits[5]).all()
    assert (hits[5] <= hits[10]).all()


def test_constant_vectors_win_nothing():
    flat = np.ones((60, 4), np.float32)
    hits = recall_hits(flat, flat, np.zeros(60, np.int64), np.random.default_rng(0))
    assert all(hits[k].sum() == 0 for k in KS)


def test_the_clip_alone_is_examined_before_there_is_a_generator(tmp_path: Path) -> None:
    held_out, train = toy_tissue("held", 2, 7, 7), toy_tissue("train", 1, 8, 8)
    write_alignment(tmp_path / "alignment.json", ToyClip(), held_out, train, "validation", 500.0)
    told = json.loads((tmp_path / "alignment.json").read_text())
    assert told["format"] == 1
    metrics = {row["metric"] for row in told["rows"]}
    assert {"clip_gene", "clip_gene_mismatched", "clip_gene_gap", "recall_at_1_gene_to_image"} <= metrics


def test_same_class_takes_another_window_of_the_class_far_away_where_it_can():
    tissue = toy_tissue("held", 2, 7, 7)
    classes = tuple("ab"[i % 2] for i in range(len(tissue)))
    tissue = replace(tissue, classes=classes)
    at = same_class(tissue, tissue, 500.0, np.random.default_rng(0))
    apart = np.hypot(*(tissue.centres_um_yx[at] - tissue.centres_um_yx).T)
    assert (apart >= 500).all()
    assert [classes[i] for i in at] == list(classes)
    alone = replace(tissue, classes=("only", *("rest" for _ in classes[1:])))
    assert same_class(alone, alone, 500.0, np.random.default_rng(0))[0] != 0
