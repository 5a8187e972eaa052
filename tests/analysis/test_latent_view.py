"""The latent view's numbers: one projection for all, thinning that says what it does, moves that keep their noise."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from signals_toy import as_painted, lively_pipeline, look
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from stainglass.analysis.latent_view import (
    DOSES,
    Projection,
    classes_of,
    denoising_states,
    dose_moves,
    own_and_shuffled,
    shares_of,
    trajectory_moves,
    with_dose,
)
from stainglass.analysis.signals import find_signal
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.noise import window_noise
from stainglass.synthesis.paint import paint_windows

SETTINGS = SamplerSettings(steps=3)


@pytest.fixture(scope="module")
def lively(run_folder: Path) -> TissuePipeline:
    return lively_pipeline(run_folder)


def test_the_projection_is_that_of_the_real_patches_alone() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(40, 12)) * np.arange(1, 13), rng.normal(3, 1, (25, 12))
    projection = Projection.fit(real)
    expected = PCA(3, svd_solver="full").fit_transform(StandardScaler().fit_transform(real))
    np.testing.assert_allclose(projection.apply(real), expected, atol=1e-5)
    together = projection.apply(np.concatenate([generated, real]))
    np.testing.assert_allclose(together[25:], expected, atol=1e-5)  # company changes nothing
    assert projection.axes[0].startswith("PC 1 (")
    with pytest.raises(StainglassError, match="too few"):
        Projection.fit(real[:3])


def test_umap_is_asked_for_politely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(StainglassError, match="umap-learn is not installed") as error:
        Projection.fit(np.random.default_rng(0).normal(size=(20, 5)), "umap")
    assert "stainglass[umap]" in error.value.remedy


def test_thinning_is_in_proportion() -> None:
    assert shares_of([10, 20], 100) == [10, 20]
    assert shares_of([60_000, 20_000, 1], 25_000) == [18_749, 6_249, 1]


@pytest.mark.parametrize("thinning", [0.0, 0.5])
def test_a_dose_changes_its_genes_and_nothing_else(
    thinning: float, cohort: Cohort, lively: TissuePipeline
) -> None:
    facts = lively.facts
    assert facts is not None
    windows = cohort.patches(cohort.split().test, facts.window_px)[:4]
    conditions = cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots)
    doubled = with_dose(conditions, np.array([3, 5]), 2.0)
    others = np.setdiff1d(np.arange(len(facts.axis)), [3, 5])
    np.testing.assert_array_equal(doubled.counts[..., others], conditions.counts[..., others])
    np.testing.assert_array_equal(doubled.counts[..., [3, 5]], 2 * conditions.counts[..., [3, 5]])
    gene = find_signal(max(zip(conditions.counts.sum((0, 1)), facts.gene_symbols))[1], cohort.axis)
    settings = replace(SETTINGS, thinning=thinning)
    moves = dose_moves(lively, cohort, windows, gene, settings, look)
    assert moves.stops == tuple(f"{gene.name} × {dose:g}" for dose in DOSES)
    plain = paint_windows(lively, windows, conditions, 0, settings)
    np.testing.assert_array_equal(moves.pixels[DOSES.index(1.0)], plain)
    assert (moves.pixels[0] != plain).any()
    np.testing.assert_array_equal(moves.features[0], look(moves.pixels[0]))


def test_a_gene_the_generator_does_not_read_has_no_dose(cohort: Cohort, pipeline: TissuePipeline) -> None:
    assert pipeline.facts is not None
    unread = next(s for s, g in zip(cohort.axis.symbols, cohort.axis.ids) if g not in pipeline.facts.gene_ids)
    windows = cohort.patches(cohort.split().test, 64)[:2]
    with pytest.raises(StainglassError, match="not among the genes the generator reads"):
        dose_moves(pipeline, cohort, windows, find_signal(unread, cohort.axis), SETTINGS, look)


@pytest.mark.parametrize("solver", ["euler", "heun", "unipc", "dpmpp"])
def test_the_way_from_noise_ends_where_painting_ends(
    solver: str, cohort: Cohort, lively: TissuePipeline
) -> None:
    facts = lively.facts
    assert facts is not None
    settings = SamplerSettings(solver=solver, steps=4)
    windows = cohort.patches(cohort.split().test, facts.window_px)[:3]
    told = ConditionTensors.of(cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots))
    noise = torch.from_numpy(window_noise(0, windows, len(facts.latent_mean)))
    states, levels = denoising_states(lively, told, noise, settings)
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(1, abs=2e-3)
    assert levels[-1] == 0
    mean, std = (torch.tensor(v)[:, None, None] for v in (facts.latent_mean, facts.latent_std))
    torch.testing.assert_close(states[0], noise * std + mean)
    torch.testing.assert_close(states[-1], lively.sample_latents(told, noise, settings))


@pytest.mark.parametrize("thinning", [0.0, 0.5])
def test_trajectories_show_what_is_painted(thinning: float, cohort: Cohort, lively: TissuePipeline) -> None:
    facts = lively.facts
    assert facts is not None
    windows = cohort.patches(cohort.split().test, facts.window_px)[:5]
    settings = replace(SETTINGS, thinning=thinning)
    moves = trajectory_moves(lively, cohort, windows, settings, look, batch=2)
    conditions = cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots)
    painted = paint_windows(lively, windows, conditions, 0, settings)
    assert np.abs(moves.pixels[-1].astype(int) - painted).max() <= 1
    assert moves.stops[0] == "noise"
    assert moves.stops[-1] == "tissue"
    assert len(moves.stops) == len(moves.pixels) == SETTINGS.steps + 1


def test_the_state_after_a_step_of_two_looks_is_the_mended_one(
    cohort: Cohort, lively: TissuePipeline
) -> None:
    """Heun looks at a level twice, first from a guess, which is Euler's state."""
    facts = lively.facts
    assert facts is not None
    windows = cohort.patches(cohort.split().test, facts.window_px)[:2]
    told = ConditionTensors.of(cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots))
    noise = torch.from_numpy(window_noise(0, windows, len(facts.latent_mean)))
    exact, _ = denoising_states(lively, told, noise, SamplerSettings(solver="euler", steps=256, guidance=1.0))
    found = {
        solver: denoising_states(lively, told, noise, SamplerSettings(solver=solver, steps=4, guidance=1.0))[
            0
        ]
        for solver in ("heun", "euler")
    }
    error = {name: float((states[1] - exact[64]).abs().mean()) for name, states in found.items()}
    assert error["heun"] < 0.9 * error["euler"]


def test_a_spot_without_cell_types_has_no_class(
    cohort: Cohort, pipeline: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = cohort.split()
    painted = [as_painted(cohort, s, pipeline.facts.axis) for s in split.test]  # type: ignore[union-attr]
    types = pd.DataFrame({"a": 0.2, "b": 0.8}, index=range(sum(len(p) for p in painted)))
    types.iloc[0] = 0.0
    monkeypatch.setattr(Cohort, "cell_types", lambda self, windows: types)
    classes, _ = classes_of(cohort, painted, split.train, 64)
    assert classes[:2] == ["unknown", "b"]


def test_a_class_a_spot(cohort: Cohort, pipeline: TissuePipeline) -> None:
    assert pipeline.facts is not None
    split = cohort.split()
    painted = [as_painted(cohort, s, pipeline.facts.axis) for s in split.test]
    classes, about = classes_of(cohort, painted, split.train, 64)
    assert len(classes) == sum(len(p) for p in painted)
    assert about
    assert len(set(classes)) > 1


def test_nearness_to_the_own_spot_has_its_control() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 30))
    own, other = own_and_shuffled(real, real + 0.1 * rng.normal(size=real.shape))
    assert own == pytest.approx(0.1, rel=0.1)
    assert other == pytest.approx(np.sqrt(2), rel=0.1)
    alike = own_and_shuffled(real, rng.normal(size=real.shape))
    assert alike[0] == pytest.approx(alike[1], rel=0.03)
