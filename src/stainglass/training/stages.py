"""The two stages of training a generator, and putting it together."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, write_json
from stainglass.models.autoencoder import (
    TissueAutoencoder,
    load_autoencoder,
    make_autoencoder,
    pixels_to_input,
)
from stainglass.models.builtin import resolve_autoencoder
from stainglass.models.clip import FACTS_FILE as CLIP_FACTS
from stainglass.models.clip import ClipFacts, TissueCLIP
from stainglass.models.facts import (
    CUTS,
    EXPRESSION_OF,
    FACTS_FILE,
    GONE_ON,
    GUIDED_BY,
    LENT_BY,
    TOOK_PART,
    Facts,
    read_facts,
)
from stainglass.models.features import EfficientNetLite0
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.stable_diffusion import find_checkpoint
from stainglass.models.texture import texture_numbers
from stainglass.models.towers import CONVNET, load_tower
from stainglass.spread import spread
from stainglass.training.align import Align, Pairs, fit_linear
from stainglass.training.average import go_back
from stainglass.training.denoise import LatentSpace
from stainglass.training.denoiser import PREVIEWS, TrainedDenoiser, told_sections, train_denoiser
from stainglass.training.encode import latent_space
from stainglass.training.fit import variable_genes
from stainglass.training.loop import train
from stainglass.training.processes import by_the_first, is_first, processes
from stainglass.training.reconstruct import PixelCrops, Reconstruct, Sharpen
from stainglass.training.select import ready_to_select
from stainglass.training.start import Start, load_start, refuse_seen

OnPreview = Callable[[Path], None] | None


def train_autoencoder(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    folder: Path,
    on_preview: OnPreview = None,
    start: Start | None = None,
) -> Any:
    """Train the run's own autoencoder, or load the one the recipe names; a start's is taken, its decoder sharpened when asked.

    Parameters
    ----------
    folder
        ``autoencoder/`` of the run; the result lies in ``model/``. A finished one is loaded.

    Raises
    ------
    StainglassError
        When a start's autoencoder is not ours and shall be sharpened.
    """
    loop = recipe.train_autoencoder
    if start is not None and loop.sharpen_steps == 0:
        if isinstance(start.pipeline.autoencoder, TissueAutoencoder):
            other_decoder(start.pipeline.autoencoder, recipe)
        return start.pipeline.autoencoder
    if recipe.autoencoder.folder is not None:
        return load_autoencoder(recipe.autoencoder.folder)
    if recipe.denoiser.source is not None:
        return find_checkpoint(recipe.denoiser.source, recipe.denoiser.revision).load_autoencoder()
    finished = folder / "model"
    if (finished / "config.json").is_file():
        return load_autoencoder(finished)
    shown = cohort.patches(split.train, recipe.windows.size_px)
    samples = pixels_to_input(
        torch.from_numpy(cohort.pixels([shown[i] for i in spread(len(shown), PREVIEWS)]))
    )
    torch.manual_seed(loop.seed)
    network = _to_train(recipe, start)
    if not torch.cuda.is_available():
        network = network.to(memory_format=torch.channels_last)  # measured a third faster on CPUs
    if start is None:
        examples = PixelCrops(cohort, split.train, loop.crop_px, loop.seed)
        objective = Reconstruct(network, samples, loop.latent_noise)
        train(objective, examples, loop, folder, "training the autoencoder", on_preview)
    if loop.sharpen_steps > 0:
        after = {"steps": loop.sharpen_steps, "seed": loop.seed + 1, "learning_rate": loop.learning_rate / 2}
        sharpen = loop.model_copy(update=after)
        crops = PixelCrops(cohort, split.train, loop.crop_px, sharpen.seed)
        sharper = Sharpen(
            network, samples, loop.latent_noise,
            texture=loop.texture, similarity=loop.similarity, adversary=loop.adversary,
        )  # fmt: skip
        train(sharper, crops, sharpen, folder / "sharpen", "sharpening the decoder", on_preview)
    if start is not None and loop.stay > 0:
        go_back(network.decoder, start.pipeline.autoencoder.decoder.state_dict(), loop.stay)
    with atomic_path(finished) as temporary:
        network.save_pretrained(temporary, safe_serialization=True)
    return load_autoencoder(finished)


def _to_train(recipe: Recipe, start: Start | None) -> TissueAutoencoder:
    """A fresh autoencoder, or a copy of the start's, with a fresh decoder where the recipe asks for another shape of it."""
    if start is None:
        return make_autoencoder(recipe.autoencoder)
    network = start.pipeline.autoencoder
    if not isinstance(network, TissueAutoencoder):
        raise StainglassError(
            "train_autoencoder.sharpen_steps", f"{start.name} has an autoencoder that is not ours",
            "Set train_autoencoder.sharpen_steps=0",
        )  # fmt: skip
    asked = other_decoder(network, recipe)
    return copy.deepcopy(network) if asked is None else network.with_decoder(*asked)


def other_decoder(
    network: TissueAutoencoder, recipe: Recipe
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Widths and blocks of the decoder that is asked for, if it is another than the network's.

    Raises
    ------
    StainglassError
        When it is, and would not be trained, or a share of the one before should stay.
    """
    settings, loop, own = recipe.autoencoder, recipe.train_autoencoder, network.config
    shape = tuple(own.decoder_widths or own.widths), tuple(own.decoder_blocks or own.blocks)
    asked = settings.decoder_widths or shape[0], settings.decoder_blocks or shape[1]
    if asked == shape:
        return None
    if loop.sharpen_steps == 0:
        raise StainglassError(
            "autoencoder.decoder_widths, decoder_blocks", "ask for another decoder, and nothing would train it",
            "Set train_autoencoder.sharpen_steps, for instance to 4000",
        )  # fmt: skip
    if loop.stay > 0:
        raise StainglassError(
            "train_autoencoder.stay", "the decoder has another shape than before, of which nothing can stay",
            "Set train_autoencoder.stay=0, or leave autoencoder.decoder_widths and decoder_blocks out",
        )  # fmt: skip
    return asked


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
        settings.linear, settings.linear_share,
        texture_numbers(size) + (0 if features is None else features.shape[1]), genes.components,
    )  # fmt: skip
    if features is not None:
        clip.fit_tower(features)
    clip.encoder.fit(torch.from_numpy(np.concatenate(pairs.counts)), axis.ids)
    trained = train(Align(clip, loop), pairs, loop, folder, "aligning image and genes", on_preview)
    assert isinstance(trained, Align)
    if settings.linear:
        fit_linear(trained.clip, cohort, split.train, axis, recipe.windows)
    trained.clip.facts = ClipFacts(
        axis.ids, axis.symbols, cohort.mpp, size, recipe.windows.reach_um, recipe.windows.max_spots, split.train,
        tuple(sorted({cohort.patients[name] for name in split.train})), None if frozen is None else frozen.name,
    )  # fmt: skip
    trained.clip.save(folder / "model")
    return TissueCLIP.load(folder / "model")


def train_generator(
    cohort: Cohort, split: Split, recipe: Recipe, run: Path, data: str = "", on_preview: OnPreview = None
) -> TissuePipeline:
    """Both stages and the finished generator in ``run/generator``; what is finished is not done again.

    Of several processes (see `stainglass.training.processes`) all train the denoiser.

    Parameters
    ----------
    data
        A sentence on the data and its terms, for the model card.
    """
    if (run / "generator" / FACTS_FILE).is_file():
        return _finished(run, cohort, split)
    _refuse_nowhere_to_move(recipe, told_sections(split, recipe.train_denoiser))
    lent = _lender(recipe)
    if lent is not None:
        refuse_seen(cohort, split, lent.name, lent)
    start, source = load_start(recipe, cohort, split), None
    if start is not None:
        same_checkpoint(run / "checkpoint.json", start.fingerprint)
    if recipe.denoiser.source is not None:  # before anything is trained for it
        checkpoint = find_checkpoint(recipe.denoiser.source, recipe.denoiser.revision)
        checkpoint.condition_width()
        source = same_checkpoint(run / "checkpoint.json", checkpoint.name)
    timing = run / "timing.json"
    clip = timed(
        timing,
        "clip",
        lambda: by_the_first(lambda: train_clip(cohort, split, recipe, run / "clip", on_preview)),
    )
    autoencoder = timed(
        timing,
        "autoencoder",
        lambda: by_the_first(
            lambda: train_autoencoder(cohort, split, recipe, run / "autoencoder", on_preview, start)
        ),
    )
    space = timed(
        timing,
        "encode",
        lambda: latent_space(cohort, split, recipe, autoencoder, None if start is None else start.facts),
    )
    trained = timed(
        timing,
        "denoiser",
        lambda: train_denoiser(cohort, split, recipe, space, run / "denoiser", on_preview, clip, start),
    )
    pipeline = TissuePipeline(autoencoder, trained.condnet, trained.denoiser, trained.scheduler)
    pipeline.facts = _facts(cohort, split, recipe, space, trained, data, run, source, clip, start)
    if lent is not None:
        pipeline.facts = pipeline.facts.decoded_by(lent)
    return save_generator(pipeline, run / "generator", recipe, cohort, split)


def _lender(recipe: Recipe) -> Facts | None:
    """The generator whose autoencoder is taken, where ``autoencoder.folder`` is one's: that has seen tissue too."""
    if recipe.autoencoder.folder is None:
        return None
    folder = resolve_autoencoder(recipe.autoencoder.folder).resolve().parent
    return read_facts(folder) if (folder / FACTS_FILE).is_file() else None


def _refuse_nowhere_to_move(recipe: Recipe, told: tuple[str, ...]) -> None:
    if recipe.genes.section_shift > 0 and len(told) < 2:
        raise StainglassError(
            "genes.section_shift",
            f"moves expression between training sections, and {told[0]} is the only one that is told",
            "Set genes.section_shift=0",
        )


def _finished(run: Path, cohort: Cohort, split: Split) -> TissuePipeline:
    """The generator that is there, if it is of these sections; one that was gone on from may have seen others before."""
    found = TissuePipeline.from_pretrained(run / "generator")
    facts = found.facts
    if facts is None or not trained_on_these(facts, split) or facts.mpp != cohort.mpp:
        raise StainglassError(
            run,
            "holds a generator that was trained on other sections",
            "Choose another --out, or pass --fresh",
        )
    return found


def trained_on_these(facts: Facts, split: Split) -> bool:
    """Whether these are its training sections; where it has learnt from other generators, the last it was trained on."""
    own_alone = not {GONE_ON, GUIDED_BY, LENT_BY} & facts.training.keys()
    return (facts.trained_on if own_alone else facts.trained_on[: len(split.train)]) == split.train


def save_generator(
    pipeline: TissuePipeline, folder: Path, recipe: Recipe, cohort: Cohort, split: Split
) -> TissuePipeline:
    """Save a generator in the recipe's precision and take up again what was saved: that is what will be judged.

    One that is to paint several candidates learns first to choose between them.
    """
    ready_to_select(pipeline, cohort, told_sections(split, recipe.train_denoiser), recipe.sampling.candidates)
    if recipe.half:
        # torch's own `to`: that of diffusers warns of modules that must stay in single precision, and there are none.
        for part in (pipeline.autoencoder, pipeline.condnet, pipeline.denoiser):
            nn.Module.to(part, torch.float16)
    if is_first():
        pipeline.save_pretrained(folder)
    processes().wait_for_everyone()
    return TissuePipeline.from_pretrained(folder)


def _cuts(cohort: Cohort, split: Split) -> dict[str, list[float]]:
    """Where the training sections that are blocks were cut."""
    found = {}
    for name in split.train:
        section = cohort.sections[name]
        if section.block is not None:
            block = section.block[0]
            found[section.source_id] = [block.axis, block.train_below_um, block.test_from_um]
    return found


def _facts(
    cohort: Cohort, split: Split, recipe: Recipe, space: LatentSpace, trained: TrainedDenoiser,
    data: str, run: Path, source: str | None, clip: TissueCLIP | None, start: Start | None,
) -> Facts:  # fmt: skip
    """What travels with the generator."""
    own, loop, axis = recipe.train_autoencoder, recipe.train_denoiser, trained.axis
    stages = [f"{stage.train} {stage.steps}" for stage in loop.in_stages()]
    given = recipe.autoencoder.folder is not None or source is not None or start is not None
    seconds = read_json(run / "timing.json", "timing")
    tower = None if clip is None or clip.facts is None else clip.facts.tower
    took_part = [*([tower] if tower else []), *([EfficientNetLite0.name] if loop.representation else [])]
    patients = {cohort.patients[name] for name in split.train} | {one.patient for one in trained.expression}
    gene_steps, shifted = recipe.genes.pretrain_steps, recipe.genes.section_shift
    facts = Facts(
        name=recipe.name,
        mpp=cohort.mpp,
        window_px=recipe.windows.size_px,
        reach_um=recipe.windows.reach_um,
        max_spots=recipe.windows.max_spots,
        told=recipe.genes.told,
        gene_ids=axis.ids,
        gene_symbols=axis.symbols,
        latent_mean=tuple(float(v) for v in space.mean),
        latent_std=tuple(float(v) for v in space.std),
        trained_on=split.train,
        patients=tuple(sorted(patients)),
        data=data,
        training={
            **({} if not (cuts := _cuts(cohort, split)) else {CUTS: cuts}),
            "autoencoder steps": "given" if given else own.steps,
            **({"sharpening steps": own.sharpen_steps} if own.sharpen_steps and (start or not given) else {}),
            **({} if source is None else {"fine-tuned from": source}),
            "denoiser steps": loop.all_steps,
            **({} if not loop.stages else {"stages": ", ".join(stages)}),
            **({} if not gene_steps else {"gene encoder steps": gene_steps}),
            **({} if not trained.expression else {EXPRESSION_OF: [one.id for one in trained.expression]}),
            **({} if not shifted else {"expression moved between sections": shifted}),
            **({} if not took_part else {TOOK_PART: took_part}),
            **({} if not loop.unpaired else {"without their expression": ", ".join(loop.unpaired)}),
            "batch": loop.batch * loop.accumulate * processes().num_processes,
            "seed": loop.seed,
            "seconds": {key: round(value) for key, value in seconds.items()},
            "device": device_name(),
        },
        pooled=recipe.denoiser.pooled == "token" if start is None else start.facts.pooled,
        sampling=asdict(SamplerSettings.of(recipe.sampling)),
        stains=tuple(stain.told() for stain in space.stains),
    )
    return facts if start is None else start.gone_on(facts)


def device_name() -> str:
    """What trains here, for the model card."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "CPU"


def same_checkpoint(path: Path, name: str) -> str:
    """The name of what a run begins with, written down then: a hub id or folder that changed meanwhile is not gone on with.

    Raises
    ------
    StainglassError
        When the run began with another checkpoint, or another commit of it.
    """
    if path.is_file():
        began = read_json(path, "checkpoint")["source"]
        if began != name:
            raise StainglassError(
                path.parent, f"began with {began}, and {name} was found now",
                "Restore the former (denoiser.revision pins a hub id), or choose another --out",
            )  # fmt: skip
    write_json(path, {"source": name})
    return name


def timed(path: Path, name: str, work: Callable[[], Any]) -> Any:
    """Do the work and add its seconds to ``timing.json`` (a resumed stage adds up)."""
    began = time.perf_counter()
    try:
        done = work()
    finally:
        if is_first():
            seconds = read_json(path, "timing") if path.is_file() else {}
            seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 1)
            write_json(path, seconds)
    processes().wait_for_everyone()  # others read these seconds too
    return done
