from dataclasses import replace
from pathlib import Path

import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import encode_pixels
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.from_finished import (
    SHARPENED,
    refuse_other_tissue,
    require_sharpening,
    sharpened_generator,
)


def recipe(**changes: object) -> Recipe:
    loop = {"steps": 5, "sharpen_steps": 2, "batch": 2, "crop_px": 64, "warmup": 1, "texture": 0.3}
    return small_recipe(train_autoencoder={**loop, **changes})


def test_a_sharper_decoder_leaves_everything_else(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    before = TissuePipeline.from_pretrained(run_folder / "generator")
    found = TissuePipeline.from_pretrained(run_folder / "generator")
    after = sharpened_generator(cohort, cohort.split(), recipe(), "before", found, tmp_path)
    for name in ("condnet", "denoiser"):
        old, new = getattr(before, name).state_dict(), getattr(after, name).state_dict()
        assert all(torch.equal(old[key], new[key]) for key in old)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = encode_pixels(before.autoencoder, pixels)
    assert torch.equal(latents, encode_pixels(after.autoencoder, pixels))
    decoded = [p.autoencoder.decode(latents).sample for p in (before, after)]
    assert not torch.allclose(*decoded, atol=1e-4)
    assert before.facts is not None
    assert after.facts is not None
    told = {key: after.facts.training.get(key) for key in before.facts.training}
    assert told == before.facts.training
    assert after.facts.training[SHARPENED].startswith("2 steps of 2 crops; ")
    assert after.facts.sampling == before.facts.sampling


def test_a_share_of_the_decoder_stays_as_it_was(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    weights = []
    for stay in (None, 0.0, 0.75):
        found = TissuePipeline.from_pretrained(run_folder / "generator")
        if stay is not None:
            asked = recipe(stay=stay)
            found = sharpened_generator(cohort, cohort.split(), asked, "before", found, tmp_path / str(stay))
        weights.append(found.autoencoder.decoder.state_dict())
    before, after, mixed = weights
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name in before:
        expected = 0.75 * before[name] + 0.25 * after[name]
        torch.testing.assert_close(mixed[name], expected, atol=2e-3, rtol=2e-3)  # half precision


def test_what_cannot_be_sharpened_is_refused(cohort: Cohort, run_folder: Path) -> None:
    generator, split = TissuePipeline.from_pretrained(run_folder / "generator"), cohort.split()
    with pytest.raises(StainglassError, match="sharpen_steps is 0"):
        require_sharpening(generator, recipe(sharpen_steps=0))
    with pytest.raises(StainglassError, match="training sections"):
        refuse_other_tissue(generator, cohort, replace(split, train=split.test, test=split.train))
    asked = recipe(stay=0.5)
    wider = asked.autoencoder.model_copy(update={"decoder_widths": (8, 24)})
    with pytest.raises(StainglassError, match="another shape"):
        require_sharpening(generator, asked.model_copy(update={"autoencoder": wider}))
    assert generator.facts is not None
    generator.facts = replace(generator.facts, mpp=2 * cohort.mpp)
    with pytest.raises(StainglassError, match="µm/px"):
        refuse_other_tissue(generator, cohort, split)
