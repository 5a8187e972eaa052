"""The report shows what painted patches are good for: by share of the labels, and group by group."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluation_toy import CLASSES, SETTINGS, FaithfulPainter, ToyJudge, labelled, toy_tissue

from stainglass.evaluation.card import METRICS, TRAINING_SETS, Card
from stainglass.evaluation.evaluate import evaluate
from stainglass.report import words
from stainglass.report.page import write_report
from stainglass.report.table import card_table, columns, short
from stainglass.report.usefulness_table import usefulness_tables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("useful") / "run"
    held, train = labelled(toy_tissue("held", 2, 6, 6)), labelled(toy_tissue("train", 1, sections=2))
    settings = replace(SETTINGS, n=20, bootstrap=20, judges=(ToyJudge(),), usefulness=60, derange_um=200)
    evaluate(held, train, None, FaithfulPainter(), settings, run / "evaluation")
    return run


def test_every_training_set_and_metric_has_words():
    assert tuple(words.TRAINING_SETS) == TRAINING_SETS
    assert set(METRICS) <= set(words.METRICS)


def test_the_tables_hold_the_rows_of_the_card(run):
    card = Card.read(run / "evaluation" / "card.json")
    tables = usefulness_tables(card, card.split)
    assert len(tables.heads) == 6
    assert tables.heads[0] == "Macro-F1, 10% of labels"
    by_title = {line.title: line.cells for line in tables.lines}
    assert len(by_title) == 9  # six training sets, three gains
    for i, share in enumerate((0.1, 0.5, 1.0)):
        row = card.find("usefulness_f1", "both", labels=share)
        assert by_title["real and painted"][i].text == short(row.value)
        row = card.find("usefulness_auroc_gain", "shuffled", labels=share)
        assert by_title["painted, over painted with shuffled genes"][3 + i].text == short(row.value)
    groups = [line.title for line in tables.group_lines]
    assert groups == [
        *(f"class {name}" for name in sorted(CLASSES)),
        "patient held-0",
        "site left",
        "site right",
    ]
    assert len(tables.group_heads) == 9
    assert "one held-out patient" in tables.note


def test_they_stay_out_of_the_cards_own_table(run):
    card = Card.read(run / "evaluation" / "card.json")
    assert not {"augmented", "both", "majority"} & set(columns(card, card.split))
    titles = {line.title for family in card_table(card, card.split) for line in family.lines}
    assert "Macro-F1" not in titles


def test_the_page_shows_them_and_a_page_without_them_does_not(run, tmp_path):
    html = write_report(run).read_text(encoding="utf-8")
    assert "Are painted patches of use?" in html
    assert "real, ordinary augmentation" in html
    assert "site left" in html
    assert "Are painted patches of use?" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_why_there_is_nothing_to_show_is_told(tmp_path):
    held, train = toy_tissue("held", 2, 5, 5), toy_tissue("train", 1, 6, 6)
    settings = replace(SETTINGS, n=20, bootstrap=20, judges=(ToyJudge(),), usefulness=24)
    evaluate(held, train, None, FaithfulPainter(), settings, tmp_path / "evaluation")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "the training tissue shows no classes by markers" in html
