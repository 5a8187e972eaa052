"""Variants beside each other: windows, trainings and noise told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_toy import SETTINGS, BlindPainter, FaithfulPainter, toy_tissue

from stainglass.evaluation.ablation import Ablation
from stainglass.evaluation.card import Card
from stainglass.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Card]]:
    tissues = toy_tissue("held", 2, 7, 7), toy_tissue("train", 1, 8, 8), None
    return {
        name: [evaluate(*tissues, painter, SETTINGS, tmp_path_factory.mktemp("card"))]
        for name, painter in (("faithful", FaithfulPainter()), ("blind", BlindPainter()))
    }


def test_a_faithful_variant_stands_above_a_blind_one(cards: dict[str, list[Card]]) -> None:
    table = Ablation.of("toy", cards)
    found = next(iter(table.figures.values()))
    faithful, blind = (found[name]["gain over shuffled"] for name in ("faithful", "blind"))
    assert faithful.low is not None
    assert blind.high is not None
    assert faithful.low > 0.3 > blind.high
    assert faithful.training_sd is None  # one training tells nothing about the next


def test_noise_seeds_are_kept_and_agree_with_the_mean(cards: dict[str, list[Card]]) -> None:
    for card in (some[0] for some in cards.values()):
        for metric, subject in (
            ("recovery", "generated"),
            ("recovery_gain", "shuffled"),
            ("kid", "generated"),
        ):
            row = card.find(metric, subject)
            assert row is not None
            assert len(row.by_seed) == 2
            assert np.mean(row.by_seed) == pytest.approx(row.value)


def test_spread_between_trainings_is_theirs_alone(cards: dict[str, list[Card]]) -> None:
    both = {"either": [cards["faithful"][0], cards["blind"][0]]}
    figure = next(iter(Ablation.of("toy", both).figures.values()))["either"]["recovery r"]
    values = [some[0].find("recovery", "generated").value for some in cards.values()]
    assert figure.value == pytest.approx(np.mean(values))
    assert figure.training_sd == pytest.approx(np.std(values, ddof=1))
    assert figure.noise_sd is not None
    assert figure.noise_sd < figure.training_sd


def test_cards_of_other_windows_are_not_mixed(cards: dict[str, list[Card]]) -> None:
    other = cards["blind"][0].model_copy(update={"n": 12})
    with pytest.raises(ValueError, match="different windows"):
        Ablation.of("toy", {"a": cards["faithful"], "b": [other]})


def test_the_table_says_how_many_were_tried(cards: dict[str, list[Card]], tmp_path: Path) -> None:
    path = Ablation.of("toy", cards).write(tmp_path)
    text = path.read_text()
    assert text.startswith("2 variants of toy, 1 training each")
    assert text.count("| faithful |") == text.count("| blind |") == 1
    told = json.loads((tmp_path / "ablation.json").read_text())
    found = next(iter(told["figures"].values()))
    assert found["faithful"]["KID"]["noise_sd"] >= 0


def test_the_distance_is_told_in_units_of_training_tissue(cards: dict[str, list[Card]]) -> None:
    card, found = cards["blind"][0], Ablation.of("toy", cards).figures
    assert found
    for judge, variants in found.items():
        painted, train = (card.find("fd", subject, features=judge) for subject in ("generated", "train"))
        assert painted is not None
        assert train is not None
        assert painted.value is not None
        assert train.value is not None
        assert variants["blind"]["FD ratio"].value == pytest.approx(painted.value / train.value)


def test_every_judge_has_a_table_and_one_that_took_part_is_silent(cards: dict[str, list[Card]]) -> None:
    judge = next(iter(Ablation.of("toy", cards).figures))
    card = cards["blind"][0]
    records = tuple(
        record.model_copy(update={"why_absent": "took part in training, so it may not judge"})
        if record.name == judge
        else record
        for record in card.judges
    )
    rows = tuple(row for row in card.rows if row.features != judge)
    silent = card.model_copy(update={"rows": rows, "judges": records})
    assert judge not in Ablation.of("toy", {"blind": [silent]}).figures
    text = Ablation.of("toy", {"faithful": cards["faithful"], "blind": [silent]}).markdown()
    assert f"Judge: {judge}." in text
    line = next(line for line in text.splitlines() if line.startswith("| blind |"))
    assert line.split(" | ")[1] == "–"


def test_variants_with_more_trainings_are_named(cards: dict[str, list[Card]]) -> None:
    twice = {"faithful": cards["faithful"] * 2, "blind": cards["blind"]}
    assert "1 training each (faithful: 2)" in Ablation.of("toy", twice).markdown()


def test_variants_that_were_dropped_are_still_told(cards: dict[str, list[Card]]) -> None:
    text = Ablation.of("toy", cards, ["a bad one"]).markdown()
    assert "Tried before, not shown: a bad one." in text
    assert "not over patients" in text
