"""Third objective: CLIP, from patches and the spots they are centred on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from stainglass.cohort.cohort import Cohort, PreparedSection, joined
from stainglass.cohort.windows import Window
from stainglass.config import AlignLoop, GeneEncoder, Windows
from stainglass.files import atomic_path
from stainglass.genes.axis import GeneAxis
from stainglass.genes.normalise import log_normalised
from stainglass.models.clip import TissueCLIP, in_chunks, info_nce, linear_features
from stainglass.models.towers import FrozenTower
from stainglass.progress import progress_bar
from stainglass.spread import spread
from stainglass.training.batches import Batch, rng_of
from stainglass.training.corrupt import corrupted
from stainglass.training.crops import hold_in_memory
from stainglass.training.loop import Objective
from stainglass.units import snapped_top_left_px

COMPONENTS = 20
MOST_PATCHES = 500
BATCHES = 2**48
"""Where the positions of the generators that lay out whole batches begin, far from those of examples."""


class Pairs:
    """Patches with their spots. A batch is of one section, so neither stain nor depth of a patient tells pairs apart."""

    def __init__(
        self,
        cohort: Cohort,
        sections: Sequence[str],
        axis: GeneAxis,
        genes: GeneEncoder,
        loop: AlignLoop,
        size_px: int,
    ) -> None:
        self.sections = [cohort.sections[name] for name in sections]
        self.genes, self.loop, self.size_px = genes, loop, size_px
        self.centres = [s.centres_um_yx() for s in self.sections]
        found = [s.counts_on(axis) for s in self.sections]
        self.counts, self.measured = [f[0] for f in found], [f[1] for f in found]
        self.diameters = [s.used_spots.obs["diameter_um"].to_numpy(dtype=np.float32) for s in self.sections]
        self.programs = _programs(self.counts)
        self.features: list[Float32[np.ndarray, "spots views d"]] | None = None
        self._laid_out: tuple[int, int, NDArray[np.int64]] | None = None
        hold_in_memory(self.sections, "he/0")

    def use_features(self, tower: FrozenTower, folder: Path) -> Float32[np.ndarray, "n d"]:
        """Compute (or read back) a frozen tower's features of every spot's views; returns them as one table."""
        self.features = [self._views(tower, which, folder) for which in range(len(self.sections))]
        return np.concatenate([f.reshape(-1, f.shape[-1]) for f in self.features])

    def example(self, position: int) -> dict[str, np.ndarray]:
        """One patch (pixels, or features of a frozen tower), its spot and its programme."""
        which, spot = self._place(position)
        rng = rng_of(self.loop.seed, position)
        counts = corrupted(self.counts[which][spot][None], self.genes, rng)[0]
        if self.features is not None:
            seen = self.features[which][spot, rng.integers(self.features[which].shape[1])]
        else:
            seen = self._patch(which, spot, rng).transpose(2, 0, 1)
        return {
            "seen": np.ascontiguousarray(seen),
            "counts": counts,
            "diameters_um": np.asarray(self.diameters[which][spot]),
            "measured": self.measured[which],
            "program": self.programs[which][spot],
            "section": np.asarray(which),
        }

    def _place(self, position: int) -> tuple[int, int]:
        """Section and spot of a position: batch after batch a section, drawn by its spots, in shuffled order."""
        batch, slot = divmod(position, self.loop.batch)
        if self._laid_out is None or self._laid_out[0] != batch:
            rng = rng_of(self.loop.seed, BATCHES + batch)
            sizes = np.array([len(c) for c in self.centres])
            which = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
            self._laid_out = batch, which, rng.permutation(sizes[which])
        _, which, order = self._laid_out
        return which, int(order[slot % len(order)])

    def _patch(self, which: int, spot: int, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
        """A patch near its spot, turned, its stain varied."""
        section = self.sections[which]
        centre = self.centres[which][spot] + rng.uniform(-1, 1, 2) * self.loop.jitter_um
        pixels = section.pixels(_window(section, centre, self.size_px))
        turn = int(rng.integers(8))
        pixels = pixels.transpose(1, 0, 2) if turn & 4 else pixels
        pixels = pixels[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
        return stain_varied(pixels, self.loop.stain_jitter, rng)

    def _views(self, tower: FrozenTower, which: int, folder: Path) -> Float32[np.ndarray, "spots views d"]:
        section, views, loop = self.sections[which], self.loop.views, self.loop
        name = f"{section.id}-{views}-{self.size_px}-{loop.jitter_um:g}-{loop.stain_jitter:g}-{loop.seed}"
        path = folder / "features" / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                if str(archive["tower"]) == tower.name and archive["features"].shape[:2] == (
                    len(self.centres[which]),
                    views,
                ):
                    return np.asarray(archive["features"])
        except (OSError, ValueError, KeyError, BadZipFile):
            pass  # not computed yet, or cut short
        found = []
        with progress_bar(f"{tower.name} looks at {section.id}", len(self.centres[which])) as advance:
            for spot in range(len(self.centres[which])):
                rng = rng_of(loop.seed, BATCHES * 2 + which * 2**32 + spot)
                found.append(tower.features(np.stack([self._patch(which, spot, rng) for _ in range(views)])))
                advance()
        features = np.stack(found).astype(np.float32)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, features=features, tower=np.array(tower.name))
        return features


def _window(section: PreparedSection, centre_um_yx: NDArray[np.float64], size_px: int) -> Window:
    top, left = snapped_top_left_px(centre_um_yx[None], section.mpp, size_px)[0]
    return Window(section.id, int(top), int(left), size_px)


def stain_varied(
    pixels: UInt8[np.ndarray, "h w 3"], deviation: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Multiply each colour's optical density by its own random factor, so that hue tells less than structure."""
    if deviation == 0:
        return np.ascontiguousarray(pixels)
    factor = np.exp(rng.normal(0, deviation, 3))
    levels = 255 * (np.arange(256)[:, None] / 255) ** factor  # density × factor is intensity to that power
    table = levels.round().astype(np.uint8)
    return np.stack([table[pixels[..., c], c] for c in range(3)], -1)


def _programs(counts: Sequence[Float32[np.ndarray, "spots g"]]) -> list[Float32[np.ndarray, "spots k"]]:
    """Unit vectors of each spot's first components, to tell which spots nearly agree."""
    level = log_normalised(np.concatenate(counts))
    standard = (level - level.mean(0)) / np.maximum(level.std(0), 0.1)
    scores = PCA(min(COMPONENTS, *standard.shape), svd_solver="full").fit_transform(standard)
    unit = scores / np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), 1e-9)
    ends = np.cumsum([len(c) for c in counts])[:-1]
    return [part.astype(np.float32) for part in np.split(unit, ends)]


def fit_linear(
    clip: TissueCLIP, cohort: Cohort, sections: Sequence[str], axis: GeneAxis, windows: Windows
) -> None:
    """Fit CLIP's linear part on patches of the training sections, at most `MOST_PATCHES` of each, spread evenly."""
    assert clip.closed_form is not None
    features, told, groups = [], [], []
    for number, name in enumerate(sections):
        found = cohort.patches([name], windows.size_px)
        some = [found[i] for i in spread(len(found), MOST_PATCHES)]
        with progress_bar(f"texture of {name}", len(some)) as advance:
            for first in range(0, len(some), 64):
                pixels = cohort.pixels(some[first : first + 64])
                tower = clip.frozen_tower
                features.append(linear_features(pixels, None if tower is None else tower.features(pixels)))
                advance(len(pixels))
        told.append(cohort.conditions(some, axis, windows.reach_um, windows.max_spots))
        groups.append(np.full(len(some), number, np.int64))
    conditions = joined(told)
    clip.closed_form.fit(
        np.concatenate(features), conditions.counts, conditions.present, np.concatenate(groups)
    )


class Align(Objective):
    """InfoNCE between patches and spots."""

    def __init__(self, clip: TissueCLIP, loop: AlignLoop) -> None:
        super().__init__()
        self.clip, self.loop = clip, loop

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and the share of pictures whose own spot is the nearest."""
        images = in_chunks(self._images, self.loop.chunk, batch["seen"])
        genes = in_chunks(
            self.clip.gene_vectors, self.loop.chunk, batch["counts"], batch["diameters_um"], batch["measured"]
        )
        program, section = batch["program"], batch["section"]
        alike = (program @ program.T >= self.loop.alike) & (section[:, None] == section)
        loss = info_nce(images, genes, self.clip.scale, alike)
        right = ((images @ genes.T).argmax(1) == torch.arange(len(images), device=images.device)).float()
        return loss, {
            "batch_recall_at_1": right.mean().detach(),
            "temperature": 1 / self.clip.scale.detach(),
        }

    def _images(self, seen: Tensor) -> Tensor:
        return self.clip.image_vectors(seen.float() / 255 if seen.dtype == torch.uint8 else seen)
