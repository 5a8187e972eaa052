"""Signals: what a name means, what its values are, and that pictures are read by what training tissue taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from signals_toy import as_painted, look, write_embeddings

from stainglass.analysis.clip_signal import clip_similarity
from stainglass.analysis.read_signals import (
    SignalReader,
    TrainingLook,
    correlation,
    default_signals,
    shuffled_bound,
)
from stainglass.analysis.signals import GeneScale, find_signal, log_levels, measure
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.files import write_json
from stainglass.genes.axis import GeneAxis
from stainglass.genes.gene_sets import gene_sets
from stainglass.genes.normalise import log_normalised


def test_names_on_the_command_line(cohort: Cohort) -> None:
    gene = find_signal("krt5", cohort.axis)
    assert (gene.name, gene.kind, gene.unit) == ("KRT5", "gene", "log1p CP10k")
    assert find_signal(next(iter(gene.weights)), cohort.axis).name == "KRT5"
    hypoxia = find_signal("hallmark_hypoxia", cohort.axis)
    assert hypoxia.kind == "set"
    assert set(hypoxia.weights) <= set(gene_sets()["HALLMARK_HYPOXIA"].weights)
    assert f"{len(hypoxia.weights)} of" in hypoxia.source
    assert find_signal("PROGENy:Hypoxia", cohort.axis).stem == "PROGENy_Hypoxia"
    assert find_signal("CLIP", cohort.axis).kind == "clip"


@pytest.mark.parametrize(
    ("name", "near"),
    [("KRT55", "KRT5"), ("HALLMARK_HYPOXYA", "HALLMARK_HYPOXIA"), ("hypoxia", "PROGENy:Hypoxia")],
)
def test_an_unknown_name_suggests_near_ones(name: str, near: str, cohort: Cohort) -> None:
    with pytest.raises(StainglassError, match="no gene of this cohort") as error:
        find_signal(name, cohort.axis)
    assert near in error.value.remedy


def test_a_gene_is_log_normalised_counts(cohort: Cohort) -> None:
    section = next(iter(cohort.sections.values()))
    dense = log_normalised(np.asarray(section.used_spots.X.toarray(), np.float32))
    barcodes = list(section.used_spots.obs_names)[::-1]
    found = measure(find_signal("KRT5", cohort.axis), section, barcodes, GeneScale({}, {}), None)
    column = section.genes.columns_of(["KRT5"])[0]
    np.testing.assert_allclose(found, dense[::-1, column], rtol=1e-5)


def test_gene_sets_are_weighted_z_scores_of_training_spots(cohort: Cohort) -> None:
    train = list(cohort.split().train)
    hallmark, progeny = (find_signal(n, cohort.axis) for n in ("HALLMARK_HYPOXIA", "PROGENy:p53"))
    scale = GeneScale.fit(cohort, train, [hallmark, progeny])
    sections = [cohort.sections[s] for s in train]
    for signal in (hallmark, progeny):
        genes = list(signal.weights)
        levels = np.concatenate([log_levels(s, genes) for s in sections])
        z = (levels - levels.mean(0)) / np.maximum(levels.std(0), 0.1)
        weights = np.array([signal.weights[g] for g in genes])
        expected = z @ weights / np.abs(weights).sum()
        found = np.concatenate(
            [measure(signal, s, list(s.used_spots.obs_names), scale, None) for s in sections]
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
        assert abs(found.mean()) < 1e-9  # against the training spots themselves


def test_spots_without_counts_are_refused(cohort: Cohort) -> None:
    section = next(iter(cohort.sections.values()))
    emptied = section.used_spots.copy()
    counts = emptied.X.toarray()
    counts[3] = 0
    emptied.X = csr_matrix(counts)
    broken = type(section)(section.path, section.record, section.mpp)
    broken.__dict__["used_spots"] = emptied
    with pytest.raises(StainglassError, match=r"1 of \d+ used spots have no counts") as error:
        measure(find_signal("KRT5", cohort.axis), broken, list(emptied.obs_names), GeneScale({}, {}), None)
    assert "prepare" in error.value.remedy


def test_clip_is_the_cosine_of_the_runs_embeddings(cohort: Cohort, tmp_path: Path) -> None:
    name = next(iter(cohort.sections))
    section = cohort.sections[name]
    path = write_embeddings(tmp_path, cohort, name, list(cohort.axis.ids[:20]))
    stored, barcodes = ad.read_h5ad(path), list(section.used_spots.obs_names)[::-1]
    expected = (stored.obsm["X_clip_image"] * stored.obsm["X_clip_gene"]).sum(1)[::-1]
    np.testing.assert_allclose(clip_similarity(tmp_path, section, barcodes), expected, rtol=1e-6)


def test_embeddings_that_are_missing_or_of_other_genes(cohort: Cohort, tmp_path: Path) -> None:
    name = next(iter(cohort.sections))
    section = cohort.sections[name]
    barcodes = list(section.used_spots.obs_names)
    with pytest.raises(StainglassError, match="no CLIP embeddings"):
        clip_similarity(tmp_path, section, barcodes)
    write_embeddings(tmp_path, cohort, name, [f"ENSMUSG{i:011d}" for i in range(20)])
    with pytest.raises(StainglassError, match="another gene axis"):
        clip_similarity(tmp_path, section, barcodes)
    write_embeddings(tmp_path, cohort, name, list(cohort.axis.ids[:5]))
    write_json(tmp_path / "clip" / "model" / "clip.json", {"gene_ids": list(cohort.axis.ids[5:9])})
    with pytest.raises(StainglassError, match="this run's CLIP reads others"):
        clip_similarity(tmp_path, section, barcodes)
    write_json(tmp_path / "clip" / "model" / "clip.json", {"gene_ids": list(cohort.axis.ids[:5])})
    with pytest.raises(StainglassError, match="1 spots are missing"):
        clip_similarity(tmp_path, section, [*barcodes, "elsewhere"])
    (tmp_path / "embeddings" / f"{name}.h5ad").write_bytes(b"broken")
    with pytest.raises(StainglassError, match="not readable"):
        clip_similarity(tmp_path, section, barcodes)


def test_default_signals_are_chosen_on_training_tissue(cohort: Cohort, pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train = cohort.split().train
    training = TrainingLook.at(cohort, train, 64, look)
    names = default_signals(cohort, training, pipeline.facts.axis, tmp_path)
    assert names[2:] == ["HALLMARK_HYPOXIA"]
    assert set(names[:2]) <= set(pipeline.facts.gene_symbols)
    (tmp_path / "embeddings").mkdir()
    for section in train:
        (tmp_path / "embeddings" / f"{section}.h5ad").touch()
    assert default_signals(cohort, training, pipeline.facts.axis, tmp_path)[-1] == "clip"
    # A section that was not embedded has no such signal.
    shown = cohort.split().test
    assert default_signals(cohort, training, pipeline.facts.axis, tmp_path, shown) == names


def test_a_reader_sees_what_the_pictures_show_and_no_more(cohort: Cohort, pipeline) -> None:  # type: ignore[no-untyped-def]
    split, axis = cohort.split(), pipeline.facts.axis
    training = TrainingLook.at(cohort, split.train, 64, look)
    names = [find_signal(n, cohort.axis) for n in ("COL1A1", "HALLMARK_HYPOXIA")]
    reader = SignalReader.fit(cohort, training, names, look, None)
    own = as_painted(cohort, split.test[0], axis)
    same = reader.read(own)[0]
    np.testing.assert_array_equal(same.real, same.generated)
    assert same.r_real == same.r_generated == pytest.approx(np.corrcoef(same.real, same.measured)[0, 1])
    flat = reader.read(replace(own, generated=np.full_like(own.real, 180)))[0]
    assert flat.r_generated == 0
    assert flat.r_real == same.r_real
    shuffled = np.random.default_rng(0).permutation(len(own))
    other = reader.read(replace(own, generated=own.real[shuffled]))[0]
    np.testing.assert_allclose(other.generated, same.real[shuffled], rtol=1e-6)


def test_the_shuffled_bound_is_that_of_independent_spots() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=400), rng.normal(size=400)
    assert shuffled_bound(a, b) == pytest.approx(1.96 / np.sqrt(400), rel=0.25)
    assert correlation(a, a) == pytest.approx(1)
    assert np.isnan(shuffled_bound(a, np.ones(400)))


def test_a_gene_that_a_section_lacks(cohort: Cohort) -> None:
    section = next(iter(cohort.sections.values()))
    lacking = type(section)(section.path, section.record, section.mpp)
    rest = [i for i, symbol in enumerate(section.genes.symbols) if symbol != "KRT5"]
    lacking.__dict__["spots"] = section.spots[:, rest].copy()
    ids, symbols = section.genes.ids, section.genes.symbols
    lacking.__dict__["genes"] = GeneAxis(tuple(ids[i] for i in rest), tuple(symbols[i] for i in rest))
    with pytest.raises(StainglassError, match="KRT5 was not measured there"):
        measure(
            find_signal("KRT5", cohort.axis),
            lacking,
            list(lacking.used_spots.obs_names),
            GeneScale({}, {}),
            None,
        )
