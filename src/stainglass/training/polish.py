"""A few-step generator whose pictures are held against tissue: by its texture, as a frozen network sees it.

Regression on a teacher's velocities teaches each step by itself, and what a step cannot know comes out as its mean: haze. Here
the whole way is walked, picture included, and the gradient goes back along it; what is wanted is that painted pictures are, to
frozen eyes, what reconstructions of tissue are, place by place and as a whole (`stainglass.training.energy`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import PolishLoop, Recipe, Sampling
from stainglass.errors import StainglassError
from stainglass.models.denoiser import predict_velocity
from stainglass.models.eyes import Eyes
from stainglass.models.genecondnet import Embedded
from stainglass.models.pipeline import SamplerSettings, TissuePipeline
from stainglass.models.solver import JUMPS, Velocity, integrate, jump_levels
from stainglass.training.average import go_back
from stainglass.training.batches import Batch, rng_of
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace
from stainglass.training.denoiser import preview_of
from stainglass.training.distil import crops_for, refuse_foreign
from stainglass.training.looks import Look, banks, see
from stainglass.training.loop import train
from stainglass.training.processes import processes

LAYOUT = 4
"""Latents a side over which `layout` averages."""


class TwoNoises:
    """Examples with a second noise, so that two pictures can be painted from one condition."""

    def __init__(self, examples: LatentCrops, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a position, and ``other_noise``."""
        example = self.examples.example(position)
        rng = rng_of(self.seed + 1, position)
        return {**example, "other_noise": rng.standard_normal(example["noise"].shape, dtype=np.float32)}


class Polish(Denoise):
    """Energy score and energy distance of painted pictures to reconstructions of tissue, in the eyes of frozen networks.

    Reconstructions, since what the decoder cannot show is not for the denoiser to make up for. GeneCondNet is kept as it is.

    Parameters
    ----------
    pipeline
        A few-step generator; its denoiser is trained.
    eyes
        Frozen; each step one of them looks.
    loop
        Settings.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        pipeline: TissuePipeline,
        space: LatentSpace,
        eyes: Sequence[Eyes],
        loop: PolishLoop,
        preview: Batch | None = None,
    ) -> None:
        facts = pipeline.facts
        assert facts is not None
        super().__init__(
            pipeline.condnet, pipeline.denoiser, space, pipeline.flow, preview, pooled=facts.pooled
        )
        self.condnet.requires_grad_(False)
        self.denoiser.requires_grad_(True)
        self._eyes, self._levels, self._loop = list(eyes), facts.sampler.steps, loop
        # In a list, so that it is neither trained nor saved with this module.
        self._start = [copy.deepcopy(pipeline.denoiser).eval().requires_grad_(False)] if loop.layout else []
        self.looks = nn.ModuleList()  # none until it has looked at tissue
        self.register_buffer("mean", torch.from_numpy(space.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.from_numpy(space.std)[:, None, None], persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        look = int(torch.randint(len(self.looks), ()))
        twice = {key: torch.cat([value, value]) for key, value in batch.items()}
        with torch.no_grad():
            told = self._told(twice)
        noise = torch.cat([batch["noise"], batch["other_noise"]])
        # Half of the steps go back along the last half of the way alone: detail is settled there.
        last = self._levels if torch.rand(()) < 0.5 else (self._levels + 1) // 2
        latents = self._walked(self.denoiser, noise, told, last)
        painted = self._decoded(latents)
        with torch.no_grad():
            before = [self._walked(start.to(noise.device), noise, told, 0) for start in self._start]
            real = self._decoded(batch["z"])
        corner = torch.randint(real.shape[-1] // 2 + 1, (2,)).tolist()
        seen = [see(self._eyes, pictures, look, corner) for pictures in (painted, real)]
        with torch.autocast(painted.device.type, enabled=False):
            score, distance = self.looks[look](*seen)
            moved = torch.as_tensor(sum(layout(latents - old).square().mean() for old in before))
        loss = self._loop.adherence * score + distance + self._loop.layout * moved
        return loss, {"score": score.detach(), "distance": distance.detach(), "moved": moved.detach()}

    def _walked(self, denoiser: nn.Module, x: Tensor, told: Embedded, last: int) -> Tensor:
        """From noise to latents by the generator's own steps, with a gradient along the ``last`` of them."""
        for k, level in enumerate(jump_levels(self._levels)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and k >= self._levels - last):
                t = torch.full((len(x),), level, device=x.device)
                x = x - predict_velocity(denoiser, x, t, told, self._flow).float() / self._levels
        return x

    def _decoded(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        decoder = self._space[0].autoencoder
        pixels: Tensor = decoder.decode(
            (z * self.std + self.mean).to(next(decoder.parameters()).dtype)
        ).sample
        return pixels.float().clamp(-1, 1)

    def look_at_tissue(self, examples: TwoNoises, first: int) -> None:
        """Fill the bank from the windows at these positions and after, each of several processes from a share of them."""

        def reconstructed(positions: Sequence[int]) -> Tensor:
            z = np.stack([examples.examples.example(at)["z"] for at in positions])
            return self._decoded(torch.from_numpy(z).to(self.mean.device))

        loop = self._loop
        for whole, cells in banks(self._eyes, reconstructed, first, loop.bank, loop.seed + 2, loop.precision):
            self.looks.append(Look(whole, cells, 2 * loop.batch, loop.spread))

    def _sampled(self, velocity: Velocity, noise: Tensor) -> Tensor:
        return integrate(velocity, noise, JUMPS, self._levels, self._flow)


def layout(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x"]:
    """What is coarser than the detail that is polished: latents averaged over 4 × 4, which is 32 × 32 px."""
    return F.avg_pool2d(latents.float(), LAYOUT)


def polish_generator(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    generator: TissuePipeline,
    eyes: Sequence[Eyes],
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
) -> TissuePipeline:
    """Train the denoiser of a few-step generator, which is changed.

    Parameters
    ----------
    recipe
        Of its run; ``polish`` says how.
    eyes
        What `load_eyes` found.
    folder
        ``polish/`` of the new run.
    """
    loop = recipe.polish
    crops = crops_for(generator, cohort, split, recipe, loop.seed)
    shown = loop.steps * loop.batch * loop.accumulate * processes().num_processes
    objective = Polish(generator, crops.space, eyes, loop, preview_of(crops, shown))
    examples = TwoNoises(crops, loop.seed)
    objective.to(processes().device)
    objective.look_at_tissue(examples, 2 * shown)
    before = copy.deepcopy(generator.denoiser.state_dict())
    train(objective, examples, loop, folder, "polishing", on_preview, together=True)
    go_back(generator.denoiser, before, loop.stay)
    return generator


def refuse_unpolishable(generator: TissuePipeline, sampling: Sampling, name: str | Path) -> None:
    """Only the whole way of a few-step generator of ours can be walked with a gradient, and by its own steps.

    Parameters
    ----------
    sampling
        Of the recipe, by which the polished generator will paint.

    Raises
    ------
    StainglassError
        When it is another, or is to paint by other steps.
    """
    refuse_foreign(generator, name)
    assert generator.facts is not None
    if generator.facts.sampler.solver != JUMPS:
        raise StainglassError(
            name, f"paints in {generator.facts.sampler.steps} steps of {generator.facts.sampler.solver}",
            "Distil it to few steps first: stainglass distil RUN --out FEW",
        )  # fmt: skip
    own, asked = generator.facts.sampler, SamplerSettings.of(sampling)
    if (own.solver, own.steps) != (asked.solver, asked.steps):
        raise StainglassError(
            name, f"paints in {own.steps} steps of {own.solver}, and the recipe says {asked.steps} of {asked.solver}",
            f"Leave them: --set sampling.solver={own.solver} --set sampling.steps={own.steps}",
        )  # fmt: skip
