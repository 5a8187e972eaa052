"""Denoisers: a small convolutional UNet and a small DiT, both predicting the velocity of a flow.

Rectified flow (Liu et al. 2022; Lipman et al. 2022): ``x_t = (1 − t) z + t ε``, and ``v = ε − z`` is predicted
from ``x_t`` and the noise level t in 0 (clean) … 1 (noise).

The networks are preconditioned as in EDM (Karras et al. 2022), carried over to this flow: were z standard normal,
the best guess would be ``v = (2t − 1) / s² · x_t`` with ``s² = (1 − t)² + t²``; the network sees ``x_t / s`` and adds
to that guess a correction of its own, scaled by ``1 / s``. It starts at zero, so training begins at the best linear
guess and spends its steps on what is not linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.normalization import AdaLayerNormSingle
from jaxtyping import Float
from torch import Tensor, nn

from stainglass.config import Denoiser as DenoiserSettings
from stainglass.models.genecondnet import Embedded

TIME_SCALE = 1000.0
"""diffusers' time embeddings expect steps of 0…1000."""


class TissueDiT(PixArtTransformer2DModel):
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
        _silence(dit.proj_out)
        return dit
    unet = make_unet(
        settings.widths, settings.layers, settings.heads_of, latent_channels, latent_size, condition_width
    )
    _silence(unet.conv_out)
    return unet


def _silence(layer: nn.Module) -> None:
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
) -> UNet2DConditionModel:
    """diffusers' UNet, attention everywhere but at the finest level, where it costs most and gives least."""
    deep = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deep,
        up_block_types=("CrossAttnUpBlock2D",) * deep + ("UpBlock2D",),
        cross_attention_dim=condition_width,
        attention_head_dim=tuple(max(w // heads_of, 1) for w in widths),
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=condition_width,
    )


def predict_velocity(
    denoiser: nn.Module, x: Float[Tensor, "b c h w"], t: Float[Tensor, b], told: Embedded
) -> Float[Tensor, "b c h w"]:
    """One forward of any denoiser.

    Parameters
    ----------
    x
        Noisy latents, normalised.
    t
        Noise level of each, 0…1.
    told
        Conditioning of GeneCondNet.
    """
    at = t[:, None, None, None]
    variance = (1 - at) ** 2 + at**2
    correction = _forward(denoiser, x * variance.rsqrt(), t, told)
    return (2 * at - 1) / variance * x + variance.rsqrt() * correction


def _forward(
    denoiser: nn.Module, x: Float[Tensor, "b c h w"], t: Float[Tensor, b], told: Embedded
) -> Float[Tensor, "b c h w"]:
    """The bare network, whichever it is."""
    inner: Any = getattr(denoiser, "module", denoiser)
    mask = told.mask.to(x.dtype)
    if isinstance(inner, PixArtTransformer2DModel):
        return denoiser(
            x,
            encoder_hidden_states=told.tokens,
            encoder_attention_mask=mask,
            timestep=t * TIME_SCALE,
            added_cond_kwargs={"pooled": told.pooled},
        ).sample
    return denoiser(
        x,
        t * TIME_SCALE,
        encoder_hidden_states=told.tokens,
        encoder_attention_mask=mask,
        class_labels=told.pooled,
    ).sample
