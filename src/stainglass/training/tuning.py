"""What a stage of fine-tuning changes: GeneCondNet alone, cross-attention, a LoRA, or the whole denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from diffusers.models.attention import BasicTransformerBlock
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from stainglass.config import DenoiserLoop
from stainglass.files import atomic_path
from stainglass.models.denoiser import is_stable_diffusion
from stainglass.training.processes import is_first

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Linear maps of every attention block that LoRA changes."""
FROM_TOKENS = ("attn2.to_k.", "attn2.to_v.")
"""Parts of names of the maps that read the tokens: all a denoiser must learn of a new language (custom diffusion,
Kumari et al. 2023)."""


def choose_trained(denoiser: Any, loop: DenoiserLoop) -> None:
    """Settle which parameters of the denoiser this stage trains; GeneCondNet's are left as they are."""
    if loop.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    denoiser.requires_grad_(loop.train == "all")
    if loop.train == "cross-attention":
        for name, parameter in denoiser.named_parameters():
            parameter.requires_grad_(any(part in name for part in FROM_TOKENS))
        for block in denoiser.modules():
            if isinstance(block, BasicTransformerBlock) and block.only_cross_attention:
                block.attn1.to_k.requires_grad_(True)
                block.attn1.to_v.requires_grad_(True)
    if loop.train == "lora":
        denoiser.add_adapter(
            LoraConfig(
                r=loop.lora_rank,
                lora_alpha=loop.lora_rank,
                init_lora_weights="gaussian",
                target_modules=list(ATTENTION),
            )
        )


def finish_stage(denoiser: Any, loop: DenoiserLoop, folder: Path) -> None:
    """Write a LoRA beside the stage's checkpoints, then merge it into the denoiser's weights.

    ``lora/`` is read by the ``load_lora_weights`` of diffusers' Stable Diffusion pipeline (of other denoisers by
    ``load_lora_adapter``). It is the change of this stage alone: on the plain checkpoint it gives the same network
    only when no earlier stage changed that.
    """
    if loop.gradient_checkpointing:
        denoiser.disable_gradient_checkpointing()
    if loop.train != "lora":
        return
    if is_first():
        _save_lora(denoiser, folder / "lora")
    denoiser.fuse_lora()
    denoiser.unload_lora()


def _save_lora(denoiser: Any, folder: Path) -> None:
    with atomic_path(folder) as temporary:
        if is_stable_diffusion(denoiser):
            layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(denoiser))
            StableDiffusionPipeline.save_lora_weights(temporary, unet_lora_layers=layers)
        else:
            denoiser.save_lora_adapter(temporary)
