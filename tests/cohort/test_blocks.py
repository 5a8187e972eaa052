"""One patient only: blocks that share neither pixel nor spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_recipe import small_recipe
from stainglass.cohort.blocks import PARTS, Blocks, buffer_for, divide
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.config import Prepare, Split, Windows
from stainglass.errors import StainglassError
from stainglass.sections import read_sections, simulate_cohort
from stainglass.training.crops import Places

WINDOWS = Windows(size_px=64, reach_um=115.0, max_spots=4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of one patient, 900 µm a side."""
    folder = tmp_path_factory.mktemp("alone")
    manifest = simulate_cohort(folder / "simulated", "skin", 1, size_um=900.0, mpp=0.5, seed=3)
    return prepare_cohort(read_sections(manifest), folder / "cohort", Prepare(mpp=1.0)).path


@pytest.fixture
def divided(alone: Path, tmp_path: Path) -> tuple[Cohort, Path]:
    path = shutil.copytree(alone, tmp_path / "cohort")
    cohort = Cohort.open(path)
    prepare_split(cohort, Split(), 0, WINDOWS)
    return cohort, path


def test_no_training_window_shares_a_pixel_or_a_spot_with_a_held_out_one(
    divided: tuple[Cohort, Path],
) -> None:
    cohort, _ = divided
    split = cohort.split()
    assert (len(split.train), len(split.test)) == (1, 1)
    held = np.zeros(cohort.sections[split.test[0]].size_px_yx, bool)
    for window in cohort.patches(split.test, WINDOWS.size_px):
        held[max(window.top_px, 0) : window.top_px + 64, max(window.left_px, 0) : window.left_px + 64] = True
    places, rng = Places(cohort, split.train, WINDOWS.size_px), np.random.default_rng(0)
    for _ in range(500):
        _, w = places.draw(rng, anywhere=True)
        assert not held[max(w.top_px, 0) : w.top_px + 64, max(w.left_px, 0) : w.left_px + 64].any()
    train, test = (set(cohort.sections[name].used_spots.obs_names) for name in (*split.train, *split.test))
    assert train
    assert test
    assert not train & test


def test_a_divided_cohort_is_found_divided_again_and_whole_on_disk(divided: tuple[Cohort, Path]) -> None:
    cohort, path = divided
    again = Cohort.open(path)
    assert list(again.sections) == list(cohort.sections)
    for name, section in again.sections.items():
        assert section.record.used == len(section.used_spots) == len(cohort.sections[name].used_spots)
    told = json.loads((path / "cohort.json").read_text())
    assert [record["id"] for record in told["sections"]] == ["P1"]
    assert prepare_split(again, Split(), 0, WINDOWS) == cohort.split()
    with pytest.raises(StainglassError, match="these windows need"):
        prepare_split(again, Split(), 0, Windows(size_px=256))


def test_named_sections_and_preparing_alone_divide_nothing(alone: Path, tmp_path: Path) -> None:
    path = shutil.copytree(alone, tmp_path / "cohort")
    with pytest.raises(StainglassError, match="one patient only"):
        prepare_split(Cohort.open(path), Split(), 0)
    assert Blocks.read(path) is None


def test_a_section_without_room_is_refused(alone: Path) -> None:
    cohort = Cohort.open(alone)
    centres = {name: section.centres_um_yx() for name, section in cohort.sections.items()}
    with pytest.raises(StainglassError, match="too small for blocks"):
        divide(centres, 0.34, 600.0, alone)


@given(st.integers(0, 10**6), st.floats(0.2, 0.5), st.floats(100, 400))
def test_blocks_lie_a_buffer_apart(seed: int, share: float, window_um: float) -> None:
    rng = np.random.default_rng(seed)
    centres = {"S": rng.uniform(0, (2000, 6000), size=(600, 2))}
    buffer = buffer_for(centres, window_um, 150.0)
    blocks = divide(centres, share, buffer, "here")
    block = blocks.sections["S"]
    train, test = (centres["S"][block.of(part, centres["S"])] for part in PARTS)
    assert block.axis == 1
    assert test[:, 1].min() - train[:, 1].max() >= buffer >= max(window_um, 150.0)
    assert (len(train), len(test)) == (block.train_spots, block.test_spots)
    assert abs(len(test) / 600 - share) < 0.02


def test_a_generator_trains_on_one_block_and_is_judged_on_the_other(
    divided: tuple[Cohort, Path], tmp_path: Path
) -> None:
    from stainglass.cli.judge import judge_run
    from stainglass.training.stages import train_generator

    cohort, _ = divided
    recipe = small_recipe()
    train_generator(cohort, cohort.split(), recipe, tmp_path / "run")
    card = judge_run(tmp_path / "run", Cohort.open(cohort.path), recipe)
    assert card.held_out_sections == ("P1.test",)
    assert "no patient generalisation" in " ".join(card.notes)
