"""The two stages of training a generator, and putting it together."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.genes.axis import GeneAxis
from stainglass.models.autoencoder import TissueAutoencoder, load_autoencoder, pixels_to_input
from stainglass.models.clip import FACTS_FILE as CLIP_FACTS
from stainglass.models.clip import ClipFacts, TissueCLIP
from stainglass.models.denoiser import make_denoiser
from stainglass.models.genecondnet import GeneCondNet
from stainglass.models.pipeline import FACTS_FILE, Facts, TissuePipeline
from stainglass.models.solver import make_scheduler
from stainglass.models.towers import CONVNET, load_tower
from stainglass.training.align import Align, Pairs
from stainglass.training.denoise import Denoise, LatentCrops, LatentSpace
from stainglass.training.encode import encode_sections, raster_name, turns_needed
from stainglass.training.fit import latent_statistics, variable_genes
from stainglass.training.loop import train
from stainglass.training.reconstruct import PixelCrops, Reconstruct
from stainglass.units import LATENT_STEP_PX

PREVIEWS = 6
OnPreview = Callable[[Path], None] | None


def train_autoencoder(
    cohort: Cohort, split: Split, recipe: Recipe, folder: Path, on_preview: OnPreview = None
) -> Any:
    """Train the run's own autoencoder, or load the one the recipe names.

    Parameters
    ----------
    folder
        ``autoencoder/`` of the run; the result lies in ``model/``. A finished one is loaded.
    """
    if recipe.autoencoder.folder is not None:
        return load_autoencoder(recipe.autoencoder.folder)
    finished = folder / "model"
    if (finished / "config.json").is_file():
        return load_autoencoder(finished)
    settings, loop = recipe.autoencoder, recipe.train_autoencoder
    torch.manual_seed(loop.seed)
    network = TissueAutoencoder(settings.latent_channels, settings.widths, settings.blocks)
    if not torch.cuda.is_available():
        network = network.to(memory_format=torch.channels_last)  # measured a third faster on CPUs
    shown = cohort.patches(split.train, recipe.windows.size_px)
    spread = [shown[i] for i in np.linspace(0, len(shown) - 1, PREVIEWS).astype(int)]
    samples = pixels_to_input(torch.from_numpy(cohort.pixels(spread)))
    examples = PixelCrops(cohort, split.train, loop.crop_px, loop.seed)
    trained = train(
        Reconstruct(network, samples), examples, loop, folder, "training the autoencoder", on_preview
    )
    assert isinstance(trained, Reconstruct)
    trained.autoencoder.save_pretrained(finished, safe_serialization=True)
    return load_autoencoder(finished)


def latent_space(cohort: Cohort, split: Split, recipe: Recipe, autoencoder: Any) -> LatentSpace:
    """Encode the training sections (what is missing) and fit the statistics of the latents."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autoencoder = autoencoder.to(device)
    turns = turns_needed(autoencoder) if recipe.train_denoiser.turns else range(1)
    encode_sections(cohort, split.train, autoencoder, turns)
    rasters = tuple(raster_name(autoencoder, turn) for turn in turns)
    frequencies = getattr(autoencoder, "frequencies", None)
    mean, std = latent_statistics(cohort, split.train, rasters[0], recipe.windows.size_px, frequencies)
    return LatentSpace(autoencoder, rasters, mean, std)


def train_clip(
    cohort: Cohort, split: Split, recipe: Recipe, folder: Path, on_preview: OnPreview = None
) -> TissueCLIP | None:
    """Train the run's CLIP, or None when the recipe has none.

    Parameters
    ----------
    folder
        ``clip/`` of the run; the result lies in ``model/``. A finished one is loaded.
    """
    if recipe.clip is None:
        return None
    if (folder / "model" / CLIP_FACTS).is_file():
        return TissueCLIP.load(folder / "model")
    settings, genes, loop, size = recipe.clip, recipe.genes, recipe.train_clip, recipe.windows.size_px
    axis = variable_genes(cohort, split.train, genes.genes)
    pairs = Pairs(cohort, split.train, axis, genes, loop, size)
    frozen = None if settings.tower == CONVNET else load_tower(settings.tower, settings.revision)
    features = pairs.use_features(frozen, folder) if frozen is not None else None
    torch.manual_seed(loop.seed)
    clip = TissueCLIP(
        len(axis), genes.input, genes.width, genes.tokens, genes.top_k, settings.tower, settings.revision,
        0 if features is None else features.shape[1], settings.widths, settings.image_px, settings.dim, settings.dropout,
    )  # fmt: skip
    if features is not None:
        clip.fit_tower(features)
    clip.encoder.fit(torch.from_numpy(np.concatenate(pairs.counts)))
    trained = train(Align(clip, loop), pairs, loop, folder, "aligning image and genes", on_preview)
    assert isinstance(trained, Align)
    trained.clip.facts = ClipFacts(
        axis.ids, axis.symbols, cohort.mpp, size, split.train,
        tuple(sorted({cohort.patients[name] for name in split.train})), None if frozen is None else frozen.name,
    )  # fmt: skip
    trained.clip.save(folder / "model")
    return TissueCLIP.load(folder / "model")


def train_denoiser(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    space: LatentSpace,
    folder: Path,
    on_preview: OnPreview = None,
    clip: TissueCLIP | None = None,
) -> tuple[Denoise, GeneAxis]:
    """Train GeneCondNet and the denoiser together, from the latent rasters of the training sections.

    With a CLIP, GeneCondNet begins with its gene trunk, and windows may be told its embedding of their picture.
    """
    axis = variable_genes(cohort, split.train, recipe.genes.genes)
    windows, genes, loop = recipe.windows, recipe.genes, recipe.train_denoiser
    torch.manual_seed(loop.seed)
    image_dim = clip.config.dim if clip is not None and loop.image_share > 0 else 0
    condnet = GeneCondNet(
        len(axis), genes.input, genes.width, genes.tokens, genes.top_k, windows.reach_um, image_dim
    )
    if clip is not None:
        condnet.encoder.load_state_dict(clip.encoder.state_dict())
        condnet.encoder.requires_grad_(recipe.clip is None or recipe.clip.trunk == "fine-tuned")
    else:
        spots = np.concatenate([cohort.sections[name].counts_on(axis)[0] for name in split.train])
        condnet.encoder.fit(torch.from_numpy(spots))
    channels, side = len(space.mean), windows.size_px // LATENT_STEP_PX
    denoiser = make_denoiser(recipe.denoiser, channels, side, genes.width)
    if not torch.cuda.is_available():
        denoiser = denoiser.to(memory_format=torch.channels_last)
    examples = LatentCrops(
        cohort, split.train, axis, space, genes, loop,
        size_px=windows.size_px, reach_um=windows.reach_um, max_spots=windows.max_spots, clip=clip,
    )  # fmt: skip
    # The preview shows windows drawn beyond the end of the run, so none of them is an example of it.
    first = loop.steps * loop.batch * loop.accumulate * 1000
    drawn = [examples.example(first + i) for i in range(PREVIEWS)]
    preview = {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}
    objective = Denoise(condnet, denoiser, space, preview)
    trained = train(objective, examples, loop, folder, "training the denoiser", on_preview)
    assert isinstance(trained, Denoise)
    return trained, axis


def train_generator(
    cohort: Cohort, split: Split, recipe: Recipe, run: Path, data: str = "", on_preview: OnPreview = None
) -> TissuePipeline:
    """Both stages and the finished generator in ``run/generator``; what is finished is not done again.

    Parameters
    ----------
    data
        A sentence on the data and its terms, for the model card.
    """
    if (run / "generator" / FACTS_FILE).is_file():
        found = TissuePipeline.from_pretrained(run / "generator")
        if found.facts is None or found.facts.trained_on != split.train or found.facts.mpp != cohort.mpp:
            raise StainglassError(
                run,
                "holds a generator that was trained on other sections",
                "Choose another --out, or pass --fresh",
            )
        return found
    if PartialState().num_processes > 1:
        raise StainglassError(
            run, "training over several processes is not possible yet", "Start one process; it uses one GPU"
        )
    timing = run / "timing.json"
    clip = _timed(timing, "clip", lambda: train_clip(cohort, split, recipe, run / "clip", on_preview))
    autoencoder = _timed(
        timing,
        "autoencoder",
        lambda: train_autoencoder(cohort, split, recipe, run / "autoencoder", on_preview),
    )
    space = _timed(timing, "encode", lambda: latent_space(cohort, split, recipe, autoencoder))
    trained, axis = _timed(
        timing,
        "denoiser",
        lambda: train_denoiser(cohort, split, recipe, space, run / "denoiser", on_preview, clip),
    )
    seconds = read_json(timing, "timing")
    pipeline = TissuePipeline(
        autoencoder, trained.condnet, trained.denoiser, make_scheduler(recipe.sampling.solver)
    )
    pipeline.facts = Facts(
        name=recipe.name,
        mpp=cohort.mpp,
        window_px=recipe.windows.size_px,
        reach_um=recipe.windows.reach_um,
        max_spots=recipe.windows.max_spots,
        gene_ids=axis.ids,
        gene_symbols=axis.symbols,
        latent_mean=tuple(float(v) for v in space.mean),
        latent_std=tuple(float(v) for v in space.std),
        trained_on=split.train,
        patients=tuple(sorted({cohort.patients[name] for name in split.train})),
        data=data,
        training={
            "autoencoder steps": recipe.train_autoencoder.steps
            if recipe.autoencoder.folder is None
            else "given",
            "denoiser steps": recipe.train_denoiser.steps,
            "batch": recipe.train_denoiser.batch,
            "seed": recipe.train_denoiser.seed,
            "seconds": {key: round(value) for key, value in seconds.items()},
            "device": str(torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"),
        },
    )
    pipeline.save_pretrained(run / "generator")
    return TissuePipeline.from_pretrained(run / "generator")


def _timed(path: Path, name: str, work: Callable[[], Any]) -> Any:
    """Do the work and add its seconds to ``timing.json`` (a resumed stage adds up)."""
    began = time.perf_counter()
    try:
        return work()
    finally:
        seconds = read_json(path, "timing") if path.is_file() else {}
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 1)
        write_json(path, seconds)
