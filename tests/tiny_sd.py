"""A Stable Diffusion checkpoint of the same classes and of the least size, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel

WIDTH = 48
"""Of the tokens; no recipe of the tests has it, so it must be taken from the checkpoint."""


TWO: dict[str, Any] = {
    "use_linear_projection": True,
    "attention_head_dim": [2, 4],
    "upcast_attention": True,
}
"""What sets the UNets of Stable Diffusion 2.x apart from those of 1.x."""


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """Stable Diffusion's UNet with two levels."""
    torch.manual_seed(1)
    given: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
    }
    return UNet2DConditionModel(**{**given, **changes})


def tiny_vae() -> AutoencoderKL:
    """Stable Diffusion's autoencoder, 8 × down."""
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64,
    )  # fmt: skip


def scheduler_of(prediction: str = "epsilon", zero_snr: bool = False) -> Any:
    """Stable Diffusion 1.x ships PNDM; a v-predicting checkpoint ships DDIM."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if prediction == "epsilon":
        return PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **betas)
    return DDIMScheduler(
        clip_sample=False, prediction_type=prediction, rescale_betas_zero_snr=zero_snr, **betas
    )


def tiny_checkpoint(folder: Path, scheduler: Any = None, **unet: Any) -> Path:
    """Write one as diffusers does, without text encoder, safety checker and the rest that is not read."""
    tiny_unet(**unet).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    (scheduler_of() if scheduler is None else scheduler).save_pretrained(folder / "scheduler")
    return folder
