from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evaluation_toy import SETTINGS, BlindPainter, FaithfulPainter, ToyJudge, programmes, toy_tissue

from stainglass.errors import StainglassError
from stainglass.evaluation.card import SUBJECTS, Card
from stainglass.evaluation.evaluate import evaluate
from stainglass.evaluation.tissue import Tissue


def test_a_painter_that_reads_genes_passes_the_gate_on_both_splits(faithful):
    card, _, _ = faithful
    assert [answer.holds for answer in card.answers] == [True, True]
    assert card.answer.low > 0.5
    assert card.find("recovery", "generated").value > 0.7
    assert abs(card.find("recovery", "unconditional").value) < 0.2
    assert abs(card.find("recovery", "bulk").value) < 0.2
    assert card.find("recovery_share", "generated").value > 0.9
    assert card.find("cosine_gain", "shuffled").low > 0


def test_a_painter_that_ignores_genes_fails_it(blind):
    card, _ = blind
    assert card.answer.holds is False
    assert card.answer.value == 0  # same noise, same pictures, whatever is told
    assert abs(card.find("recovery", "generated").value) < 0.3
    assert card.find("ssim_gain", "shuffled").value == 0


def test_every_subject_is_there_at_the_same_n(faithful):
    card, _, _ = faithful
    for metric in ("recovery", "ssim", "cosine", "kid", "fd", "coverage", "copy_rate", "nuclei_density"):
        rows = [row for row in card.rows if row.metric == metric and row.split == card.split]
        there = {row.subject for row in rows if row.features in (None, "toy")}
        assert there == set(SUBJECTS) - {"from_image"}, metric  # a CLIP alone tells pictures
        assert {row.n for row in rows if row.subject != "floor"} == {card.n}
    assert card.n == 36
    assert card.find("kid", "floor").n == 18  # halves, and it says so
    assert "halves of 18" in card.find("kid", "floor").on


def test_undefined_rows_are_null_and_say_why(faithful, blind):
    for card in (faithful[0], blind[0]):
        for row in card.rows:
            assert row.value is not None or row.why, row
            assert (row.low is None) == (row.high is None)
            if row.low is not None:
                assert row.low <= row.high
                assert row.interval
    assert faithful[0].find("lpips", "generated").why == "not available: no LPIPS weights were given"
    assert faithful[0].find("fid", "generated").why == "not available: no weights were given"
    assert blind[0].find("kid", "other_patient").why == "no other patient was given"


def test_controls_are_painted_with_the_noise_of_the_generated_windows(faithful):
    _, _, painter = faithful
    assert {n for n, _ in painter.calls} == {36}
    assert [seed for _, seed in painter.calls] == [0, 1] * 10  # five conditions, two splits


def test_copies_are_caught(faithful):
    card, _, _ = faithful
    assert card.find("copy_rate", "retrieval").value == 1
    assert card.find("copy_rate", "floor").value <= 0.06
    assert card.find("copy_rate", "generated").value < 0.2


def test_the_card_survives_the_disk(faithful):
    card, out, _ = faithful
    assert Card.read(out / "card.json") == card
    assert card.primary_row() == card.find("recovery_gain", "shuffled")
    assert "noise seeds instead of training seeds" in card.notes


def test_a_card_of_another_format_is_refused(faithful, tmp_path):
    _, out, _ = faithful
    text = (out / "card.json").read_text()
    (tmp_path / "card.json").write_text(text.replace('"format": 1', '"format": 99', 1))
    with pytest.raises(StainglassError, match="format 99"):
        Card.read(tmp_path / "card.json")
    (tmp_path / "card.json").write_text(text.replace('"rows"', '"lines"', 1))
    with pytest.raises(StainglassError, match="not a valid card"):
        Card.read(tmp_path / "card.json")


def test_windows_and_pictures_beside_the_card(faithful):
    card, out, _ = faithful
    table = pd.read_parquet(out / "windows.parquet")
    generated = table[(table.subject == "generated") & (table.split == card.split)]
    assert len(generated) == 2 * card.n
    assert set(generated.seed) == {0, 1}
    mean = table[(table.subject == "generated") & (table.split == card.split)].ssim.mean()
    assert mean == pytest.approx(card.find("ssim", "generated").value)
    assert {"section", "barcode", "y_um", "x_um", "lpips", "cosine"} <= set(table.columns)
    with np.load(out / "pictures.npz") as pictures:
        assert pictures["splits"].tolist() == ["validation", "other_patient"]
        for name in ("real", "generated", "shuffled", "bulk", "unconditional", "reconstruction"):
            assert pictures[f"validation/{name}"].shape == (8, 64, 64, 3)
        assert (
            pictures["validation/worst"].shape == pictures["validation/worst_real"].shape == (10, 64, 64, 3)
        )
        assert pictures["validation/uncurated"].shape == (36, 64, 64, 3)
    genes = pd.read_parquet(out / "genes.parquet")
    assert genes.generated.iloc[0] > 0.5


def test_the_same_run_gives_the_same_card(tissues, faithful, tmp_path):
    held_out, train, other = tissues
    assert evaluate(held_out, train, other, FaithfulPainter(), SETTINGS, tmp_path) == faithful[0]


def test_training_windows_may_not_be_judged(tissues, tmp_path):
    _, train, _ = tissues
    with pytest.raises(StainglassError, match="training windows too"):
        evaluate(train, train, None, FaithfulPainter(), SETTINGS, tmp_path)


def test_a_judge_that_took_part_in_training_does_not_judge(tissues, tmp_path):
    held_out, train, _ = tissues
    with pytest.raises(StainglassError, match="no judge is left"):
        evaluate(
            held_out,
            train,
            None,
            FaithfulPainter(),
            replace(SETTINGS, took_part_in_training=("toy",)),
            tmp_path,
        )
    second = ToyJudge(name="second")
    settings = replace(
        SETTINGS, judges=(ToyJudge(), second), took_part_in_training=("toy",), n=16, bootstrap=10
    )
    card = evaluate(held_out, train, None, FaithfulPainter(), settings, tmp_path)
    assert {row.features for row in card.rows if row.metric == "recovery"} == {"second"}
    assert card.judges[0].took_part_in_training


def test_small_tissue_keeps_a_shorter_distance_and_says_so(tissues, tmp_path):
    _, train, _ = tissues
    small = toy_tissue("small", 5, 3, 4)
    card = evaluate(small, train, None, FaithfulPainter(), replace(SETTINGS, derange_um=5000), tmp_path)
    assert any("too small to shuffle" in note for note in card.notes)
    assert any("all have 12" in note for note in card.notes)
    with pytest.raises(StainglassError, match="only 4 windows"):
        evaluate(toy_tissue("tiny", 6, 2, 2), train, None, FaithfulPainter(), SETTINGS, tmp_path)


def test_tissues_on_different_axes_are_refused(tissues, tmp_path):
    held_out, train, _ = tissues
    foreign = replace(held_out, symbols=tuple(f"X{s}" for s in held_out.symbols))
    with pytest.raises(StainglassError, match="in that order"):
        evaluate(foreign, train, None, FaithfulPainter(), SETTINGS, tmp_path)


def test_cell_types_are_read_back_when_known(tissues, tmp_path):
    held_out, train, _ = tissues

    def with_types(tissue: Tissue) -> Tissue:
        share = tissue.counts[:, :10].sum(1) / tissue.counts.sum(1)
        return replace(tissue, cell_types=pd.DataFrame({"tumour": share, "stroma": 1 - share}))

    settings = replace(SETTINGS, n=24, bootstrap=20, seeds=(0,))
    card = evaluate(with_types(held_out), with_types(train), None, FaithfulPainter(), settings, tmp_path)
    assert card.find("cell_types", "generated").value > 0.5
    assert card.find("cell_types_gain", "shuffled").low > 0


def test_programmes_are_read_back_when_the_painter_heard_the_genes(tissues, tmp_path):
    held_out, train, _ = tissues

    def scored(tissue: Tissue) -> Tissue:
        levels = programmes(tissue.counts)
        return replace(tissue, programmes=pd.DataFrame(levels, columns=["hypoxia", "immune", "stroma"]))

    settings = replace(SETTINGS, n=24, bootstrap=20, seeds=(0,))
    tissue = scored(held_out), scored(train), None
    heard = evaluate(*tissue, FaithfulPainter(), settings, tmp_path / "heard")
    deaf = evaluate(*tissue, BlindPainter(), settings, tmp_path / "deaf")
    for name in ("hypoxia", "immune", "stroma"):
        assert heard.find(name, "floor").value > 0.5
        assert heard.find(f"{name}_gain", "shuffled").low > 0
        assert heard.find(f"{name}_gain", "bulk").low > 0
        assert not deaf.find(f"{name}_gain", "shuffled").low > 0
    assert heard.find("hypoxia", "train").why == "the regressor was fitted on this tissue"


def test_genes_of_another_patient_paint_another_picture(tissues, faithful):
    card, out, _ = faithful
    gain = card.find("recovery_gain", "other_patient_genes")
    assert gain.low > 0
    assert card.find("recovery_gain", "other_patient_genes", "other_patient").low > 0
    alone = evaluate(
        tissues[0], tissues[1], None, FaithfulPainter(), replace(SETTINGS, seeds=(0,)), out / "alone"
    )
    absent = alone.find("kid", "other_patient_genes")
    assert absent.value is None
    assert "no other patient" in absent.why


def test_more_windows_than_readers_are_fitted_on_can_be_judged(tmp_path):
    """The cap on training windows is for fitting and neighbours, not for training tissue as a subject."""
    settings = replace(SETTINGS, n=24, bootstrap=20, seeds=(0,), train_max=16)
    train, held_out = toy_tissue("train", 0), toy_tissue("test", 1)
    card = evaluate(held_out, train, None, FaithfulPainter(), settings, tmp_path)
    assert card.n == 24
    assert card.find("kid", "train").n == 24
