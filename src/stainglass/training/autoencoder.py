"""First stage: the run's own autoencoder, or one that is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.models.autoencoder import (
    TissueAutoencoder,
    load_autoencoder,
    make_autoencoder,
    pixels_to_input,
)
from stainglass.models.stable_diffusion import find_checkpoint
from stainglass.spread import spread
from stainglass.training.average import go_back
from stainglass.training.denoiser import PREVIEWS
from stainglass.training.loop import train
from stainglass.training.reconstruct import PixelCrops, Reconstruct, Sharpen
from stainglass.training.start import Start


def train_autoencoder(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
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
