"""Do the genes drive the picture? On simulated tissue the truth is known, so the answer can be held against it.

A small generator is trained on three simulated patients and paints a fourth, with the same noise under
every condition. What it paints must follow the tissue whose genes it was given, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from stainglass.analysis.nuclei import NucleusReader
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.prepare import prepare_cohort
from stainglass.cohort.prepare_split import prepare_split
from stainglass.cohort.windows import Conditions, Window
from stainglass.config import Prepare, Recipe
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.recipe_files import recipe_from_tree
from stainglass.sections import read_sections, simulate_cohort
from stainglass.sections.simulate.truth import Truth, load_truth
from stainglass.synthesis.paint import paint_windows
from stainglass.training.stages import train_generator

pytestmark = pytest.mark.slow

HELD_OUT = "P4"
WINDOW_PX, MPP = 64, 1.0
SETTINGS = SamplerSettings(steps=6, guidance=2.0)
LOOKS = ("nuclei_per_mm2", "nuclei_area", "blueness")
DRAWS = 500
GATE = 0.15
"""Lower bound of the gain in r from which genes are said to drive the picture."""
FAR, FARTHER = 1 / 3, 1 / 2
"""Shares of the section's windows by which genes are moved on; neighbours are alike, these are not."""


def recipe() -> Recipe:
    """Small enough for a minute on one core, large enough to learn what a class looks like."""
    quiet = {"preview_every": 1000, "checkpoint_every": 1000}
    tree = {
        "name": "gene control",
        "prepare": {"mpp": MPP},
        "split": {"train": ["P1", "P2", "P3"], "test": [HELD_OUT]},
        "windows": {"size_px": WINDOW_PX, "reach_um": 115.0, "max_spots": 4},
        "genes": {"genes": 150, "width": 64, "tokens": 2},
        "autoencoder": {"widths": [16, 32], "blocks": [1, 1]},
        "denoiser": {"widths": [32, 64], "heads_of": 16},
        "train_autoencoder": {"steps": 40, "batch": 8, "crop_px": 64, "warmup": 5, "learning_rate": 2e-3, **quiet},
        "train_denoiser": {
            "steps": 220, "batch": 8, "warmup": 20, "learning_rate": 2e-3, "ema_half_life": 40, **quiet,
        },
    }  # fmt: skip
    return recipe_from_tree(tree, Path("gene control"))


@dataclass(frozen=True)
class Bench:
    """A trained generator, the held-out patient's windows, what they are told, and the truth of them."""

    pipeline: TissuePipeline
    cohort: Cohort
    windows: list[Window]
    own: Conditions
    tissue: pd.DataFrame
    density: NDArray[np.float64]
    reader: NucleusReader

    def looks(self, told: Conditions, seed: int = 0) -> pd.DataFrame:
        """Paint every window so told, and measure the pictures."""
        return looks_of(paint_windows(self.pipeline, self.windows, told, seed, SETTINGS), self.reader)

    def elsewhere(self, share: float) -> NDArray[np.int64]:
        """Another window for each: that share of the section farther on; nobody keeps its own."""
        n = len(self.windows)
        return (np.arange(n) + round(n * share)) % n


def looks_of(pixels: NDArray[np.uint8], reader: NucleusReader) -> pd.DataFrame:
    """Nuclei per mm² and by area, and how much of the optical density is in the red: blue haematoxylin
    takes red light away, eosin does not."""
    density = -np.log10((pixels.astype(np.float64) + 1) / 256).mean(axis=(1, 2))
    nuclei = reader.read(pixels)
    return pd.DataFrame(
        {
            "nuclei_per_mm2": nuclei[:, 0],
            "nuclei_area": nuclei[:, 1],
            "blueness": density[:, 0] / density.sum(1),
        }
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Simulate, prepare, train, and link the held-out windows with their truth."""
    folder, plan = tmp_path_factory.mktemp("gene_control"), recipe()
    manifest = simulate_cohort(folder / "simulated", "skin", 4, size_um=600.0, mpp=MPP, seed=1)
    cohort = prepare_cohort(read_sections(manifest), folder / "cohort", Prepare(mpp=MPP))
    split = prepare_split(cohort, plan.split, plan.seed)
    pipeline = train_generator(cohort, split, plan, folder / "run")
    assert pipeline.facts is not None
    windows = cohort.patches([HELD_OUT], WINDOW_PX)
    own = cohort.conditions(windows, pipeline.facts.axis, pipeline.facts.reach_um, pipeline.facts.max_spots)
    truth: Truth = load_truth(folder / "simulated" / HELD_OUT / "truth")
    tissue = truth.at(np.stack([w.centre_um_yx(MPP) for w in windows]), WINDOW_PX * MPP)
    # The threshold of a nucleus comes from training tissue: nothing is fitted on the held-out patient.
    reader = NucleusReader.fit(cohort.pixels(cohort.patches(split.train, WINDOW_PX)), MPP)
    return Bench(pipeline, cohort, windows, own, tissue, truth.density_per_mm2(tissue), reader)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson; zero where one of them does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def paired_gain(
    one: NDArray[np.float64], other: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[float, float, float]:
    """How much better ``one`` follows the truth than ``other``, with a 95 % interval by resampling windows."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(truth), len(truth)) for _ in range(DRAWS)]
    gains = [correlation(one[at], truth[at]) - correlation(other[at], truth[at]) for at in draws]
    low, high = np.quantile(gains, [0.025, 0.975])
    return correlation(one, truth) - correlation(other, truth), float(low), float(high)


@pytest.fixture(scope="module")
def painted(bench: Bench) -> dict[str, pd.DataFrame]:
    """What the pictures look like under each condition; all of one seed share their noise."""
    null = bench.own.null()
    return {
        "matched": bench.looks(bench.own),
        "swapped": bench.looks(bench.own.take(bench.elsewhere(FAR))),
        "swapped elsewhere": bench.looks(bench.own.take(bench.elsewhere(FARTHER))),
        "told nothing": bench.looks(null),
        "told nothing, other noise": bench.looks(null, seed=1),
    }


@pytest.mark.parametrize("look", LOOKS)
def test_pictures_follow_the_truth_of_the_genes_they_were_given(
    bench: Bench, painted: dict[str, pd.DataFrame], look: str
) -> None:
    """Matched against swapped genes, same windows and noise: the lower bound of the difference is above zero."""
    matched, swapped = painted["matched"][look].to_numpy(), painted["swapped"][look].to_numpy()
    of_the_genes = bench.density[bench.elsewhere(FAR)]
    gain, low, high = paired_gain(matched, swapped, bench.density)
    print(f"\n{look}: matched r {correlation(matched, bench.density):.2f}, swapped r "
          f"{correlation(swapped, bench.density):.2f}, gain {gain:.2f} [{low:.2f}, {high:.2f}], swapped against "
          f"the genes' own place {correlation(swapped, of_the_genes):.2f}")  # fmt: skip
    assert correlation(matched, bench.density) > 0.45
    assert low > GATE
    # Genes from elsewhere paint elsewhere: the picture follows them, not the place nor its noise.
    assert correlation(swapped, of_the_genes) > 0.45


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("told nothing", "told nothing, other noise"),
        ("swapped", "swapped elsewhere"),
        ("swapped", "told nothing"),
    ],
)
def test_the_gate_stays_shut_when_the_genes_are_not_the_windows_own(
    bench: Bench, painted: dict[str, pd.DataFrame], look: str, one: str, other: str
) -> None:
    """The same statistic must be able to say no."""
    gain, low, high = paired_gain(
        painted[one][look].to_numpy(), painted[other][look].to_numpy(), bench.density
    )
    print(f"\n{look}, {one} against {other}: gain {gain:.2f} [{low:.2f}, {high:.2f}]")
    assert low < GATE


def test_a_window_told_another_tissue_becomes_it(bench: Bench) -> None:
    """What-if: every window is told the mean spot of epidermis, then of dermis; nothing else changes."""
    spots = bench.own.counts[:, 0]
    n = len(bench.windows)
    told = {
        name: bench.looks(
            bench.own.with_counts_everywhere(
                np.tile(spots[np.argsort(-bench.tissue[name].to_numpy())[:4]].mean(axis=0).round(), (n, 1)),
                name,
            )
        )
        for name in ("epidermis", "dermis")
    }
    for look in LOOKS:
        more = (told["epidermis"][look] > told["dermis"][look]).mean()
        print(f"\n{look}: {told['epidermis'][look].mean():.3f} told epidermis, {told['dermis'][look].mean():.3f} told dermis; "
              f"more in {more:.0%} of windows")  # fmt: skip
        assert more > 0.8


def test_the_statistic_reads_real_tissue(bench: Bench) -> None:
    """The measures themselves: on the real windows they follow the truth closely, the ceiling of the above."""
    real = looks_of(bench.cohort.pixels(bench.windows), bench.reader)
    for look in LOOKS:
        r = correlation(real[look].to_numpy(), bench.density)
        print(f"\n{look}: real r {r:.2f}")
        assert r > 0.8
