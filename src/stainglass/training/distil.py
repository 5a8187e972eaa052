"""Third objective: a generator that needs few steps, from one that needs many.

At a few noise levels the student says at once what the clean latent is, noise is added again and it says it anew (the
sampling of consistency models, Song et al. 2023). Regression alone would answer with the mean of all tissue that fits the
spots, a haze; so an adversary judges what is painted (Sauer et al., adversarial diffusion distillation, 2023): regression
keeps what the genes say, the adversary wants it to look like tissue.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import DistilLoop, Recipe, Sampling
from stainglass.errors import StainglassError
from stainglass.models.adversary import Adversary
from stainglass.models.denoiser import is_stable_diffusion, predict_velocity
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.solver import RENOISE, Velocity, integrate, renoise_levels
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace
from stainglass.training.denoiser import preview_of
from stainglass.training.encode import encode_sections, raster_name, turns_needed
from stainglass.training.loop import Batch, rng_of, train

MOST_NOISE = 0.5
"""Windows are shown to the adversary at noise levels from 0 to this."""


class AtLevels:
    """Examples at a few noise levels only, each as often."""

    def __init__(self, examples: LatentCrops, levels: list[float], seed: int) -> None:
        self.examples, self.levels, self.seed = examples, levels, seed

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a position, its level drawn anew."""
        level = self.levels[int(rng_of(self.seed + 1, position).integers(len(self.levels)))]
        return {**self.examples.example(position), "t": np.asarray(level, dtype=np.float32)}


class Distil(Denoise):
    """Regression of the clean latent, and an adversary: what a few-step generator is trained by.

    Both sides learn in one step: the painted window is judged once with the adversary held (the painter's loss) and once
    cut off from the painter (the adversary's hinge loss). Real windows with another window's spots count as wrong, so that
    spots are heard (Reed et al. 2016). GeneCondNet is kept as it is.
    """

    def __init__(
        self, pipeline: TissuePipeline, space: LatentSpace, loop: DistilLoop, preview: Batch | None = None
    ) -> None:
        facts = pipeline.facts
        assert facts is not None
        super().__init__(
            pipeline.condnet, pipeline.denoiser, space, pipeline.flow, preview, pooled=facts.pooled
        )
        self.condnet.requires_grad_(False)
        self.adversary = Adversary(len(space.mean), self.condnet.config.width, loop.adversary_width)
        self._loop = loop

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, for both sides."""
        z, noise, t = batch["z"], batch["noise"], batch["t"]
        at = t[:, None, None, None]
        x = (1 - at) * z + at * noise
        told = self._told(batch)
        painted = x - at * predict_velocity(self.denoiser, x, t, told, self._flow)
        regression = (self.channel_weight * (painted - z).pow(2)).mean()
        level = torch.rand_like(t) * MOST_NOISE

        def judged(latents: Tensor, pooled: Tensor) -> Tensor:
            share = level[:, None, None, None]
            return self.adversary(
                (1 - share) * latents + share * torch.randn_like(latents), level, pooled
            ).float()

        with self.adversary.held():
            liked = judged(painted, told.pooled).mean()
        cut = painted.detach()
        real, fake = judged(z, told.pooled), judged(cut, told.pooled)
        wrong = judged(z, told.pooled.roll(1, 0))
        hinge = F.relu(1 - real).mean() + 0.5 * (F.relu(1 + fake).mean() + F.relu(1 + wrong).mean())
        figures = {
            "regression": regression,
            "real": real.mean(),
            "painted": fake.mean(),
            "wrong": wrong.mean(),
        }
        loss = self._loop.regression * regression - self._loop.adversary * liked + hinge
        return loss, {key: value.detach() for key, value in figures.items()}

    def _sampled(self, velocity: Velocity, noise: Tensor) -> Tensor:
        return integrate(velocity, noise, RENOISE, self._loop.levels, self._flow)


def train_few_steps(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    teacher: TissuePipeline,
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
) -> TissuePipeline:
    """Train a few-step generator that begins as ``teacher``, which is changed.

    Parameters
    ----------
    recipe
        Of the teacher's run; its ``distil`` says how.
    folder
        ``distil/`` of the new run.

    Raises
    ------
    StainglassError
        When the teacher is of Stable Diffusion's family, whose noise levels are not ours.
    """
    facts, loop, windows = teacher.facts, recipe.distil, recipe.windows
    assert facts is not None
    refuse_foreign(teacher)
    turns = turns_needed(teacher.autoencoder) if recipe.train_denoiser.turns else range(1)
    encode_sections(cohort, split.train, teacher.autoencoder, turns)
    space = LatentSpace(
        teacher.autoencoder,
        tuple(raster_name(teacher.autoencoder, turn) for turn in turns),
        np.asarray(facts.latent_mean, np.float32),
        np.asarray(facts.latent_std, np.float32),
    )
    drawing = recipe.train_denoiser.model_copy(
        update={"seed": loop.seed, "stain_variants": 0, "image_share": 0.0}
    )
    crops = LatentCrops(
        cohort, split.train, facts.axis, space, recipe.genes, drawing,
        size_px=windows.size_px, reach_um=windows.reach_um, max_spots=windows.max_spots, flow=teacher.flow,
    )  # fmt: skip
    torch.manual_seed(loop.seed)
    teacher.denoiser.requires_grad_(True)
    objective = Distil(teacher, space, loop, preview_of(crops, loop.steps * loop.batch * loop.accumulate))
    examples = AtLevels(crops, renoise_levels(loop.levels), loop.seed)
    train(objective, examples, loop, folder, "few steps", on_preview)
    return teacher


def refuse_foreign(teacher: TissuePipeline) -> None:
    """Only our own flow runs from pure noise at every recipe."""
    if is_stable_diffusion(teacher.denoiser):
        raise StainglassError(
            "distil", "Stable Diffusion's family has a schedule of its own", "Distil a unet or a dit"
        )


def few_step_sampling(sampling: Sampling, loop: DistilLoop) -> Sampling:
    """How a distilled generator is sampled: its levels, without guidance, which it has no need of."""
    return sampling.model_copy(update={"solver": RENOISE, "steps": loop.levels, "guidance": 1.0})
