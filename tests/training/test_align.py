"""Pairs for CLIP, and a run that learns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.models.clip import TissueCLIP
from stainglass.training.align import Pairs, stain_varied
from stainglass.training.clip import train_clip
from stainglass.training.fit import variable_genes
from stainglass.training.stages import train_generator

CLIP = {
    "clip": {"widths": [16, 24], "image_px": 32, "dim": 16},
    "genes": {"genes": 60, "width": 32, "tokens": 2, "input": "set", "top_k": 20},
    "train_clip": {
        "steps": 120,
        "batch": 16,
        "chunk": 8,
        "warmup": 2,
        "log_every": 10,
        "learning_rate": 2e-3,
    },
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe(**CLIP)


def pairs_of(cohort: Cohort, recipe: Recipe) -> Pairs:
    train = cohort.split().train
    axis = variable_genes(cohort, train, recipe.genes.genes)
    return Pairs(cohort, train, axis, recipe.genes, recipe.train_clip, recipe.windows.size_px)


def test_a_batch_is_of_one_section_and_repeats_no_spot(cohort: Cohort, recipe: Recipe) -> None:
    pairs = pairs_of(cohort, recipe)
    for batch in range(4):
        drawn = [pairs._place(batch * 16 + i) for i in range(16)]
        assert len({which for which, _ in drawn}) == 1
        assert len({spot for _, spot in drawn}) == min(16, len(pairs.centres[drawn[0][0]]))


def test_the_same_position_gives_the_same_pair_in_any_order(cohort: Cohort, recipe: Recipe) -> None:
    one, other = pairs_of(cohort, recipe), pairs_of(cohort, recipe)
    forwards = [one.example(i) for i in (0, 17, 5)]
    backwards = [other.example(i) for i in (5, 17, 0)][::-1]
    for a, b in zip(forwards, backwards):
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_varied_stain_keeps_white_and_dark_and_order() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    varied = stain_varied(ramp, 0.3, np.random.default_rng(0))
    assert (varied[0, 255] == 255).all()
    assert (varied[0, 0] == 0).all()
    assert (np.diff(varied[0].astype(int), axis=0) >= 0).all()
    assert (varied != ramp).any()
    assert np.array_equal(stain_varied(ramp, 0.0, np.random.default_rng(0)), ramp)


def test_a_clip_learns_and_is_found_again(cohort: Cohort, recipe: Recipe, tmp_path: Path) -> None:
    split = cohort.split()
    clip = train_clip(cohort, split, recipe, tmp_path)
    assert clip is not None
    assert clip.facts is not None
    assert clip.facts.trained_on == split.train
    windows = cohort.patches(split.train, recipe.windows.size_px)
    facts, sections = clip.facts, np.unique([w.section for w in windows], return_inverse=True)[1]
    images = clip.embed_images(cohort.pixels(windows), sections)
    told = cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots)
    genes = clip.embed_genes(told, sections)
    near = images @ genes.T
    same = np.array([[a.section == b.section for b in windows] for a in windows])
    gap = np.diag(near).mean() - near[same].mean()
    assert gap > 0.1
    before = (tmp_path / "model" / "clip.json").stat().st_mtime_ns
    assert isinstance(train_clip(cohort, split, recipe, tmp_path), TissueCLIP)
    assert (tmp_path / "model" / "clip.json").stat().st_mtime_ns == before


def test_a_frozen_tower_is_looked_through_once(cohort: Cohort, tmp_path: Path) -> None:
    frozen = {"clip": {"tower": "efficientnet-lite0", "dim": 16}}
    loop = {"train_clip": {**CLIP["train_clip"], "steps": 2, "views": 1}}
    recipe = small_recipe(**{**CLIP, **frozen, **loop})
    clip = train_clip(cohort, cohort.split(), recipe, tmp_path)
    assert clip is not None
    assert clip.facts is not None
    assert clip.facts.tower == "EfficientNet-Lite0"
    assert len(list((tmp_path / "features").glob("*.npz"))) == len(cohort.split().train)


@pytest.mark.parametrize("trunk", ["frozen", "fine-tuned"])
def test_the_generator_begins_with_clips_gene_trunk(cohort: Cohort, tmp_path: Path, trunk: str) -> None:
    changes = {
        **CLIP,
        "clip": {**CLIP["clip"], "trunk": trunk},
        "train_clip": {**CLIP["train_clip"], "steps": 2},
        "train_denoiser": {"steps": 3, "batch": 2, "warmup": 1, "log_every": 1, "image_share": 0.4},
    }
    pipeline = train_generator(cohort, cohort.split(), small_recipe(**changes), tmp_path)
    clip = TissueCLIP.load(tmp_path / "clip" / "model")
    own, learned = clip.encoder.state_dict(), pipeline.condnet.encoder.state_dict()
    same = [bool((own[key] == learned[key]).all()) for key in own]
    assert all(same) if trunk == "frozen" else not all(same)
    assert pipeline.condnet.config.image_dim == clip.length
