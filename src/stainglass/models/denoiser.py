"""Denoisers: a small convolutional UNet, a small DiT, and the UNet of Stable Diffusion's family.

What they are given and what their answer means is their flow's (`stainglass.models.flow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin, PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.normalization import AdaLayerNormSingle
from jaxtyping import Float
from torch import Tensor, nn

from stainglass.config import Attention
from stainglass.config import Denoiser as DenoiserSettings
from stainglass.models.flow import Flow
from stainglass.models.genecondnet import Embedded, GeneCondNet


# ModelMixin is named as a base, though PixArt's transformer is one: diffusers' pipelines look for that name in this module
# to know how a TissueDiT is loaded.
class TissueDiT(PixArtTransformer2DModel, ModelMixin):
    """PixArt-α's transformer (Chen et al. 2023) with a pooled vector added to its time embedding.

    Parameters
    ----------
    latent_channels, latent_size
        Channels and side of the latents it was made for (other sizes work).
    width, layers, heads_of
        Width, blocks, channels an attention head.
    condition_width
        Width of tokens and pooled vector.
    patch
        Latent cells a token side.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        latent_size: int = 32,
        width: int = 192,
        layers: int = 6,
        heads_of: int = 32,
        condition_width: int = 128,
        patch: int = 2,
    ) -> None:
        super().__init__(
            num_attention_heads=width // heads_of,
            attention_head_dim=heads_of,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_layers=layers,
            cross_attention_dim=width,
            caption_channels=condition_width,
            sample_size=latent_size,
            patch_size=patch,
            norm_type="ada_norm_single",
            use_additional_conditions=False,
        )
        self.adaln_single = _PooledAdaLayerNorm(width, condition_width)


class _PooledAdaLayerNorm(AdaLayerNormSingle):
    """AdaLN-single whose time embedding also takes the pooled vector; starts as if there were none."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__(width)
        self.pooled = nn.Linear(condition_width, width)
        nn.init.zeros_(self.pooled.weight)
        nn.init.zeros_(self.pooled.bias)

    def forward(
        self,
        timestep: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        batch_size: int | None = None,
        hidden_dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        embedded = self.emb(
            timestep, resolution=None, aspect_ratio=None, batch_size=batch_size, hidden_dtype=hidden_dtype
        )
        if added_cond_kwargs and "pooled" in added_cond_kwargs:
            embedded = embedded + self.pooled(added_cond_kwargs["pooled"])
        return self.linear(self.silu(embedded)), embedded


def make_denoiser(
    settings: DenoiserSettings, latent_channels: int, latent_size: int, condition_width: int
) -> UNet2DConditionModel | TissueDiT:
    """Build the network that a recipe asks for, with fresh weights."""
    if settings.kind == "dit":
        dit = TissueDiT(
            latent_channels=latent_channels,
            latent_size=latent_size,
            width=settings.widths[0],
            layers=settings.layers,
            heads_of=settings.heads_of,
            condition_width=condition_width,
        )
        silence(dit.proj_out)
        return dit
    shape = (
        settings.widths, settings.layers, settings.heads_of, latent_channels, latent_size, condition_width
    )  # fmt: skip
    unet = (
        make_sd_unet(*shape) if settings.kind == "stable-diffusion" else make_unet(*shape, settings.attention)
    )
    silence(unet.conv_out)
    return unet


def attention_blocks(attention: Attention, levels: int) -> dict[str, Any]:
    """What diffusers' UNet is told of attention: which blocks have it, and which of those hear tokens alone."""
    silent = {"coarsest": levels - 1, "coarse": 1}.get(attention, 0)  # levels that have none, from the finest
    heard = ("",) * silent + ("CrossAttn",) * (levels - silent)
    return {
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in heard),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(heard)),
        "only_cross_attention": (True, *(False,) * (levels - 1)) if attention == "tokens" else False,
    }


def middle_of(denoiser: Any) -> tuple[nn.Module, int]:
    """The module whose output is half-way through a denoiser, and the channels of that output."""
    if isinstance(denoiser, TissueDiT):
        return denoiser.transformer_blocks[len(denoiser.transformer_blocks) // 2], denoiser.config.width
    return denoiser.mid_block, int(denoiser.config.block_out_channels[-1])


def silence(layer: nn.Module) -> None:
    """Start at zero: the preconditioning's guess alone speaks."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def make_unet(
    widths: Sequence[int],
    layers: int,
    heads_of: int,
    latent_channels: int,
    latent_size: int,
    condition_width: int,
    attention: Attention = "coarse",
) -> UNet2DConditionModel:
    """diffusers' UNet; at the finest level, where attention costs most, there is none, or it hears tokens alone, or is whole."""
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        **attention_blocks(attention, len(widths)),
        cross_attention_dim=condition_width,
        attention_head_dim=tuple(max(w // heads_of, 1) for w in widths),
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=condition_width,
    )


def make_sd_unet(
    widths: Sequence[int],
    layers: int,
    heads_of: int,
    latent_channels: int,
    latent_size: int,
    condition_width: int,
) -> UNet2DConditionModel:
    """The UNet of Stable Diffusion's family: cross-attention everywhere but at the coarsest level; tokens alone."""
    fine = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D",) * fine + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * fine,
        cross_attention_dim=condition_width,
        attention_head_dim=tuple(max(w // heads_of, 1) for w in widths),
        norm_num_groups=32 if all(w % 32 == 0 for w in widths) else 16,
    )


def predict_velocity(
    denoiser: nn.Module, x: Float[Tensor, "b c h w"], t: Float[Tensor, b], told: Embedded, flow: Flow
) -> Float[Tensor, "b c h w"]:
    """One forward of any denoiser.

    Parameters
    ----------
    x
        Noisy latents, normalised.
    t
        Noise level of each, 0…1.
    told
        Conditioning of GeneCondNet; for Stable Diffusion's family as `hear` puts it.
    flow
        What the network is given and what its answer means.
    """
    precision = next(denoiser.parameters()).dtype
    answer = _forward(denoiser, flow.network_input(x, t).to(precision), flow.timestep(t), told)
    return flow.velocity(x, t, answer.to(x.dtype))


def is_stable_diffusion(denoiser: nn.Module) -> bool:
    """Whether it is a plain UNet of Stable Diffusion's family: it hears tokens and nothing else."""
    inner: Any = getattr(denoiser, "module", denoiser)
    return isinstance(inner, UNet2DConditionModel) and inner.config.class_embed_type is None


def hear(denoiser: nn.Module, told: Embedded, condnet: GeneCondNet, pooled: bool) -> Embedded:
    """Conditioning as this denoiser takes it.

    Stable Diffusion has no place for a pooled vector, which becomes one more token, and its pipelines pass no mask:
    it hears a fixed count of tokens, null tokens where a window has no spot. So plain diffusers paints the same
    picture when it is handed these tokens as ``prompt_embeds``. Our own denoisers take the condition as it is.

    Parameters
    ----------
    pooled
        Whether the pooled vector is told.
    """
    if not is_stable_diffusion(denoiser):
        return told
    null = condnet.token_norm(condnet.null_tokens).to(told.tokens.dtype)
    slots = torch.arange(told.tokens.shape[1], device=null.device) % len(null)
    tokens = torch.where(told.mask[..., None], told.tokens, null[slots])
    if pooled:
        tokens = torch.cat([tokens, told.pooled[:, None].to(tokens.dtype)], 1)
    return Embedded(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), told.pooled)


def _forward(
    denoiser: nn.Module, x: Float[Tensor, "b c h w"], timestep: Float[Tensor, b], told: Embedded
) -> Float[Tensor, "b c h w"]:
    """The bare network, whichever it is."""
    inner: Any = getattr(denoiser, "module", denoiser)
    if is_stable_diffusion(denoiser):
        return denoiser(x, timestep, encoder_hidden_states=told.tokens).sample
    mask = told.mask.to(x.dtype)
    if isinstance(inner, PixArtTransformer2DModel):
        return denoiser(
            x,
            encoder_hidden_states=told.tokens,
            encoder_attention_mask=mask,
            timestep=timestep,
            added_cond_kwargs={"pooled": told.pooled},
        ).sample
    return denoiser(
        x,
        timestep,
        # diffusers passes no mask where a block hears tokens in place of itself (attention: tokens): empty slots say nothing.
        encoder_hidden_states=told.tokens * mask[..., None],
        encoder_attention_mask=mask,
        class_labels=told.pooled,
    ).sample
