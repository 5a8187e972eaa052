"""What many tests stand on: a small simulated cohort, and a generator trained on it for a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.config import Prepare
from stainglass.models.pipeline import TissuePipeline
from stainglass.sections import read_sections, simulate_cohort
from stainglass.training.stages import train_generator

SHARED = Path(__file__).parents[1].parent / "shared"
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def empty_torch_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights that lie on this machine by chance judge in no test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("torch")
        patch.setenv("TORCH_HOME", str(folder))
        yield folder / "hub" / "checkpoints"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared")
    return SHARED


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of three simulated patients, 500 µm a side."""
    return simulate_cohort(tmp_path_factory.mktemp("simulated"), "skin", 3, size_um=500.0, mpp=0.5, seed=3)


@pytest.fixture(scope="session")
def cohort(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The three patients at 1 µm/px, split by patient."""
    prepared = prepare_cohort(read_sections(simulated), tmp_path_factory.mktemp("cohort"), Prepare(mpp=1.0))
    prepare_split(prepared, small_recipe().split, seed=0)
    return prepared


@pytest.fixture(scope="session")
def run_folder(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose generator was trained for four steps: real in every part, good at nothing."""
    folder = tmp_path_factory.mktemp("run")
    train_generator(cohort, cohort.split(), small_recipe(), folder, "Simulated.")
    return folder


@pytest.fixture(scope="session")
def pipeline(run_folder: Path) -> TissuePipeline:
    """That generator, loaded."""
    return TissuePipeline.from_pretrained(run_folder / "generator")
