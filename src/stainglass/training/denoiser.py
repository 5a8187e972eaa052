"""Training GeneCondNet and the denoiser, in one go or in stages of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.expression import KeptExpression
from stainglass.cohort.splits import Split
from stainglass.config import DenoiserLoop, Recipe
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis
from stainglass.models.clip import TissueCLIP
from stainglass.models.denoiser import is_stable_diffusion, make_denoiser
from stainglass.models.flow import flow_of, fresh_schedule
from stainglass.models.genecondnet import GeneCondNet
from stainglass.models.solver import make_scheduler
from stainglass.models.stable_diffusion import find_checkpoint, require_latents
from stainglass.training.batches import Batch
from stainglass.training.denoise import Denoise, Following, LatentCrops, LatentSpace
from stainglass.training.fit import variable_genes
from stainglass.training.loop import train
from stainglass.training.precision import settled_precision
from stainglass.training.pretrain import pretrain_encoder
from stainglass.training.processes import by_the_first, processes
from stainglass.training.start import Start
from stainglass.training.tuning import choose_trained, finish_stage
from stainglass.units import LATENT_STEP_PX

PREVIEWS = 6


@dataclass(frozen=True)
class Network:
    """The denoiser a recipe asks for, before training.

    Attributes
    ----------
    scheduler
        What is saved with it, and tells its flow.
    width
        Of the tokens it hears.
    """

    denoiser: Any
    scheduler: Any
    width: int


@dataclass(frozen=True)
class TrainedDenoiser:
    """What training leaves."""

    condnet: GeneCondNet
    denoiser: Any
    scheduler: Any
    axis: GeneAxis
    expression: tuple[KeptExpression, ...] = ()
    """Sections without pictures that the gene encoder has seen."""


def make_network(recipe: Recipe, channels: int) -> Network:
    """A fresh denoiser, or a checkpoint's UNet and schedule.

    Raises
    ------
    StainglassError
        When there is no such checkpoint, or it has another latent space.
    """
    settings = recipe.denoiser
    if settings.source is not None:
        checkpoint = find_checkpoint(settings.source, settings.revision)
        unet = checkpoint.load_unet()
        require_latents(int(unet.config.in_channels), channels, f"denoiser.source {settings.source}")
        network = Network(unet, checkpoint.load_scheduler(), checkpoint.condition_width())
    else:
        side, width = recipe.windows.size_px // LATENT_STEP_PX, recipe.genes.width
        denoiser = make_denoiser(settings, channels, side, width)
        variance_preserving = settings.kind == "stable-diffusion"
        scheduler = (
            fresh_schedule(settings) if variance_preserving else make_scheduler(recipe.sampling.solver)
        )
        network = Network(denoiser, scheduler, width)
    ready_to_train(network.denoiser)
    return network


def ready_to_train(denoiser: Any) -> None:
    """On a CPU: channels last, and attention written out, as PyTorch's fused one has a slow gradient there.

    How much faster a step is so: ``python -m benchmarks.attention``.
    """
    if torch.cuda.is_available():
        return
    denoiser.to(memory_format=torch.channels_last)
    if not is_stable_diffusion(
        denoiser
    ):  # whose latents may be large, and written out takes their square in memory
        denoiser.set_attn_processor(AttnProcessor())


def refuse_compiling(loop: DenoiserLoop) -> None:
    """On a CPU a compiled network has wrong gradients in bf16: PyTorch 2.13 gives most weights of our UNet none at all.

    In single precision they are right, and so they are on a GPU.

    Raises
    ------
    StainglassError
        When the loop would train so.
    """
    if loop.compile and not torch.cuda.is_available() and settled_precision(loop.precision) == "bf16":
        raise StainglassError(
            "train_denoiser.compile", "has wrong gradients in bf16 on a CPU (PyTorch's compiler)",
            "Set train_denoiser.compile=false, or train_denoiser.precision=no, which is slower",
        )  # fmt: skip


def train_denoiser(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    space: LatentSpace,
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
    clip: TissueCLIP | None = None,
    start: Start | None = None,
) -> TrainedDenoiser:
    """Train GeneCondNet and the denoiser together, from the latent rasters of the training sections.

    With a CLIP, GeneCondNet begins with its gene trunk, and windows may be told its embedding of their picture. With a
    generator to go on from, both begin as it left them, on its gene axis.

    Parameters
    ----------
    folder
        ``denoiser/`` of the run. The last stage is trained there, those before it in ``stages/``.
    """
    windows, loop = recipe.windows, recipe.train_denoiser
    torch.manual_seed(loop.seed)
    seen: tuple[KeptExpression, ...] = ()
    if start is None:
        axis = variable_genes(cohort, told_sections(split, loop), recipe.genes.genes)
        network = make_network(recipe, len(space.mean))
        condnet = _make_condnet(cohort, split, recipe, axis, network.width, clip)
        if recipe.genes.pretrain_steps > 0:
            seen = by_the_first(
                lambda: pretrain_encoder(
                    condnet.encoder, cohort, split, told_sections(split, loop), axis, recipe.genes, network.width,
                    folder / "encoder", loop,
                )
            )  # fmt: skip
    else:
        axis, condnet = start.facts.axis, start.pipeline.condnet
        network = Network(start.pipeline.denoiser, start.pipeline.scheduler, condnet.config.width)
        ready_to_train(network.denoiser)
    if loop.compile:
        network.denoiser.compile(dynamic=False)  # in place: what is saved does not know
    flow = flow_of(network.scheduler)
    examples = LatentCrops(
        cohort, split.train, axis, space, recipe.genes, loop,
        size_px=windows.size_px, reach_um=windows.reach_um, max_spots=windows.max_spots, flow=flow, clip=clip,
    )  # fmt: skip
    preview = preview_of(examples, loop.all_steps * loop.batch * loop.accumulate)
    pooled = recipe.denoiser.pooled == "token" if start is None else start.facts.pooled
    stages, first = loop.in_stages(), 0
    for number, stage in enumerate(stages, 1):
        last = number == len(stages)
        place = folder if last else folder / "stages" / f"{number}-{stage.train}"
        title = "training the denoiser" if len(stages) == 1 else f"stage {number}: {stage.train}"
        torch.manual_seed(stage.seed + number)
        choose_trained(network.denoiser, stage)
        # A new objective a stage: Accelerate wraps each module once, and an unwrapped one never again.
        objective = Denoise(
            condnet, network.denoiser, space, flow, preview,
            pooled=pooled, min_snr=stage.min_snr, direction=stage.direction, representation=stage.representation,
        )  # fmt: skip
        train(
            objective, Following(examples, first), stage, place, title, on_preview, together=True, cuda_graph=stage.cuda_graph
        )  # fmt: skip
        if objective.represent is not None:
            objective.represent.release()
        finish_stage(network.denoiser, stage, place)
        first += stage.steps * stage.batch * stage.accumulate * processes().num_processes
    return TrainedDenoiser(condnet, network.denoiser, network.scheduler, axis, seen)


def told_sections(split: Split, loop: DenoiserLoop) -> tuple[str, ...]:
    """Training sections whose expression is used.

    Raises
    ------
    StainglassError
        When ``unpaired`` names another section, or all.
    """
    strange = set(loop.unpaired) - set(split.train)
    told = tuple(name for name in split.train if name not in loop.unpaired)
    if strange or not told:
        raise StainglassError(
            "train_denoiser.unpaired",
            f"{', '.join(sorted(strange))} is not in the training part" if strange else "names every training section",
            f"Name some of {', '.join(split.train)}",
        )  # fmt: skip
    return told


def _make_condnet(
    cohort: Cohort, split: Split, recipe: Recipe, axis: GeneAxis, width: int, clip: TissueCLIP | None
) -> GeneCondNet:
    """GeneCondNet at the denoiser's width; its trunk from CLIP, or fitted to the training spots."""
    genes, loop = recipe.genes, recipe.train_denoiser
    image_dim = clip.length if clip is not None and loop.image_share > 0 else 0
    condnet = GeneCondNet(
        len(axis), genes.input, width, genes.tokens, genes.top_k, recipe.windows.reach_um, image_dim,
        genes.components, genes.pooled,
    )  # fmt: skip
    if clip is None:
        told = told_sections(split, loop)
        spots = np.concatenate([cohort.sections[name].counts_on(axis)[0] for name in told])
        condnet.encoder.fit(torch.from_numpy(spots), axis.ids)
        return condnet
    if clip.config.width != width:
        raise StainglassError(
            "genes.width", f"CLIP's gene trunk is {clip.config.width} wide, the denoiser hears {width}",
            f"Set genes.width={width}, or train without a clip",
        )  # fmt: skip
    condnet.encoder.load_state_dict(clip.encoder.state_dict())
    condnet.encoder.requires_grad_(recipe.clip is None or recipe.clip.trunk == "fine-tuned")
    return condnet


def preview_of(examples: LatentCrops, drawn_in_all: int) -> Batch:
    """Windows drawn beyond the end of the run, so that none of them is an example of it."""
    drawn = [examples.example(drawn_in_all * 1000 + i) for i in range(PREVIEWS)]
    return {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}
