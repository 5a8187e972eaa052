"""Checkpoints of Stable Diffusion 1.x and 2.x: what is taken from one, and what is saved as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float32

from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json
from stainglass.models.autoencoder import load_autoencoder
from stainglass.models.facts import write_facts
from stainglass.models.flow import flow_of
from stainglass.models.pipeline import TissuePipeline

PARTS = ("unet/*.json", "unet/*.safetensors", "vae/*.json", "vae/*.safetensors", "scheduler/*.json")
CONFIGS = tuple(part for part in PARTS if part.endswith(".json"))
NOT_NEEDED = ("*.fp16.*", "*non_ema*")
"""Variants of the same weights beside them."""


@dataclass(frozen=True)
class Checkpoint:
    """A Stable Diffusion checkpoint on this disk.

    Attributes
    ----------
    folder
        With ``unet/``, ``vae/`` and ``scheduler/``.
    name
        Where it came from; of a hub id with the commit.
    """

    folder: Path
    name: str

    def unet_config(self) -> dict[str, Any]:
        """The configuration of its UNet, checked to be one that GeneCondNet can speak to.

        Raises
        ------
        StainglassError
            When it is no UNet of Stable Diffusion 1.x or 2.x.
        """
        path = self.folder / "unet" / "config.json"
        if not path.is_file():
            raise StainglassError(
                self.folder, "no Stable Diffusion checkpoint (no unet/config.json)",
                "Give a diffusers folder or hub id of Stable Diffusion 1.x or 2.x",
            )  # fmt: skip
        config: dict[str, Any] = read_json(path, "UNet")
        finding = _unfit(config)
        if finding is not None:
            raise StainglassError(path, finding, "Give a checkpoint of Stable Diffusion 1.x or 2.x")
        return config

    def condition_width(self) -> int:
        """Width of the tokens its UNet hears."""
        return int(self.unet_config()["cross_attention_dim"])

    def load_unet(self) -> UNet2DConditionModel:
        """Its UNet, in full precision."""
        self.unet_config()
        return _loaded(UNet2DConditionModel, self.folder / "unet")

    def load_autoencoder(self) -> Any:
        """Its autoencoder."""
        return load_autoencoder(self.folder / "vae")

    def load_scheduler(self) -> Any:
        """Its scheduler, whichever class it names: betas and prediction type are its own.

        Raises
        ------
        StainglassError
            When diffusers has no such class, or its noise levels cannot be read from it.
        """
        path = self.folder / "scheduler" / "scheduler_config.json"
        name = str(read_json(path, "scheduler").get("_class_name", ""))
        kind = getattr(diffusers, name, None)
        if kind is None or not hasattr(kind, "set_timesteps"):
            raise StainglassError(
                path, f"{name or 'this'} is not a scheduler that diffusers knows", "Name one of diffusers'"
            )
        scheduler = kind.from_pretrained(path.parent)
        flow_of(scheduler)
        return scheduler


def _unfit(config: dict[str, Any]) -> str | None:
    """Why this is not a UNet of Stable Diffusion 1.x or 2.x, or None."""
    kind = config.get("_class_name")
    if kind != UNet2DConditionModel.__name__:
        return f"{kind or 'this'} is not the UNet of Stable Diffusion"
    if config.get("addition_embed_type") or config.get("encoder_hid_dim_type"):
        return "needs added conditions, as Stable Diffusion XL does"
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        return "needs class labels"
    if config.get("in_channels", 4) != config.get("out_channels", 4):
        return f"takes {config['in_channels']} channels and gives {config['out_channels']}, as for inpainting"
    if not isinstance(config.get("cross_attention_dim", 1280), int):
        return "has cross-attention of several widths"
    return None


def find_checkpoint(source: str, revision: str | None = None, parts: Sequence[str] = PARTS) -> Checkpoint:
    """A checkpoint by folder or hub id; of the latter, what is needed is fetched into the hub's own cache.

    Parameters
    ----------
    parts
        Patterns of what is needed: everything, or `CONFIGS` to look at its shape only.

    Raises
    ------
    StainglassError
        When the folder is none, or the hub does not give it.
    """
    folder = Path(source)
    if folder.is_dir():
        return Checkpoint(folder, source)
    if folder.is_absolute() or source.count("/") != 1:
        raise StainglassError(source, "no such folder, and no hub id", "Check denoiser.source")
    try:
        fetched = huggingface_hub.snapshot_download(
            source, revision=revision, allow_patterns=list(parts), ignore_patterns=list(NOT_NEEDED)
        )
    except Exception as error:  # the hub's client raises errors of its own, of httpx and of the disk
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StainglassError(
            f"hub {source}", f"cannot be fetched ({first})",
            "Check id, revision and network, or set denoiser.source to a folder",
        ) from error  # fmt: skip
    return Checkpoint(Path(fetched), f"{source}@{Path(fetched).name}")


def _loaded(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, use_safetensors=True, torch_dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise StainglassError(
            folder, f"cannot be loaded ({first})", "Give a folder with safetensors weights"
        ) from None


def require_latents(channels: int, autoencoder_channels: int, where: str) -> None:
    """Refuse an autoencoder whose latents have other channels than the denoiser takes."""
    if channels != autoencoder_channels:
        raise StainglassError(
            where,
            f"takes latents of {channels} channels, the autoencoder gives {autoencoder_channels}",
            "Leave autoencoder.folder out, or give one of the same latent space",
        )


def scaled_statistics(autoencoder: Any) -> tuple[Float32[np.ndarray, c], Float32[np.ndarray, c]] | None:
    """Mean and deviation by which Stable Diffusion normalises these latents; None for an autoencoder of ours."""
    config = autoencoder.config
    if "scaling_factor" not in config:
        return None
    channels = int(config["latent_channels"])
    shift = float(config.get("shift_factor") or 0.0)
    scale = 1 / float(config["scaling_factor"])
    return np.full(channels, shift, np.float32), np.full(channels, scale, np.float32)


def export_stable_diffusion(pipeline: TissuePipeline, folder: Path) -> Path:
    """Save a generator as a folder that diffusers' own ``StableDiffusionPipeline`` loads, without a text encoder.

    ``condnet/`` and ``stainglass.json`` lie beside its parts; `TissuePipeline.prompt_embeds` gives the tokens to hand
    to it. Load with ``text_encoder=None, tokenizer=None``.

    Raises
    ------
    StainglassError
        When the generator is not of Stable Diffusion's family, or its latents are not scaled as there.
    """
    statistics, facts = scaled_statistics(pipeline.autoencoder), pipeline.facts
    if not pipeline.hears_tokens_alone:
        raise StainglassError(
            folder, "this generator's denoiser is not of Stable Diffusion's family",
            "Train one with denoiser.kind=stable-diffusion",
        )  # fmt: skip
    if (
        facts is None
        or statistics is None
        or not np.allclose([facts.latent_mean, facts.latent_std], statistics)
    ):
        raise StainglassError(
            folder, "its latents are normalised by channel, which Stable Diffusion's pipeline cannot undo",
            "Train in the latent space of a diffusers autoencoder (autoencoder.folder or denoiser.source)",
        )  # fmt: skip
    whole = StableDiffusionPipeline(
        vae=pipeline.autoencoder, text_encoder=None, tokenizer=None, unet=pipeline.denoiser,
        scheduler=pipeline.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    with atomic_path(folder) as temporary:
        whole.save_pretrained(temporary, safe_serialization=True)
        pipeline.condnet.save_pretrained(temporary / "condnet", safe_serialization=True)
        write_facts(temporary, facts)
    return folder
