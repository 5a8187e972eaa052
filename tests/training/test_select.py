from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import encode_pixels, pixels_to_input
from stainglass.models.facts import SELECTS
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.selector import nearest_expression
from stainglass.synthesis.paint import CohortPainter
from stainglass.training.from_finished import selecting_generator
from stainglass.training.select import fit_selector


@pytest.fixture
def generator(run_folder: Path) -> TissuePipeline:
    return TissuePipeline.from_pretrained(run_folder / "generator")


def test_tissue_agrees_with_its_own_expression_better_than_with_another_spots(
    cohort: Cohort, generator: TissuePipeline
) -> None:
    facts, split = generator.facts, cohort.split()
    assert facts is not None
    selector, fitted_on = fit_selector(generator, cohort, split.train)
    assert fitted_on == len(cohort.patches(split.train, facts.window_px))
    generator.register_modules(selector=selector)
    held_out = cohort.patches([*split.validation, *split.test], facts.window_px)
    told = cohort.conditions(held_out, facts.axis, facts.reach_um, facts.max_spots)
    seen = generator.look(
        encode_pixels(generator.autoencoder, pixels_to_input(torch.from_numpy(cohort.pixels(held_out))))
    )
    own = selector(seen, ConditionTensors.of(told))
    turned = [
        selector(seen, ConditionTensors.of(told.take(np.roll(np.arange(len(held_out)), k))))
        for k in (3, 7, 11)
    ]
    assert own.mean() > torch.stack(turned).mean() + 0.2 * torch.stack(turned).std()
    assert (own[None] > torch.stack(turned)).float().mean() > 0.55


def test_sections_whose_expression_is_not_told_teach_it_nothing(
    cohort: Cohort, generator: TissuePipeline, tmp_path: Path
) -> None:
    untold, *told = cohort.split().train
    recipe = small_recipe(sampling={"steps": 3, "candidates": 2}, train_denoiser={"unpaired": [untold]})
    made = selecting_generator(cohort, cohort.split(), recipe, generator, tmp_path)
    assert made.facts is not None
    fitted_on = len(cohort.patches(told, made.facts.window_px))
    assert f"fitted on {fitted_on} training windows" in made.facts.training[SELECTS]


def test_fitting_twice_is_the_same(cohort: Cohort, generator: TissuePipeline) -> None:
    one, other = (fit_selector(generator, cohort, cohort.split().train)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_saved_with_the_generator_told_on_its_card_and_gone_with_one_candidate(
    cohort: Cohort, generator: TissuePipeline, tmp_path: Path
) -> None:
    asked = small_recipe(sampling={"steps": 3, "candidates": 3})
    made = selecting_generator(cohort, cohort.split(), asked, generator, tmp_path / "three")
    assert made.facts is not None
    assert made.facts.sampler == SamplerSettings(steps=3, candidates=3)
    assert "best of 3" in made.facts.training[SELECTS]
    card = (tmp_path / "three" / "generator" / "README.md").read_text()
    assert "selects: the best of 3" in card
    assert "selector: 0.0" in card
    again = TissuePipeline.from_pretrained(tmp_path / "three" / "generator")
    windows = cohort.patches(cohort.split().test, again.facts.window_px)[:5]
    told = cohort.conditions(windows, again.facts.axis, again.facts.reach_um, again.facts.max_spots)
    three, other = (CohortPainter(p, made.facts.sampler).paint(windows, told, 4) for p in (made, again))
    np.testing.assert_array_equal(three, other)
    one = CohortPainter(again, replace(made.facts.sampler, candidates=1)).paint(windows, told, 4)
    plain = CohortPainter(generator, SamplerSettings(steps=3)).paint(windows, told, 4)
    np.testing.assert_array_equal(one, plain)
    changed = (three != one).any((1, 2, 3))
    assert changed.any()
    back = selecting_generator(cohort, cohort.split(), small_recipe(), again, tmp_path / "one")
    assert back.facts is not None
    assert back.selector is None
    assert SELECTS not in back.facts.training
    assert not (tmp_path / "one" / "generator" / "selector").exists()


def test_a_generator_that_is_told_the_mean_has_nothing_to_select_by(
    cohort: Cohort, generator: TissuePipeline
) -> None:
    assert generator.facts is not None
    generator.facts = replace(generator.facts, told="bulk")
    with pytest.raises(StainglassError, match="its section's mean"):
        fit_selector(generator, cohort, cohort.split().train)


def test_a_gene_that_a_section_did_not_measure_says_nothing(
    cohort: Cohort, generator: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, split = generator.facts, cohort.split()
    assert facts is not None
    conditions = Cohort.conditions

    def half_unmeasured(*asked: object, **how: object) -> Conditions:
        found = conditions(*asked, **how)  # type: ignore[arg-type]
        measured = np.ones((len(found), len(facts.axis)), bool)
        measured[: len(found) // 2, 0] = False
        counts = found.counts.copy()
        counts[: len(found) // 2, :, 0] = 1e4  # whatever stands there, it was not measured
        return replace(found, counts=counts, measured=measured)

    monkeypatch.setattr(Cohort, "conditions", half_unmeasured)
    selector, _ = fit_selector(generator, cohort, split.train)
    told = half_unmeasured(
        cohort, cohort.patches(split.train, facts.window_px), facts.axis, facts.reach_um, 4
    )
    later = nearest_expression(ConditionTensors.of(told.take(range(len(told) // 2, len(told)))))
    assert float(selector.usual[0]) == pytest.approx(float(later[:, 0].mean()), rel=1e-3)
