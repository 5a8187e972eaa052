"""``--dry-run``: what a step would take. Disk from sizes; time by timing a few real steps; memory by what is held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.scale import WANTED_MPP
from stainglass.config import Prepare, Recipe, Sampling
from stainglass.files import read_json
from stainglass.models.autoencoder import make_autoencoder
from stainglass.models.builtin import resolve_autoencoder
from stainglass.models.clip import TissueCLIP, in_chunks, info_nce
from stainglass.models.denoiser import make_denoiser, predict_velocity
from stainglass.models.flow import RECTIFIED
from stainglass.models.genecondnet import Embedded
from stainglass.models.memory import plan_memory
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import evaluations
from stainglass.models.stable_diffusion import CONFIGS, find_checkpoint
from stainglass.models.towers import CONVNET
from stainglass.progress import console
from stainglass.sections.read import SectionSource
from stainglass.training.crops import MEMORY_BUDGET
from stainglass.training.precision import cpu_has_bf16
from stainglass.units import LATENT_STEP_PX

BASE_GB = 0.9
"""What Python, torch and anndata take before any data: measured on Linux, CPU build."""
PREPARE_MPX_PER_SECOND = 8.0
"""Decoding, resampling and writing on two cores, from benchmarks/prepare.py."""
SIMULATE_SECONDS_PER_MPX = 0.7
"""Drawing and writing one simulated Mpx on one core: 4 s for 2,400 × 2,400 px."""
JUDGE_SECONDS = 0.16
"""Features, LPIPS and the rest a window of 256 px on one core."""
SUBJECTS_PAINTED, SUBJECTS_JUDGED, JUDGED_SPLITS = 4, 10, 2
"""Generated, shuffled, bulk and unconditional are painted; ten subjects are judged; held-out and other patient."""
USEFULNESS_JUDGED = 2
"""A training window is looked at twice for usefulness: painted, and with ordinary augmentation."""
FROZEN_WIDTH = 1280
"""Features of EfficientNet-Lite0; other frozen towers have about as many."""
STORED = 0.6
"""Bytes on disk a byte of raster, pyramid included and white chunks left out (HER2ST: 0.36 to 0.55)."""


def tell_prepare(sources: Sequence[SectionSource], settings: Prepare, out: Path) -> None:
    """Time, disk and memory of preparing these sections."""
    megapixels = [_raster_mpx(source, settings) for source in sources]
    seconds = sum(megapixels) / PREPARE_MPX_PER_SECOND
    _tell(
        f"prepare {len(sources)} sections into {out}",
        seconds,
        sum(megapixels) * 3 * STORED / 1e3,
        BASE_GB + max(megapixels) * 3 * 2.5 / 1e3,
    )


def _raster_mpx(source: SectionSource, settings: Prepare) -> float:
    section = source.read()
    with section.slide:
        scale = min(section.slide_mpp / (settings.mpp or WANTED_MPP), 1.0)
        height, width = section.slide.size_px_yx
        return height * width * scale**2 / 1e6


def tell_train(cohort: Cohort, plan: Recipe, out: Path) -> None:
    """Time, disk and memory of training on this cohort."""
    raster = sum(s.bytes_of("he/0") for s in cohort.sections.values())
    _tell_gpu(plan)
    seconds, gigabytes = _training_seconds(plan)
    held = min(raster, MEMORY_BUDGET) / 1e9
    _tell(f"train into {out}", seconds, raster / 1e9 / 12 + gigabytes, BASE_GB + held + 1.0)


def tell_simulate(patients: int, size_um: float, mpp: float, out: Path) -> None:
    """Time, disk and memory of simulating."""
    mpx = (size_um / mpp) ** 2 / 1e6
    seconds = patients * mpx * SIMULATE_SECONDS_PER_MPX
    _tell(
        f"simulate {patients} sections into {out}", seconds, patients * mpx * 3 / 1e3, BASE_GB / 2 + mpx * 0.1
    )


def tell_painting(pipeline: Any, windows: int, settings: Any, batch: int, out: Path) -> None:
    """Time, disk and memory of painting some windows with this model, one forward timed here and now."""
    facts = pipeline.facts
    side, channels, width = (
        facts.window_px // LATENT_STEP_PX,
        len(facts.latent_mean),
        pipeline.condnet.config.width,
    )
    tokens, device = facts.max_spots * pipeline.condnet.config.tokens, pipeline.device
    told = Embedded(
        torch.zeros(batch, tokens, width, device=device),
        torch.ones(batch, tokens, dtype=torch.bool, device=device),
        torch.zeros(batch, width, device=device),
    )
    x, t = torch.zeros(batch, channels, side, side, device=device), torch.full((batch,), 0.5, device=device)
    calls = -(-windows // batch) * _forwards(settings)
    disk_gb = windows * facts.window_px**2 * 3 * 0.8 / 1e9
    _tell(
        f"paint {windows} windows into {out}",
        calls * _forward_seconds(lambda: pipeline.velocity(x, t, told)),
        disk_gb,
        BASE_GB + 0.5,
    )


def tell_evaluate(plan: Recipe, run: Path) -> None:
    """Time, disk and memory of a card."""
    windows = plan.evaluation.windows * SUBJECTS_JUDGED * JUDGED_SPLITS
    windows += plan.evaluation.usefulness * USEFULNESS_JUDGED * len(plan.evaluation.noise_seeds)
    _tell(f"evaluate {run}", _sampling_seconds(plan) + windows * JUDGE_SECONDS, 0.1, BASE_GB + 1.5)


def tell_run(plan: Recipe, source: Path | None, out: Path) -> None:
    """Time, disk and memory of a whole recipe."""
    if source is not None:
        from stainglass.sections import read_sections

        tell_prepare(read_sections(source), plan.prepare, out / "cohort")
    elif plan.simulate is not None:
        mpx = plan.simulate.patients * (plan.simulate.size_um / plan.simulate.mpp) ** 2 / 1e6
        _tell(
            f"simulate and prepare {plan.simulate.patients} sections",
            mpx * 0.8,
            mpx * 3 * 1.5 / 1e3,
            BASE_GB + 0.5,
        )
    _tell_gpu(plan)
    seconds, gigabytes = _training_seconds(plan)
    _tell("train", seconds, gigabytes, BASE_GB + 2.0)
    _tell("generate and evaluate", _sampling_seconds(plan), 0.1, BASE_GB + 1.5)


def tell_ablation(variants: Mapping[str, Recipe], out: Path) -> None:
    """Time, disk and memory of training and judging every variant once a training seed."""
    for name, plan in variants.items():
        trainings = len(plan.ablation.training_seeds)
        seconds, gigabytes = _training_seconds(plan.model_copy(update={"clip": None}))
        judged = plan.evaluation.windows * SUBJECTS_JUDGED * len(plan.evaluation.noise_seeds) * JUDGE_SECONDS
        seconds += _sampling_seconds(plan) + judged
        _tell(f"{name}, {trainings} × into {out}", trainings * seconds, trainings * gigabytes, BASE_GB + 2.0)


def _tell_gpu(plan: Recipe) -> None:
    """Memory that fine-tuning a checkpoint takes on a GPU, by arithmetic, of the stage that takes most."""
    if plan.denoiser.source is None:
        return
    config = find_checkpoint(plan.denoiser.source, plan.denoiser.revision, CONFIGS).unet_config()
    plans = {
        stage.train: plan_memory(
            config,
            window_px=plan.windows.size_px,
            batch=stage.batch,
            tokens=plan.windows.max_spots * plan.genes.tokens + 1,
            train=stage.train,
            lora_rank=stage.lora_rank,
            gradient_checkpointing=stage.gradient_checkpointing,
            optimiser=stage.optimiser,
        )
        for stage in plan.train_denoiser.in_stages()
    }
    most = max(plans, key=lambda name: plans[name].total)
    found = plans[most]
    parts = ", ".join(f"{name} {bytes_ / 1e9:.1f}" for name, bytes_ in asdict(found).items() if bytes_ >= 5e7)
    line = f"on a GPU: at most about {found.total / 1e9:.1f} GB, by arithmetic, in stage {most} ({parts})"
    console.print(line, highlight=False, soft_wrap=True)


def _training_seconds(plan: Recipe) -> tuple[float, float]:
    """Seconds (a step of each network timed here and now) and GB of checkpoints."""
    loop, given = plan.train_autoencoder, (plan.autoencoder.folder, plan.denoiser.source, plan.start)
    seconds, parameters = 0.0, 0
    if given == (None, None, None):
        network = make_autoencoder(plan.autoencoder)
        crop = torch.zeros(loop.batch, 3, loop.crop_px, loop.crop_px)
        parameters += sum(p.numel() for p in network.parameters())
        seconds += (
            (loop.steps + loop.sharpen_steps)
            * loop.accumulate
            * _step_seconds(network, lambda: network.decode(network.encode(crop).latents).sample)
        )
    if plan.clip is not None:
        seconds += plan.train_clip.steps * plan.train_clip.accumulate * _clip_step_seconds(plan)
    denoiser, forward, share = _denoiser(plan, plan.train_denoiser.batch)
    parameters += sum(p.numel() for p in denoiser.parameters())
    steps = plan.train_denoiser.all_steps * plan.train_denoiser.accumulate
    seconds += steps * _step_seconds(denoiser, forward) / share
    return seconds, parameters * 16 * (plan.train_denoiser.keep + 1) / 1e9


def _clip_step_seconds(plan: Recipe) -> float:
    """A step of CLIP; a frozen tower's looks at every spot come on top, once."""
    assert plan.clip is not None
    clip, genes, batch = plan.clip, plan.genes, plan.train_clip.batch
    own = clip.tower == CONVNET
    network = TissueCLIP(
        genes.genes, genes.input, genes.width, genes.tokens, genes.top_k, clip.tower,
        tower_width=FROZEN_WIDTH, widths=clip.widths, image_px=clip.image_px, dim=clip.dim,
    )  # fmt: skip
    side = plan.windows.size_px
    seen = torch.rand(batch, 3, side, side) if own else torch.rand(batch, FROZEN_WIDTH)
    counts, sizes = torch.ones(batch, genes.genes), torch.full((batch,), 55.0)

    def forward() -> torch.Tensor:
        images = in_chunks(network.image_vectors, plan.train_clip.chunk, seen)
        vectors = in_chunks(network.gene_vectors, plan.train_clip.chunk, counts, sizes)
        return info_nce(images, vectors, network.scale)

    return _step_seconds(network, forward)


def _sampling_seconds(plan: Recipe) -> float:
    _, forward, share = _denoiser(plan, plan.sampling.batch)
    seconds = _forward_seconds(forward) / share
    painted = plan.evaluation.windows * SUBJECTS_PAINTED * JUDGED_SPLITS + plan.evaluation.usefulness
    painted *= len(plan.evaluation.noise_seeds)
    batches = painted / plan.sampling.batch
    return batches * _forwards(plan.sampling) * seconds


def _forwards(sampling: SamplerSettings | Sampling) -> float:
    """Forwards a window: of the solver's steps, more where guided, and of each candidate one that looks at it."""
    guided = 1 + (sampling.interval[1] - sampling.interval[0] if sampling.guidance != 1 else 0)
    each = evaluations(sampling.solver, sampling.steps) * guided
    return each if sampling.candidates == 1 else sampling.candidates * (each + 1)


def _denoiser(plan: Recipe, batch: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor], float]:
    """The denoiser with fresh weights, a forward of it, and the share of a batch that this forward holds."""
    side, source = plan.windows.size_px // LATENT_STEP_PX, plan.denoiser.source
    if plan.start is not None:
        begun = TissuePipeline.from_pretrained(plan.start)
        network, width, timed = begun.denoiser.float(), begun.condnet.config.width, batch
        network.requires_grad_(True)
        channels = (
            network.config.in_channels if "in_channels" in network.config else network.config.latent_channels
        )
    elif source is None:
        channels, width, timed = _latent_channels(plan), plan.genes.width, batch
        network = make_denoiser(plan.denoiser, channels, side, width)
    else:  # of a checkpoint only the shape matters, and one window of it takes long enough
        config = find_checkpoint(source, plan.denoiser.revision, CONFIGS).unet_config()
        channels, width, timed = config["in_channels"], config["cross_attention_dim"], 1
        network = UNet2DConditionModel.from_config(config)
    tokens = plan.windows.max_spots * plan.genes.tokens
    told = Embedded(
        torch.zeros(timed, tokens, width),
        torch.ones(timed, tokens, dtype=torch.bool),
        torch.zeros(timed, width),
    )
    x, t = torch.zeros(timed, channels, side, side), torch.full((timed,), 0.5)
    return network, lambda: predict_velocity(network, x, t, told, RECTIFIED), timed / batch


def _latent_channels(plan: Recipe) -> int:
    if plan.autoencoder.folder is None:
        return plan.autoencoder.latent_channels
    folder = resolve_autoencoder(plan.autoencoder.folder)
    return int(read_json(folder / "config.json", "autoencoder")["latent_channels"])


def _forward_seconds(forward: Callable[[], torch.Tensor]) -> float:
    """One forward, after one to warm up."""
    with torch.no_grad():
        forward()
        began = time.perf_counter()
        float(forward().sum())  # a GPU answers before it is done
    return time.perf_counter() - began


def _step_seconds(network: torch.nn.Module, forward: Callable[[], torch.Tensor]) -> float:
    """Median of three steps forward and back, after one to warm up."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16()):
            loss: Any = forward().pow(2).mean()
        loss.backward()
        network.zero_grad()
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def _tell(what: str, seconds: float, disk_gb: float, memory_gb: float) -> None:
    line = f"{what}: about {seconds / 60:.1f} min, {disk_gb:.2f} GB of disk, {memory_gb:.1f} GB of memory"
    console.print(line, highlight=False, soft_wrap=True)
