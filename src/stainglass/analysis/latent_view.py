"""Spots and generated patches as points in three dimensions, and what moves them: expression, dose, denoising.

Points are features of pictures, projected by axes that were fitted on real patches alone; generated patches are laid
into the same axes and shape none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from stainglass.analysis.classes import ClassScorer, Expressed
from stainglass.analysis.painted import PaintedSection
from stainglass.analysis.read_signals import Look
from stainglass.analysis.signals import SignalName
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import decode_latents
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.noise import window_noise
from stainglass.synthesis.paint import paint_windows
from stainglass.synthesis.spots import conditions_of
from stainglass.synthesis.thin import thinned

ProjectionKind = Literal["pca", "umap"]

MOST_POINTS = 50_000
"""Points a page draws; more are thinned evenly."""

DOSES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Times the measured counts of the edited genes."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Projection:
    """Features → three dimensions, fitted on real patches.

    Attributes
    ----------
    kind
        ``pca`` or ``umap``.
    axes
        What each axis is, for people.
    """

    kind: ProjectionKind
    axes: tuple[str, str, str]
    mean: Float64[np.ndarray, d]
    std: Float64[np.ndarray, d]
    model: Any

    @classmethod
    def fit(cls, real: NDArray[np.floating], kind: ProjectionKind = "pca", seed: int = 0) -> Projection:
        """Standardise the features of real patches and fit three axes.

        Raises
        ------
        StainglassError
            When there are fewer than four patches, or UMAP is asked for and not installed.
        """
        if len(real) < 4:
            raise StainglassError(
                "latent view",
                f"{len(real)} real patches are too few for three dimensions",
                "Show more sections",
            )
        x = np.asarray(real, np.float64)
        mean, std = x.mean(0), x.std(0)
        std = np.where(std > 1e-9, std, 1.0)
        x = (x - mean) / std
        if kind == "umap":
            model = refuse_without_umap()(
                n_components=3, n_neighbors=min(15, len(x) - 1), random_state=seed, n_jobs=1
            )
            model.fit(x)
            return cls(kind, ("UMAP 1", "UMAP 2", "UMAP 3"), mean, std, model)
        components = min(3, *x.shape)
        model = PCA(components, svd_solver="full").fit(x)
        share = [float(v) for v in model.explained_variance_ratio_] + [0.0] * (3 - components)
        return cls(kind, tuple(f"PC {i + 1} ({s:.0%})" for i, s in enumerate(share)), mean, std, model)  # type: ignore[arg-type]

    def apply(self, features: NDArray[np.floating]) -> Float32[np.ndarray, "n 3"]:
        """Where pictures with these features lie."""
        x = (np.asarray(features, np.float64) - self.mean) / self.std
        found = np.asarray(self.model.transform(x), np.float32)
        if found.shape[1] < 3:
            found = np.pad(found, ((0, 0), (0, 3 - found.shape[1])))
        return found


def refuse_without_umap() -> Any:
    """UMAP's class.

    Raises
    ------
    StainglassError
        When umap-learn is not installed.
    """
    try:
        from umap import UMAP  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise StainglassError(
            "--projection umap", "umap-learn is not installed", "pip install 'stainglass[umap]', or take pca"
        ) from None
    return UMAP


def shares_of(sizes: Sequence[int], most: int) -> list[int]:
    """How many of each section to take so that all together are at most ``most``, in proportion, one at least."""
    whole = sum(sizes)
    if whole <= most:
        return list(sizes)
    return [max(1, size * most // whole) for size in sizes]


def classes_of(
    cohort: Cohort, painted: Sequence[PaintedSection], train: Sequence[str], size_px: int
) -> tuple[list[str], str]:
    """A class a spot of these sections, one after the other, and how it was found.

    The commonest cell type where the sections bring cell types; else the class whose markers lead, called as
    `stainglass.analysis.classes` does, on the scale of the training spots.
    """
    windows = [window for p in painted for window in p.windows]
    types = cohort.cell_types(windows)
    if types is not None:
        told = types.sum(axis=1) > 0
        names = [
            str(name) if known else UNKNOWN for name, known in zip(types.idxmax(axis=1), told, strict=True)
        ]
        return names, "commonest cell type of the spot"
    try:
        scorer = ClassScorer.fit(Expressed.of(cohort, cohort.patches(train, size_px)))
    except StainglassError as error:
        return [UNKNOWN] * len(windows), f"{error.finding}"
    return scorer.call(Expressed.of(cohort, windows)).names(), "class whose markers lead"


def with_dose(conditions: Conditions, columns: Int64[np.ndarray, k], factor: float) -> Conditions:
    """The conditions with the counts of some genes multiplied in every spot; the other counts stay."""
    counts = conditions.counts.copy()
    counts[..., columns] *= factor
    return replace(conditions, counts=counts.astype(np.float32))


@dataclass(frozen=True)
class Moves:
    """The same patches at several stops of a slider.

    Attributes
    ----------
    stops
        What the slider says at each stop.
    pixels
        uint8 (F, N, size, size, 3).
    features
        float32 (F, N, d) of these pictures.
    """

    stops: tuple[str, ...]
    pixels: UInt8[np.ndarray, "f n size size 3"]
    features: Float32[np.ndarray, "f n d"]


def dose_moves(
    pipeline: TissuePipeline,
    cohort: Cohort,
    windows: Sequence[Window],
    genes: SignalName,
    settings: SamplerSettings,
    look: Look,
    *,
    doses: Sequence[float] = DOSES,
    seed: int = 0,
    batch: int = 16,
) -> Moves:
    """Paint patches at several doses of a gene or gene set, from the same noise.

    Raises
    ------
    StainglassError
        When the generator reads none of the genes.
    """
    facts = pipeline.facts
    assert facts is not None
    # Of a pathway the genes that go up with it; those that go down are left as they are.
    up = [g for g, weight in genes.weights.items() if weight > 0 and g in facts.axis.position]
    columns = np.array([facts.axis.position[g] for g in up], np.int64)
    if not len(columns):
        near = ", ".join(facts.gene_symbols[:3])
        raise StainglassError(
            genes.name,
            "is not among the genes the generator reads",
            f"Choose a gene such as {near}, or a gene set",
        )
    # Thinned first: of a part of a count more might be left than of a whole one.
    conditions = thinned(conditions_of(cohort, windows, facts), settings.thinning, seed, settings.depth)
    # One candidate, so that nothing but the dose differs.
    settings = replace(settings, thinning=0.0, depth=None, candidates=1)
    pictures = [
        paint_windows(
            pipeline, windows, with_dose(conditions, columns, dose), seed, settings, batch, f"dose × {dose:g}"
        )
        for dose in doses
    ]
    return Moves(
        tuple(f"{genes.name} × {dose:g}" for dose in doses),
        np.stack(pictures),
        np.stack([look(p) for p in pictures]),
    )


def trajectory_moves(
    pipeline: TissuePipeline,
    cohort: Cohort,
    windows: Sequence[Window],
    settings: SamplerSettings,
    look: Look,
    *,
    seed: int = 0,
    batch: int = 16,
) -> Moves:
    """Patches on their way from noise to tissue: the state of the solver after each step, decoded; of the first candidate."""
    facts = pipeline.facts
    assert facts is not None
    conditions = thinned(conditions_of(cohort, windows, facts), settings.thinning, seed, settings.depth)
    noise = window_noise(seed, windows, len(facts.latent_mean))
    parts: list[NDArray[np.uint8]] = []
    levels: list[float] = []
    for first in range(0, len(windows), batch):
        some = range(first, min(first + batch, len(windows)))
        told = ConditionTensors.of(conditions.take(some), pipeline.device)
        start = torch.from_numpy(noise[first : first + batch]).to(pipeline.device)
        states, levels = denoising_states(pipeline, told, start, settings)
        parts.append(np.stack([decode_latents(pipeline.autoencoder, s).cpu().numpy() for s in states]))
    pixels = np.concatenate(parts, axis=1)
    stops = tuple(_stop(level) for level in levels)
    return Moves(stops, pixels, np.stack([look(p) for p in pixels]))


def _stop(level: float) -> str:
    """What the slider says; multistep solvers begin a thousandth below pure noise."""
    if level > 0.998:
        return "noise"
    return "tissue" if level == 0 else f"noise level {level:.2f}"


def denoising_states(
    pipeline: TissuePipeline,
    told: ConditionTensors,
    noise: Float[Tensor, "b c h w"],
    settings: SamplerSettings,
) -> tuple[list[Float[Tensor, "b c h w"]], list[float]]:
    """The latents at every step of the solver, first the noise, last the clean ones, and their noise levels.

    The last is what `TissuePipeline.sample_latents` gives.
    """
    states: list[Tensor] = []
    levels: list[float] = []

    def keep(latents: Tensor, level: float) -> None:
        if not levels or level < levels[-1] - 1e-6:
            states.append(latents)
            levels.append(level)
        else:  # a solver that looks at one level twice has mended its step since
            states[-1] = latents

    end = pipeline.sample_latents(told, noise, settings, keep)
    return [*states, end], [*levels, 0.0]


def own_and_shuffled(real: NDArray[np.floating], generated: NDArray[np.floating]) -> tuple[float, float]:
    """Mean distance of a generated patch to its own real patch, and to another spot's.

    In standardised features, per feature (root mean square). The other spot is half the section on, in order.
    """
    a, b = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    std = np.where(a.std(0) > 1e-9, a.std(0), 1.0)
    a, b = (a - a.mean(0)) / std, (b - a.mean(0)) / std
    other = np.roll(a, len(a) // 2, axis=0)
    return tuple(float(np.sqrt(((b - x) ** 2).mean(1)).mean()) for x in (a, other))  # type: ignore[return-value]
