"""Windows and conditions → pictures, in batches whose make-up does not change the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from stainglass.cohort.windows import Conditions, Window
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import progress_bar
from stainglass.synthesis.noise import candidate_seed, window_noise
from stainglass.synthesis.thin import thinned


def paint_windows(
    pipeline: TissuePipeline,
    windows: Sequence[Window],
    conditions: Conditions,
    seed: int,
    settings: SamplerSettings,
    batch: int = 16,
    title: str = "painting",
) -> UInt8[np.ndarray, "n size size 3"]:
    """Paint one picture a window.

    The same seed and window give the same noise under any condition. Pictures from other batch sizes or
    devices agree within rounding of the network (about one grey level on a CPU).
    """
    painted: list[np.ndarray] = []
    with progress_bar(title, len(windows)) as advance:
        for first in range(0, len(windows), batch):
            some = windows[first : first + batch]
            told = conditions.take(range(first, first + len(some)))
            painted.append(paint_batch(pipeline, some, told, seed, settings))
            advance(len(some))
    return np.concatenate(painted)


def paint_batch(
    pipeline: TissuePipeline,
    windows: Sequence[Window],
    conditions: Conditions,
    seed: int,
    settings: SamplerSettings,
) -> UInt8[np.ndarray, "n size size 3"]:
    """Paint one picture a window, all at once; of several candidates the one that shows best what was counted, thinned or not."""
    channels = len(pipeline.facts.latent_mean) if pipeline.facts else 0
    less = thinned(conditions, settings.thinning, seed, settings.depth)
    told, wanted = (ConditionTensors.of(some, pipeline.device) for some in (less, conditions))
    seeds = [candidate_seed(seed, k) for k in range(settings.candidates)]
    noises = np.stack([window_noise(one, windows, channels) for one in seeds])
    return np.asarray(
        pipeline(told, torch.from_numpy(noises).to(pipeline.device), settings, wanted).cpu().numpy()
    )


class CohortPainter:
    """A generator as the evaluation sees it: it paints windows and sends real pictures through its autoencoder.

    Parameters
    ----------
    pipeline
        The generator.
    settings
        Solver, steps, guidance.
    batch
        Windows at once.
    """

    def __init__(self, pipeline: TissuePipeline, settings: SamplerSettings, batch: int = 16) -> None:
        self.pipeline, self.settings, self.batch = pipeline, settings, batch

    def paint(
        self, windows: Sequence[Window], conditions: Conditions, seed: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """Paint one picture a window."""
        return paint_windows(self.pipeline, windows, conditions, seed, self.settings, self.batch)

    def reconstruct(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
        """Real pictures through the autoencoder and back."""
        parts = [
            self.pipeline.reconstruct(torch.from_numpy(pixels[i : i + self.batch])).cpu().numpy()
            for i in range(0, len(pixels), self.batch)
        ]
        return np.concatenate(parts)
