"""Third objective: a generator that needs few steps, from one that needs many.

A solver follows the teacher's flow from one noise level to the next by smaller steps, each of which is two forwards when it is
guided. The student learns the mean velocity of such a stretch, so that one step of its own goes as far
(progressive distillation, Salimans & Ho 2022, in one round; guidance is learnt along, Meng et al. 2023). What the teacher is
guided away from is its own null condition, or what a weaker generator paints (autoguidance, Karras et al. 2024).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import DistilLoop, Recipe, Sampling
from stainglass.errors import StainglassError
from stainglass.models.denoiser import is_stable_diffusion, predict_velocity
from stainglass.models.facts import Facts
from stainglass.models.genecondnet import Embedded
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import JUMPS, Velocity, integrate, jump_levels
from stainglass.training.batches import Batch, rng_of
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace, conditions_of
from stainglass.training.denoiser import preview_of, ready_to_train
from stainglass.training.encode import latent_space
from stainglass.training.loop import train
from stainglass.training.start import refuse_seen


class AtLevels:
    """Examples at a few noise levels only, each as often."""

    def __init__(self, examples: LatentCrops, levels: list[float], seed: int) -> None:
        self.examples, self.levels, self.seed = examples, levels, seed

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a position, its level drawn anew."""
        level = self.levels[int(rng_of(self.seed + 1, position).integers(len(self.levels)))]
        return {**self.examples.example(position), "t": np.asarray(level, dtype=np.float32)}


class Distil(Denoise):
    """The student's velocity at a level against the teacher's mean velocity from there to the next.

    GeneCondNet is kept as it is: what the spots say is not learnt again.

    Parameters
    ----------
    pipeline
        The teacher, which becomes the student; a copy of its denoiser teaches.
    guide
        A weaker generator in place of the null condition.
    """

    def __init__(
        self,
        pipeline: TissuePipeline,
        space: LatentSpace,
        loop: DistilLoop,
        preview: Batch | None = None,
        guide: TissuePipeline | None = None,
    ) -> None:
        facts = pipeline.facts
        assert facts is not None
        super().__init__(
            pipeline.condnet, pipeline.denoiser, space, pipeline.flow, preview, pooled=facts.pooled
        )
        self.condnet.requires_grad_(False)
        self.denoiser.requires_grad_(True)
        teacher = copy.deepcopy(pipeline.denoiser).eval().requires_grad_(False)
        # In lists, so that they are neither trained nor saved with this module.
        self._teacher, self._guide = [teacher], [] if guide is None else [guide]
        self._guided, self._loop = taught_sampling(facts, loop), loop

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        z, noise, t = batch["z"], batch["noise"], batch["t"]
        at = t[:, None, None, None]
        x, told = (1 - at) * z + at * noise, self._told(batch)
        wanted = self._mean_velocity(x, t, told, self._away(batch))
        squared = (predict_velocity(self.denoiser, x, t, told, self._flow) - wanted).pow(2)
        return (self.channel_weight * squared).mean(), {"unweighted": squared.detach().mean()}

    @torch.no_grad()
    def _away(self, batch: Batch) -> tuple[nn.Module, Embedded]:
        """What the teacher is guided away from: a network, and what that one is told."""
        conditions = conditions_of(batch)
        if not self._guide:
            return self._teacher[0], self.condnet(conditions.null())
        guide = self._guide[0].to(batch["z"].device)
        told = conditions if self._loop.guide_told == "spots" else conditions.null()
        return guide.denoiser, guide.condnet(told)

    @torch.no_grad()
    def _mean_velocity(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, b],
        told: Embedded,
        away: tuple[nn.Module, Embedded],
    ) -> Float[Tensor, "b c h w"]:
        """The teacher's guided velocity from each window's level to the next."""
        teacher, guided = self._teacher[0].to(x.device), self._guided
        length = 1 / self._loop.levels / self._loop.substeps
        low, high = guided.interval

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            v = predict_velocity(teacher, x, t, told, self._flow)
            if guided.guidance == 1.0:
                return v
            other = predict_velocity(away[0], x, t, away[1], self._flow)
            acts = ((t >= low) & (t <= high))[:, None, None, None]
            return torch.where(acts, other + guided.guidance * (v - other), v)

        start, y = t, x
        for _ in range(self._loop.substeps):
            v = velocity(y, t)
            if self._loop.follow == "flow":  # the midpoint rule
                v = velocity(y - length / 2 * v, t - length / 2)
            y, t = y - length * v, t - length
        return (x - y) / (start - t)[:, None, None, None]

    def _sampled(self, velocity: Velocity, noise: Tensor) -> Tensor:
        return integrate(velocity, noise, JUMPS, self._loop.levels, self._flow)


def train_few_steps(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    teacher: TissuePipeline,
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
    guide: TissuePipeline | None = None,
) -> TissuePipeline:
    """Train a few-step generator that begins as ``teacher``, which is changed.

    Parameters
    ----------
    recipe
        Of the teacher's run; its ``distil`` says how.
    folder
        ``distil/`` of the new run.
    guide
        See `load_guide`.

    Raises
    ------
    StainglassError
        When the teacher is of Stable Diffusion's family, whose noise levels are not ours.
    """
    loop = recipe.distil
    refuse_foreign(teacher)
    crops = crops_for(teacher, cohort, split, recipe, loop.seed, loop.null_share)
    preview = preview_of(crops, loop.steps * loop.batch * loop.accumulate)
    objective = Distil(teacher, crops.space, loop, preview, guide)
    examples = AtLevels(crops, jump_levels(loop.levels), loop.seed)
    train(
        objective, examples, loop, folder, "few steps", on_preview, together=True, cuda_graph=loop.cuda_graph
    )
    return teacher


def crops_for(
    generator: TissuePipeline,
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    seed: int,
    null_share: float = 0.0,
) -> LatentCrops:
    """Windows to train a finished generator's denoiser on, in its own latent space and the stains it knows.

    The denoiser is made ready, and what is drawn next follows from the seed.
    """
    facts, windows = generator.facts, recipe.windows
    assert facts is not None
    space = latent_space(cohort, split, recipe, generator.autoencoder, facts)
    plain = {
        "seed": seed,
        "null_share": null_share,
        **dict.fromkeys(("image_share", "unpaired_share", "representation", "noise_offset"), 0.0),
    }
    torch.manual_seed(seed)
    ready_to_train(generator.denoiser)
    return LatentCrops(
        cohort, split.train, facts.axis, space, recipe.genes, recipe.train_denoiser.model_copy(update=plain),
        size_px=windows.size_px, reach_um=windows.reach_um, max_spots=windows.max_spots, flow=generator.flow,
    )  # fmt: skip


def taught_sampling(facts: Facts, loop: DistilLoop) -> SamplerSettings:
    """How the teacher is guided while it teaches."""
    own = facts.sampler
    return replace(
        own,
        guidance=own.guidance if loop.guidance is None else loop.guidance,
        interval=own.interval if loop.interval is None else loop.interval,
    )


def load_guide(cohort: Cohort, split: Split, loop: DistilLoop, teacher: Facts) -> TissuePipeline | None:
    """The weaker generator that ``distil.guide`` names, or None.

    Raises
    ------
    StainglassError
        When it does not paint in the teacher's latent space from the same genes, or was trained on what is held out.
    """
    if loop.guide is None:
        return None
    guide = TissuePipeline.from_pretrained(loop.guide)
    assert guide.facts is not None
    if taught_sampling(teacher, loop).guidance == 1.0:
        raise StainglassError(
            "distil.guide",
            "the teacher is not guided at all (guidance 1)",
            "Set distil.guidance, for instance to 2",
        )
    require_guide(loop.guide, guide, teacher)
    refuse_between_levels(guide.facts, loop, loop.guide)
    refuse_seen(cohort, split, loop.guide, guide.facts)
    return guide


def refuse_between_levels(facts: Facts, loop: DistilLoop, name: str | Path) -> None:
    """A generator of few steps knows its own noise levels alone; it cannot be asked between them.

    Raises
    ------
    StainglassError
        When the loop would ask it there.
    """
    own = facts.sampler
    if own.solver != JUMPS or (loop.follow == "euler" and loop.levels * loop.substeps == own.steps):
        return
    raise StainglassError(
        name, f"paints in {own.steps} steps, and was never taught the noise levels between them",
        f"Give one of many steps; or set distil.follow=euler, and distil.levels and substeps whose product is {own.steps}",
    )  # fmt: skip


def refuse_other_steps(generator: TissuePipeline, sampling: Sampling, name: str | Path) -> None:
    """What paints in few steps paints in just those it learnt.

    Raises
    ------
    StainglassError
        When it does and the recipe says others.
    """
    assert generator.facts is not None
    own, asked = generator.facts.sampler, SamplerSettings.of(sampling)
    if JUMPS in (own.solver, asked.solver) and (own.solver, own.steps) != (asked.solver, asked.steps):
        raise StainglassError(
            name, f"paints in {own.steps} steps of {own.solver}, and the recipe says {asked.steps} of {asked.solver}",
            f"Leave them: --set sampling.solver={own.solver} --set sampling.steps={own.steps}",
        )  # fmt: skip


def require_guide(name: str | Path, guide: TissuePipeline, guided: Facts) -> None:
    """Refuse a guide that hears or paints otherwise than the generator it should guide."""
    facts = guide.facts
    assert facts is not None
    refuse_foreign(guide, name)
    for fact in ("latent_mean", "latent_std", "gene_ids", "reach_um", "max_spots", "told"):
        if getattr(facts, fact) != getattr(guided, fact):
            raise StainglassError(
                name, f"has another {fact} than the generator it should guide",
                "Give one trained less, or smaller, in the same latent space and on the same genes",
            )  # fmt: skip


def refuse_foreign(pipeline: TissuePipeline, name: str | Path = "distil") -> None:
    """Only our own flow runs from pure noise, at every recipe, over even levels."""
    if is_stable_diffusion(pipeline.denoiser):
        raise StainglassError(
            name,
            "Stable Diffusion's family has a schedule of its own",
            "Distil a unet or a dit, guided by such",
        )


def few_step_sampling(sampling: Sampling, loop: DistilLoop) -> Sampling:
    """How a distilled generator is sampled: its levels, without guidance, which it has learnt along."""
    return sampling.model_copy(update={"solver": JUMPS, "steps": loop.levels, "guidance": 1.0})
