"""Classes of spots: scored from expression, read from pictures, and the figures that say how well."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import f1_score, roc_auc_score

from stainglass.analysis.classes import ClassScorer, Expressed
from stainglass.analysis.classifier import (
    Folds,
    PictureClassifier,
    auroc,
    calibration_error,
    confusion,
    cross_validate,
    macro_f1,
)
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis
from stainglass.genes.classes import tissue_classes
from stainglass.genes.markers import marker_programmes
from stainglass.genes.table import gene_id
from stainglass.sections.simulate.tissues import TISSUES
from stainglass.sections.simulate.truth import load_truth


class TestTable:
    def test_every_class_stands_on_known_programmes_and_genes(self):
        table = tissue_classes()
        for name in table.names:
            assert set(table.programmes[name]) <= set(marker_programmes())
            assert all(gene_id(symbol) is not None for symbol in table.markers(name))
        assert {
            "keratinocyte",
            "fibroblast",
            "immune",
            "melanocyte",
            "endothelial",
            "epithelial",
            "adipose",
        } <= set(table.names)

    def test_every_simulated_class_has_a_name_here_except_dead_tissue(self):
        names = {one.name for classes in TISSUES.values() for one in classes}
        assert names - set(tissue_classes().of_reference) == {"necrosis"}

    def test_an_unknown_class(self):
        with pytest.raises(StainglassError, match="no such class"):
            tissue_classes().markers("neuron")


@pytest.fixture(scope="module")
def training(cohort: Cohort) -> Expressed:
    return Expressed.of(cohort, cohort.patches(cohort.split().train, 64))


@pytest.fixture(scope="module")
def scorer(training: Expressed) -> ClassScorer:
    return ClassScorer.fit(training)


class TestScores:
    def test_only_classes_of_the_tissue_are_found_in_it(self, scorer: ClassScorer):
        assert {"keratinocyte", "fibroblast", "immune", "hair follicle"} <= set(scorer.classes)
        assert "rise and fall together no more" in scorer.absent["adipose"]
        assert "epithelial" in scorer.absent

    def test_held_out_spots_are_called_what_they_are(
        self, scorer: ClassScorer, cohort: Cohort, simulated: Path
    ):
        (name,) = cohort.split().test
        section = cohort.sections[name]
        truth = load_truth(simulated.parent / name / "truth").at(section.centres_um_yx(), 55.0)
        of = tissue_classes().of_reference
        leads = [of[c] for c in truth.drop(columns=["hypoxia", "nuclei"]).idxmax(axis=1)]
        called = scorer.call(Expressed.of(cohort, cohort.patches([name], 64)))
        assert np.mean([a == b for a, b in zip(called.names(), leads)]) > 0.75
        for other, mine in (("dermis", "fibroblast"), ("epidermis", "keratinocyte")):
            score = called.scores[:, called.classes.index(mine)]
            assert np.corrcoef(score, truth[other])[0, 1] > 0.7

    def test_a_spot_without_counts_is_unassigned(self, scorer: ClassScorer, training: Expressed):
        counts = training.counts.tolil()
        counts[0] = 0
        bare = Expressed(
            csr_matrix(counts), training.axis, training.section, training.sections, training.measured
        )
        called = scorer.call(bare)
        assert called.names()[0] == "unassigned"
        assert called.probability[0].sum() == 0
        assert np.isfinite(called.scores).all()

    def test_few_molecules_are_doubted(self, scorer: ClassScorer, training: Expressed):
        few = csr_matrix(
            np.random.default_rng(0).poisson(training.counts.toarray() * 0.004).astype(np.float32)
        )
        thin = Expressed(few, training.axis, training.section, training.sections, training.measured)
        assert (
            scorer.call(thin).probability.max(1).mean()
            < scorer.call(training).probability.max(1).mean() - 0.1
        )

    def test_the_same_counts_are_called_the_same(self, scorer: ClassScorer, training: Expressed):
        one, two = scorer.call(training, seed=1), scorer.call(training, seed=1)
        assert (one.probability == two.probability).all()

    def test_a_class_the_section_did_not_measure_has_no_evidence(
        self, scorer: ClassScorer, training: Expressed
    ):
        columns = [training.axis.columns_of([s]) for s in tissue_classes().markers("immune")]
        measured = training.measured.copy()
        measured[:, np.concatenate(columns)] = False
        other = Expressed(training.counts, training.axis, training.section, training.sections, measured)
        assert (scorer.scores(other)[:, scorer.classes.index("immune")] == 0).all()

    def test_genes_at_random_are_no_class(self, training: Expressed):
        shuffled = training.counts.toarray()
        rng = np.random.default_rng(0)
        for column in range(shuffled.shape[1]):
            rng.shuffle(shuffled[:, column])
        noise = Expressed(
            csr_matrix(shuffled), training.axis, training.section, training.sections, training.measured
        )
        with pytest.raises(StainglassError, match=r"[01] classes can be scored"):
            ClassScorer.fit(noise)

    @pytest.mark.parametrize("place", ["most expressed", "among the others", "least expressed"])
    def test_a_class_of_a_small_panel_is_found(self, place: str):
        """Of 150 genes the neighbours in rank are few: a control set that holds a gene twice, or the class's own, is coherent."""
        rng = np.random.default_rng(1)
        table = tissue_classes()
        planted_sets = {name: list(table.markers(name))[:4] for name in ("immune", "keratinocyte")}
        order = {"most expressed": 200.0, "among the others": 30.0, "least expressed": 4.0}
        rates, symbols, sets = [], [], []
        for k, markers in enumerate(planted_sets.values()):
            for symbol in markers:
                symbols.append(symbol)
                rates.append(order[place] * rng.uniform(0.9, 1.1))
                sets.append(k)
        symbols += [f"OTHER{i}" for i in range(142)]
        rates += list(np.geomspace(5, 100, 142))
        here = rng.gamma(2.0, 0.5, (400, 2))
        level = np.array(rates)[None, :] * np.concatenate([here[:, sets], np.ones((400, 142))], axis=1)
        ids = [gene_id(s) or f"symbol:{s}" for s in symbols]
        training = Expressed(
            csr_matrix(rng.poisson(level).astype(np.float32)),
            GeneAxis(tuple(ids), tuple(symbols)),
            np.zeros(400, np.int64),
            ("s",),
            np.ones((1, 150), bool),
        )
        assert set(ClassScorer.fit(training).classes) == set(planted_sets)

    def test_classes_that_are_asked_for_are_scored_or_refused(self, training: Expressed):
        assert ClassScorer.fit(training, ("fibroblast", "epithelial")).classes == ("fibroblast", "epithelial")
        axis = GeneAxis(("ENSG00000000003", "ENSG00000000005"), ("A", "B"))
        bare = Expressed(
            csr_matrix(np.ones((6, 2), np.float32)),
            axis,
            np.zeros(6, np.int64),
            ("s",),
            np.ones((1, 2), bool),
        )
        with pytest.raises(StainglassError, match="0 of its markers are detected"):
            ClassScorer.fit(bare, ("fibroblast", "immune"))


def planted(n: int = 240, k: int = 3, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    return np.eye(k)[labels] @ rng.normal(size=(k, 20)) * 2 + rng.normal(0, noise, (n, 20)), labels


def patients(n: int, k: int) -> list[str]:
    return [f"P{i % k}" for i in range(n)]


PLACES = np.random.default_rng(1).uniform(0, 2000, (240, 2))
NAMES = ("a", "b", "c")


class TestFolds:
    def test_whole_patients(self):
        folds = Folds.of(patients(240, 7), ["s"] * 240, PLACES, 100.0)
        assert folds.kind == "patients"
        assert len(folds.near) == 5
        for patient in range(7):
            assert len({folds.fold[i] for i in range(240) if i % 7 == patient}) == 1
        assert (folds.near == (folds.fold == np.arange(5)[:, None])).all()

    def test_one_patient_falls_back_to_quarters_with_a_buffer_and_says_so(self):
        folds = Folds.of(["P1"] * 240, ["s"] * 120 + ["t"] * 120, PLACES, 100.0)
        assert folds.kind == "spatial blocks"
        assert "one patient only (P1)" in folds.note
        assert "no patient generalisation" in folds.note
        for number in range(4):
            for section in (slice(0, 120), slice(120, 240)):
                held = PLACES[section][folds.fold[section] == number]
                trains = PLACES[section][~folds.near[number, section]]
                assert np.hypot(*(held[:, None] - trains[None]).T).min() >= 100.0
                assert len(trains) > 40


class TestClassifier:
    def test_a_planted_class_is_read_and_its_doubt_is_right(self):
        features, labels = planted(noise=2.5)
        found = cross_validate(features, labels, NAMES, Folds.of(patients(240, 6), ["s"] * 240, PLACES, 0.0))
        called = found.probability.argmax(1)
        assert macro_f1(labels, called) > 0.6
        assert found.probability.sum(1) == pytest.approx(1.0)
        assert calibration_error(labels, found.probability) < 0.12
        assert found.notes == ()
        assert 0.2 <= found.classifier.temperature <= 5

    def test_shuffled_labels_are_at_chance(self):
        features, labels = planted()
        labels = np.random.default_rng(2).permutation(labels)
        found = cross_validate(features, labels, NAMES, Folds.of(patients(240, 6), ["s"] * 240, PLACES, 0.0))
        assert macro_f1(labels, found.probability.argmax(1)) < 0.45
        assert abs(auroc(labels == 0, found.probability[:, 0]) - 0.5) < 0.12

    def test_a_class_absent_from_a_fold_is_told_and_survived(self):
        features, labels = planted()
        who = np.array(patients(240, 3))
        keep = (labels != 2) | (who == "P0")
        found = cross_validate(
            features[keep],
            labels[keep],
            NAMES,
            Folds.of(who[keep].tolist(), ["s"] * keep.sum(), PLACES[keep], 0.0),
        )
        told = " ".join(found.notes)
        assert "has no c to train on" in told
        assert "has no c to test on" in told
        held = who[keep] == "P0"
        assert (found.probability[held, 2] == 0).all()
        assert found.classifier.probabilities(features[:5]).shape == (5, 3)

    def test_a_fold_of_one_class_predicts_nothing_and_says_so(self):
        features, labels = planted(k=2)
        who = np.where(labels == 0, "P0", "P1")
        found = cross_validate(features, labels, NAMES[:2], Folds.of(who.tolist(), ["s"] * 240, PLACES, 0.0))
        assert np.isnan(found.probability).all()
        assert "predicts nothing" in " ".join(found.notes)

    def test_it_is_deterministic(self):
        features, labels = planted()
        one, two = (PictureClassifier.fit(features, labels, NAMES).probabilities(features) for _ in range(2))
        assert (one == two).all()


class TestFigures:
    def test_against_scikit_learn(self):
        rng = np.random.default_rng(0)
        truth, called, score = rng.integers(0, 4, 100), rng.integers(0, 4, 100), rng.normal(size=100).round(1)
        assert macro_f1(truth, called) == pytest.approx(f1_score(truth, called, average="macro"))
        assert auroc(truth == 1, score) == pytest.approx(roc_auc_score(truth == 1, score))
        expected = pd.crosstab(truth, called).to_numpy()
        assert (confusion(truth, called, 4) == expected).all()

    def test_undefined_is_nan(self):
        assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))
        assert np.isnan(macro_f1(np.zeros(0, int), np.zeros(0, int)))

    def test_calibration_error_of_known_doubt(self):
        probability = np.tile([0.75, 0.25], (100, 1))
        right = np.where(np.arange(100) < 75, 0, 1)
        assert calibration_error(right, probability) == pytest.approx(0.0)
        assert calibration_error(np.zeros(100, int), probability) == pytest.approx(0.25)
