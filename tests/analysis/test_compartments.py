"""Compartments from expression against the truth of simulated colon; what is found unlike real tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stainglass.analysis.classes import Called, Expressed
from stainglass.analysis.compartments import COMPARTMENTS, DEAD, CompartmentScorer, true_compartments
from stainglass.analysis.nuclei import NucleusReader
from stainglass.analysis.study import names_of
from stainglass.analysis.unlike import (
    FINDINGS,
    LEAST_PATCHES,
    LIMIT,
    NEIGHBOURS,
    UNLIKE,
    Nearest,
    RealRange,
    Unlike,
    distance_limit,
    measures,
)
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.config import Prepare
from stainglass.evaluation.distances import Neighbourhoods
from stainglass.genes.classes import tissue_classes
from stainglass.sections import read_sections, simulate_cohort
from stainglass.sections.simulate.truth import load_truth


def test_every_class_is_in_one_compartment() -> None:
    members = [one for classes in COMPARTMENTS.values() for one in classes]
    assert sorted(set(members)) == sorted(members)
    assert set(tissue_classes().names) == set(members) - {"HALLMARK_HYPOXIA"}


@pytest.fixture(scope="module")
def colon(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Path]:
    """Three simulated patients; the last is held out."""
    manifest = simulate_cohort(tmp_path_factory.mktemp("colon"), "colon", 3, size_um=1000.0, mpp=1.0, seed=1)
    cohort = prepare_cohort(read_sections(manifest), tmp_path_factory.mktemp("cohort"), Prepare(mpp=2.0))
    return cohort, manifest.parent


class TestExpression:
    @pytest.fixture(scope="class")
    @classmethod
    def called(cls, colon: tuple[Cohort, Path]) -> tuple[Called, list[str | None], np.ndarray]:
        """The held-out patient's spots as called, as they are, and their hypoxia."""
        cohort, folder = colon
        *train, held = cohort.sections
        scorer = CompartmentScorer.fit(Expressed.of(cohort, cohort.patches(train, 32)))
        windows = cohort.patches([held], 32)
        truth, centres = load_truth(folder / held / "truth"), np.stack([w.centre_um_yx(2.0) for w in windows])
        return (
            scorer.call(Expressed.of(cohort, windows)),
            true_compartments(truth, centres, 55.0),
            truth.at(centres, 55.0)["hypoxia"].to_numpy(),
        )

    def test_spots_are_called_what_they_are(
        self, called: tuple[Called, list[str | None], np.ndarray]
    ) -> None:
        names, truth = names_of(called[0]), called[1]
        both = [(a, b) for a, b in zip(names, truth) if a is not None and b is not None]
        assert len(both) > 0.8 * len(truth)
        right = np.mean([a == b for a, b in both])
        moved = np.mean([a == b for (a, _), (_, b) in zip(both, both[len(both) // 2 :] + both)])
        assert right > 0.7  # of all spots, those on a border between compartments too
        assert right > moved + 0.25
        assert set(called[0].classes) == set(COMPARTMENTS)

    def test_hypoxia_is_told_by_its_hallmark(
        self, called: tuple[Called, list[str | None], np.ndarray]
    ) -> None:
        column = called[0].classes.index(DEAD)
        score, hypoxia = called[0].scores[:, column], called[2]
        assert np.corrcoef(score, hypoxia)[0, 1] > 0.8
        assert any(name == DEAD for name in names_of(called[0]))

    def test_shares_of_redraws_add_up(self, called: tuple[Called, list[str | None], np.ndarray]) -> None:
        total = called[0].probability.sum(axis=1)
        assert (total <= 1 + 1e-9).all()
        assert (called[0].probability.max(axis=1)[called[0].label >= 0] > 0.5).all()


def tissue(n: int, seed: int, nuclei: int = 40, side: int = 96) -> np.ndarray:
    """Pink ground with dark round nuclei and a little grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    found = np.empty((n, side, side, 3))
    for i in range(n):
        dark = np.zeros((side, side))
        for cy, cx in rng.uniform(0, side, (int(nuclei * rng.uniform(0.8, 1.2)), 2)):
            dark = np.maximum(dark, np.hypot(y - cy, x - cx) < 4)
        dark = gaussian_filter(dark, 0.7)[..., None]
        found[i] = (1 - dark) * (232, 190, 212) + dark * (88, 58, 140)
        found[i] += rng.normal(0, 2.0 * rng.uniform(0.8, 1.2), found[i].shape)
    return found.clip(0, 255).astype(np.uint8)


class TestUnlike:
    @pytest.fixture(scope="class")
    @classmethod
    def rules(cls) -> tuple[NucleusReader, RealRange]:
        training = tissue(120, seed=1)
        reader = NucleusReader.fit(training, 1.0)
        return reader, RealRange.fit(measures(training, reader), ["stroma"] * 60 + ["immune"] * 60)

    def found(self, rules: tuple[NucleusReader, RealRange], pictures: np.ndarray) -> list[list[str]]:
        reader, ordinary = rules
        near = Nearest(np.zeros(len(pictures)), np.zeros(len(pictures), np.int64))
        unlike = Unlike.of(near, measures(pictures, reader), 1.0, ordinary, [None] * len(pictures))
        return [unlike.found(i) for i in range(len(pictures))]

    def test_ordinary_tissue_is_seldom_found(self, rules: tuple[NucleusReader, RealRange]) -> None:
        flagged = [name for names in self.found(rules, tissue(100, seed=2)) for name in names]
        assert max((flagged.count(name) for name in FINDINGS), default=0) <= 8

    def test_planted_faults_are_named(self, rules: tuple[NucleusReader, RealRange]) -> None:
        good = tissue(3, seed=3).astype(np.float64)
        blurred = gaussian_filter(good, (0, 2.5, 2.5, 0))
        noisy = good + np.random.default_rng(0).normal(0, 25, good.shape)
        lattice = good.copy()
        lattice += 12 * ((np.arange(96) // 8) % 2)[None, None, :, None]
        saturated = good.copy()
        saturated[:, :30, :30] = (255, 0, 200)
        planted = {"blurred": blurred, "noisy": noisy, "8 px lattice": lattice, "saturated colour": saturated,
                   "too few nuclei": tissue(3, seed=4, nuclei=2)}  # fmt: skip
        for name, pictures in planted.items():
            for names in self.found(rules, pictures.clip(0, 255).astype(np.uint8)):
                assert name in names, (name, names)

    def test_a_compartment_has_limits_of_its_own_where_there_is_enough_of_it(self) -> None:
        few, many = tissue(LEAST_PATCHES, 5, nuclei=6), tissue(LEAST_PATCHES, 6, nuclei=60)
        reader = NucleusReader.fit(np.concatenate([few, many]), 1.0)
        found = measures(np.concatenate([few, many]), reader)
        ordinary = RealRange.fit(found, ["adipose"] * LEAST_PATCHES + ["immune"] * LEAST_PATCHES)
        pale = measures(tissue(4, seed=7, nuclei=6), reader)
        column = FINDINGS.index("too few nuclei") - 1
        assert ordinary.beyond(pale, ["immune"] * 4)[:, column].all()
        assert not ordinary.beyond(pale, ["adipose"] * 4)[:, column].any()
        scarce = RealRange.fit(found, ["adipose"] * (LEAST_PATCHES - 1) + [None] * (LEAST_PATCHES + 1))
        assert set(scarce.low) == {None}

    def test_distance_is_held_against_real_held_out_patches(self) -> None:
        rng = np.random.default_rng(0)
        training, real = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
        near = Nearest.of(real, training)
        apart = np.linalg.norm(real[:, None] - training[None], axis=-1)
        within = np.sort(np.linalg.norm(training[:, None] - training[None], axis=-1), axis=1)
        by_hand = apart / within[:, NEIGHBOURS]  # column 0 is the patch itself
        assert near.distance == pytest.approx(by_hand.min(1), rel=1e-6)
        assert near.at.tolist() == by_hand.argmin(1).tolist()
        limit = distance_limit(near)
        assert (near.distance > limit).mean() == pytest.approx(1 - LIMIT, abs=0.005)
        far = real + 6
        ordinary = RealRange.fit(np.zeros((1, 4)), [None])
        unlike = Unlike.of(Nearest.of(far, training), np.zeros((200, 4)), limit, ordinary, [None] * 200)
        assert all(unlike.found(i) == [UNLIKE] for i in range(200))
        assert (np.diff(unlike.nearest.distance[unlike.worst()]) <= 0).all()

    def test_distance_inside_a_ball_is_what_precision_counts(self) -> None:
        rng = np.random.default_rng(1)
        training, painted = rng.normal(size=(200, 6)), rng.normal(0.8, 1, size=(150, 6))
        inside = (Nearest.of(painted, training).distance <= 1).mean()
        assert 0 < inside < 1
        assert inside == pytest.approx(Neighbourhoods.of(training, painted).overlap(k=NEIGHBOURS).precision)

    def test_pictures_near_dense_tissue_are_found_where_a_plain_distance_sees_nothing(self) -> None:
        rng = np.random.default_rng(2)

        def tissue_of_two_kinds(n: int) -> np.ndarray:
            return np.concatenate([rng.normal(0, 0.1, (n, 5)), rng.normal(20, 3, (n, 5))])

        training, real, painted = (
            tissue_of_two_kinds(200),
            tissue_of_two_kinds(100),
            rng.normal(0.5, 0.1, (50, 5)),
        )
        plain = [np.linalg.norm(x[:, None] - training[None], axis=-1).min(1) for x in (real, painted)]
        assert (plain[1] > np.quantile(plain[0], LIMIT)).mean() == 0
        assert (Nearest.of(painted, training).distance > distance_limit(Nearest.of(real, training))).all()

    def test_copies_of_one_picture_reach_nowhere_and_break_nothing(self) -> None:
        training = np.zeros((20, 3))
        assert Nearest.of(training, training).distance.tolist() == [0.0] * 20
        assert np.isfinite(Nearest.of(np.ones((2, 3)), training).distance).all()
        with pytest.raises(ValueError, match="another one"):
            Nearest.of(training, training[:1])
