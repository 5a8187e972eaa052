"""A few-step generator whose pictures are held against tissue: by its texture, as a frozen network sees it.

Regression on a teacher's velocities teaches each step by itself, and what a step cannot know comes out as its mean: haze. Here
the whole way is walked, picture included, and the gradient goes back along it; what is wanted is that painted pictures are, to
frozen eyes, what reconstructions of tissue are, place by place and as a whole (`stainglass.training.energy`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import PolishLoop, Recipe, Sampling
from stainglass.errors import StainglassError
from stainglass.models.denoiser import predict_velocity
from stainglass.models.eyes import CELLS, Eyes, Seen
from stainglass.models.genecondnet import Embedded
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.solver import JUMPS, Velocity, integrate, jump_levels
from stainglass.progress import progress_bar
from stainglass.training.average import go_back
from stainglass.training.batches import Batch, rng_of
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace
from stainglass.training.denoiser import preview_of
from stainglass.training.distil import crops_for, refuse_foreign, refuse_other_steps
from stainglass.training.energy import Measure, energy_distance, energy_score
from stainglass.training.loop import train
from stainglass.training.precision import multiplying
from stainglass.training.processes import processes

AGO = 3
"""Steps back, of those in which the same eyes looked, whose pictures stand beside those of now."""
LAYOUT = 4
"""Latents a side over which `layout` averages."""
REAL = 1000
"""Real features that a step compares with, drawn from the bank."""
BANK_CELLS = 4
"""Cells of each window in the bank."""
BANK_BATCH = 16


class TwoNoises:
    """Examples with a second noise, so that two pictures can be painted from one condition."""

    def __init__(self, examples: LatentCrops, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a position, and ``other_noise``."""
        example = self.examples.example(position)
        rng = rng_of(self.seed + 1, position)
        return {**example, "other_noise": rng.standard_normal(example["noise"].shape, dtype=np.float32)}


class Look(nn.Module):
    """One way to look at pictures: which frozen eyes, and whether at a part or, at half the size, at the whole.

    Parameters
    ----------
    whole, cells
        Of real tissue: the bank that painted pictures are compared with.
    pictures
        Painted a step, two from each condition.
    spread
        See `energy_score`.
    """

    def __init__(
        self, whole: Float[Tensor, "n d"], cells: Float[Tensor, "m d"], pictures: int, spread: float
    ) -> None:
        super().__init__()
        self.spread = spread
        self.whole, self.cells = Measure(whole), Measure(cells)
        for name, bank, kept in (
            ("whole", whole, AGO * pictures), ("cells", cells, AGO * pictures * CELLS**2)
        ):  # fmt: skip
            self.register_buffer(f"real_{name}", bank, persistent=False)
            # Until something has been painted, real ones stand for it: they push nowhere, on average.
            turns = torch.arange(kept) % len(bank)
            self.register_buffer(f"before_{name}", bank[turns].clone())

    def forward(self, painted: Seen, real: Seen) -> tuple[Tensor, Tensor]:
        """The energy score of the conditions, and the energy distances as a whole and of cells."""
        one, other, found = (self.whole(x) for x in (*painted.whole.chunk(2), real.whole))
        score = sum(energy_score(*parts, self.spread) for parts in zip(one, other, found, strict=True))
        # The two pictures of a condition are alike by it: as a pair they say nothing of how tissue varies.
        owners = torch.arange(len(real.whole), device=real.whole.device).repeat(2)
        distance = self._distance("whole", painted.whole, owners)
        cells = painted.cells.flatten(0, 1)
        distance = distance + self._distance("cells", cells, owners.repeat_interleave(CELLS**2))
        return torch.as_tensor(score), distance

    def _distance(self, name: str, painted: Tensor, owners: Tensor) -> Tensor:
        measure, before = getattr(self, name), getattr(self, f"before_{name}")
        bank = getattr(self, f"real_{name}")
        drawn = bank[torch.randint(len(bank), (REAL,), device=bank.device)]
        points = zip(measure(painted), measure(before.clone()), measure(drawn), strict=True)
        total = sum(energy_distance(ours, owners, ago, real) for ours, ago, real in points)
        before.copy_(torch.cat([before[len(painted) :], painted.detach()]))
        return torch.as_tensor(total)


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
        top, left = torch.randint(real.shape[-1] // 2 + 1, (2,)).tolist()
        seen = [self._seen(pictures, look, top, left) for pictures in (painted, real)]
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

    def _seen(self, pictures: Float[Tensor, "b 3 h w"], look: int, top: int, left: int) -> Seen:
        eyes, side = self._eyes[look // 2].to(pictures.device), pictures.shape[-1] // 2
        part = pictures[..., top : top + side, left : left + side]
        seen: Seen = eyes(F.avg_pool2d(pictures, 2) if look % 2 else part)
        return seen

    @torch.no_grad()
    def look_at_tissue(self, examples: TwoNoises, first: int) -> None:
        """Fill the bank from the windows at these positions and after, each of several processes from a share of them."""
        group, ways = processes(), 2 * len(self._eyes)
        found: list[list[Seen]] = [[] for _ in range(ways)]
        device = self.mean.device
        batches = -(-self._loop.bank // (BANK_BATCH * group.num_processes))
        with progress_bar("looking at tissue", batches) as advance:
            for k in range(batches):
                rng = rng_of(self._loop.seed + 2, k * group.num_processes + group.process_index)
                at = first + (k * group.num_processes + group.process_index) * BANK_BATCH
                z = np.stack([examples.examples.example(at + i)["z"] for i in range(BANK_BATCH)])
                with multiplying(self._loop.precision, device):  # as pictures are seen in training
                    real = self._decoded(torch.from_numpy(z).to(device))
                    top, left = (int(v) for v in rng.integers(real.shape[-1] // 2 + 1, size=2))
                    looks = [self._seen(real, look, top, left) for look in range(ways)]
                for one, seen in zip(looks, found, strict=True):
                    places = torch.from_numpy(rng.permutation(CELLS**2)[:BANK_CELLS]).to(device)
                    seen.append(replace(one, cells=one.cells[:, places]))
                advance()
        pictures = 2 * self._loop.batch
        for seen in found:
            whole, cells = (
                torch.cat([s.whole for s in seen]),
                torch.cat([s.cells.flatten(0, 1) for s in seen]),
            )
            if group.num_processes > 1:
                whole, cells = gather(whole), gather(cells)
            self.looks.append(Look(whole, cells, pictures, self._loop.spread))

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


def load_eyes(loop: PolishLoop) -> list[Eyes]:
    """The frozen networks that ``polish.eyes`` names.

    Raises
    ------
    StainglassError
        When it names none, or what is no tiny autoencoder.
    """
    if not loop.eyes:
        raise StainglassError(
            "polish.eyes", "names no network to look at pictures with",
            "Set it to folders of diffusers' AutoencoderTiny: --set 'polish.eyes=[TAESD3, TAESD]'",
        )  # fmt: skip
    return [Eyes.load(folder) for folder in loop.eyes]


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
    refuse_other_steps(generator, sampling, name)
