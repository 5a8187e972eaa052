"""Attribution: gradients that can be checked against differences, and vanish where there is nothing to attribute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from signals_toy import lively_pipeline
from torch.nn.attention import SDPBackend, sdpa_kernel

from stainglass.analysis.attribution import _Mind, attribute
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.noise import window_noise
from stainglass.synthesis.paint import paint_windows

SETTINGS = SamplerSettings(steps=2)


@pytest.fixture(scope="module")
def lively(run_folder: Path) -> TissuePipeline:
    return lively_pipeline(run_folder)


@pytest.fixture
def patch(lively: TissuePipeline, cohort: Cohort) -> tuple[Window, Conditions]:
    facts = lively.facts
    assert facts is not None
    windows = cohort.patches(cohort.split().test, facts.window_px)
    told = cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots)
    at = int(np.argmax(told.present.sum(1)))
    return windows[at], told.take([at])


def test_every_spot_has_a_map_and_shares_sum_to_one(
    lively: TissuePipeline, patch: tuple[Window, Conditions]
) -> None:
    found = attribute(lively, *patch, SETTINGS)
    assert found.spots.shape[1:] == (8, 8)
    assert found.share.sum() == pytest.approx(1)
    assert (found.spots[patch[1].present[0]].max((1, 2)) > 0).all()
    assert len(found.top_genes(5)) == 5
    assert np.abs(found.genes).max() > 0
    assert found.picture.shape == (64, 64, 3)


def test_what_is_attributed_is_what_was_painted(
    lively: TissuePipeline, patch: tuple[Window, Conditions]
) -> None:
    less = replace(SETTINGS, thinning=0.9)
    window, told = patch
    found = attribute(lively, window, told, less)
    np.testing.assert_array_equal(found.picture, paint_windows(lively, [window], told, 0, less)[0])
    assert (found.picture != attribute(lively, window, told, SETTINGS).picture).any()


def test_a_spot_that_is_masked_out_gets_nothing(
    lively: TissuePipeline, patch: tuple[Window, Conditions]
) -> None:
    window, told = patch
    present = told.present.copy()
    present[0, 1] = False
    found = attribute(lively, window, replace(told, present=present), SETTINGS)
    assert found.spots[1].max() == 0
    assert found.share[1] == 0
    # What stands in the masked slot changes nothing at all.
    counts = told.counts.copy()
    counts[0, 1] *= 7
    again = attribute(lively, window, replace(told, present=present, counts=counts), SETTINGS)
    np.testing.assert_allclose(again.spots, found.spots, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(again.genes, found.genes, rtol=1e-4, atol=1e-7)


def test_another_condition_has_another_attribution(
    lively: TissuePipeline, patch: tuple[Window, Conditions], cohort: Cohort
) -> None:
    window, told = patch
    facts = lively.facts
    assert facts is not None
    windows = cohort.patches(cohort.split().test, facts.window_px)
    other = cohort.conditions(windows[:1], facts.axis, facts.reach_um, facts.max_spots)
    mine, theirs = attribute(lively, window, told, SETTINGS), attribute(lively, window, other, SETTINGS)
    assert not np.allclose(mine.genes, theirs.genes)
    assert not np.allclose(mine.spots, theirs.spots)


def test_maps_and_genes_are_the_derivatives_they_claim(
    lively: TissuePipeline, patch: tuple[Window, Conditions]
) -> None:
    window, conditions = patch
    told = ConditionTensors.of(conditions)
    facts = lively.facts
    assert facts is not None
    noise = torch.from_numpy(window_noise(0, [window], len(facts.latent_mean)))
    mind = _Mind(lively, lively.sample_latents(told, noise, SETTINGS), noise)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        scaled = mind._by_spot(told)
        size, step = torch.ones(told.present.shape[1]), 1e-2
        more, less = size.clone(), size.clone()
        more[0] += step
        less[0] -= step
        difference = (mind.brightness(scaled(more), 0.6) - mind.brightness(scaled(less), 0.6)) / (2 * step)
    with sdpa_kernel(SDPBackend.MATH):
        maps = mind.spot_maps(told, 0.6)
        genes = mind.gene_scores(told, 0.6)
    np.testing.assert_allclose(maps[0], difference.abs().numpy(), rtol=0.02, atol=1e-3 * maps[0].max() + 1e-5)
    # All standardised genes a little larger at once: the sum of their scores.
    inner = lively.condnet.encoder.input
    seen = {}

    def grown(by: float) -> float:
        hook = inner.register_forward_pre_hook(lambda _, args: ((1 + by) * args[0], *args[1:]))
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                seen[by] = float(mind.brightness(lively.condnet(told), 0.6).mean())
        finally:
            hook.remove()
        return seen[by]

    assert genes.sum() == pytest.approx(-(grown(0.01) - grown(-0.01)) / 0.02, rel=0.05, abs=1e-4)


def test_a_patch_that_is_told_nothing_is_refused(
    lively: TissuePipeline, patch: tuple[Window, Conditions]
) -> None:
    window, told = patch
    with pytest.raises(StainglassError, match="no spot in reach"):
        attribute(lively, window, told.null(), SETTINGS)
