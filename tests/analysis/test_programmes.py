"""Programme scores against the truth of simulated colon, and where genes are lacking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stainglass.analysis.classes import Expressed
from stainglass.analysis.programmes import PROGRAMMES, ProgrammeScorer, programme_genes
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.sections import read_sections, simulate_cohort
from stainglass.sections.simulate.truth import load_truth


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Expressed, Expressed, pd.DataFrame]:
    """Training spots of simulated colon; those of a held-out patient, and what they are."""
    manifest = simulate_cohort(tmp_path_factory.mktemp("colon"), "colon", 3, size_um=1000.0, mpp=1.0, seed=1)
    cohort = prepare_cohort(read_sections(manifest), tmp_path_factory.mktemp("cohort"), Prepare(mpp=2.0))
    *train, held = cohort.sections
    windows = cohort.patches([held], 32)
    centres = np.stack([w.centre_um_yx(2.0) for w in windows])
    truth = load_truth(manifest.parent / held / "truth").at(centres, 55.0)
    return _of(cohort, train), _of(cohort, [held]), truth


def _of(cohort: Cohort, sections: list[str]) -> Expressed:
    return Expressed.of(cohort, cohort.patches(sections, 32))


def test_scores_follow_the_truth_of_a_held_out_patient(spots):
    training, held, truth = spots
    scores = ProgrammeScorer.fit(training).score(held)
    assert list(scores) == list(PROGRAMMES)
    for name, share in {"hypoxia": "hypoxia", "immune": "immune", "stroma": "stroma"}.items():
        r = {other: np.corrcoef(scores[other], truth[share])[0, 1] for other in scores}
        assert r[name] > 0.6, (name, r)
        assert r[name] > max(r[other] for other in r if other != name) + 0.2, (name, r)


def test_zero_is_the_mean_of_the_training_spots(spots):
    training, _, _ = spots
    scores = ProgrammeScorer.fit(training).score(training)
    np.testing.assert_allclose(scores.mean(), 0, atol=1e-9)


def test_the_held_out_spots_do_not_move_the_scale(spots):
    training, held, _ = spots
    scorer = ProgrammeScorer.fit(training)
    half = np.arange(len(held) // 2)
    pd.testing.assert_frame_equal(
        scorer.score(held).iloc[half].reset_index(drop=True), scorer.score(held.take(half))
    )


def test_a_programme_without_genes_is_absent_and_says_so(spots):
    training, _, _ = spots
    columns = [training.axis.position[g] for g in programme_genes("hypoxia") if g in training.axis.position]
    measured = training.measured.copy()
    measured[0, columns] = False
    scorer = ProgrammeScorer.fit(replace(training, measured=measured))
    assert list(scorer.scales) == ["immune", "stroma"]
    assert "0 of its" in scorer.absent["hypoxia"]


def test_a_section_that_lacks_the_genes_scores_nan(spots):
    training, held, _ = spots
    columns = [training.axis.position[g] for g in programme_genes("immune") if g in training.axis.position]
    measured = held.measured.copy()
    measured[:, columns] = False
    scores = ProgrammeScorer.fit(training).score(replace(held, measured=measured))
    assert scores["immune"].isna().all()
    assert scores[["hypoxia", "stroma"]].notna().all(axis=None)


def test_an_unknown_programme_is_refused():
    with pytest.raises(StainglassError, match="hypoxia, immune, stroma"):
        programme_genes("necroptosis")
