"""Which spots and genes of a condition matter where in a patch: gradients of the picture the model has in mind.

At a noise level t the denoiser has a clean picture in mind: ``z = x_t − t v(x_t, t, condition)``, decoded. Its
derivative by the size of one spot's tokens (gradient × input, Shrikumar et al. 2017) is taken for every pixel at
once by forward-mode differentiation: a map a spot. The derivative of its mean darkness by the genes of all spots,
times how far each gene is from its training mean, is one number a gene. Both are means over several noise levels,
without guidance. This is what the network does at first order around this condition, not what tissue does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import decode_latents
from stainglass.models.genecondnet import ConditionTensors, Embedded
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.synthesis.noise import window_noise
from stainglass.synthesis.thin import thinned
from stainglass.units import LATENT_STEP_PX

LEVELS = (0.85, 0.6, 0.35)
"""Noise levels at which the picture in mind is differentiated: layout, then architecture, then cells."""

HALF_RANGE = 127.5
"""Decoded values lie in −1…1; times this they are grey levels."""


@dataclass(frozen=True)
class Attribution:
    """What each spot and each gene of a patch's condition does to its picture.

    Attributes
    ----------
    window
        The patch.
    picture
        uint8 (size, size, 3), painted under this condition.
    spots
        float32 (S, h, w), cells of 8 px: absolute change of brightness in grey levels for a doubling of the spot's
        tokens, at first order; zero for an empty slot.
    offsets_um_yx, present
        Of the S slots.
    share
        (S,) share of the summed maps; sums to 1 unless all are zero.
    genes
        (G,) grey levels by which each gene darkens (positive) or brightens the patch, against its training mean.
    symbols
        The model's genes.
    """

    window: Window
    picture: UInt8[np.ndarray, "size size 3"]
    spots: Float32[np.ndarray, "s h w"]
    offsets_um_yx: Float32[np.ndarray, "s 2"]
    present: Bool[np.ndarray, s]
    share: Float64[np.ndarray, s]
    genes: Float64[np.ndarray, g]
    symbols: tuple[str, ...]

    def top_genes(self, n: int) -> list[tuple[str, float]]:
        """The genes that matter most, by size."""
        order = np.argsort(-np.abs(self.genes), kind="stable")[:n]
        return [(self.symbols[i], float(self.genes[i])) for i in order]


def attribute(
    pipeline: TissuePipeline,
    window: Window,
    conditions: Conditions,
    settings: SamplerSettings,
    seed: int = 0,
) -> Attribution:
    """Attribute one patch to the spots and genes of its condition.

    Parameters
    ----------
    window
        The patch; its noise is the field's.
    conditions
        What it is told, of length 1.
    settings, seed
        How it is painted; of several candidates the first.

    Raises
    ------
    StainglassError
        When the patch is told of no spot, or by something other than genes.
    """
    if pipeline.facts is None or not hasattr(pipeline.condnet, "encoder"):
        raise StainglassError("generator", "is not told by genes", "Attribute a generator that is")
    if len(conditions) != 1 or not conditions.present.any():
        raise StainglassError(
            f"{window.section} {window.spot or ''}".strip(), "no spot in reach", "Choose another patch"
        )
    told = ConditionTensors.of(thinned(conditions, settings.thinning, seed, settings.depth), pipeline.device)
    channels = len(pipeline.facts.latent_mean)
    noise = torch.from_numpy(window_noise(seed, [window], channels)).to(pipeline.device)
    latents = pipeline.sample_latents(told, noise, settings)
    picture = decode_latents(pipeline.autoencoder, latents).cpu().numpy()[0]
    mind = _Mind(pipeline, latents, noise)
    with sdpa_kernel(SDPBackend.MATH):  # the only attention kernel with forward-mode derivatives
        maps = np.mean([mind.spot_maps(told, level) for level in LEVELS], axis=0)
        genes = np.mean([mind.gene_scores(told, level) for level in LEVELS], axis=0)
    whole = maps.sum()
    return Attribution(
        window,
        picture,
        maps.astype(np.float32),
        conditions.offsets_um_yx[0],
        conditions.present[0],
        maps.sum((1, 2)) / (whole if whole > 0 else 1.0),
        genes,
        pipeline.facts.gene_symbols,
    )


class _Mind:
    """The picture a denoiser has in mind of one patch, at any noise level of its way from noise to tissue."""

    def __init__(
        self, pipeline: TissuePipeline, latents: Float[Tensor, "1 c h w"], noise: Float[Tensor, "1 c h w"]
    ) -> None:
        assert pipeline.facts is not None
        self.pipeline = pipeline
        self.mean, self.std = (
            torch.tensor(v, device=noise.device)[:, None, None]
            for v in (pipeline.facts.latent_mean, pipeline.facts.latent_std)
        )
        self.clean, self.noise = (latents - self.mean) / self.std, noise

    def brightness(self, told: Embedded, level: float) -> Float[Tensor, "h w"]:
        """Mean brightness in grey levels of every 8 × 8 px of the picture in mind."""
        x = (1 - level) * self.clean + level * self.noise
        at = torch.full((1,), level, device=x.device)
        clean = x - level * self.pipeline.velocity(x, at, told)
        pixels = self.pipeline.autoencoder.decode(clean * self.std + self.mean).sample
        grey = pixels.mean(1, keepdim=True) * HALF_RANGE
        return torch.nn.functional.avg_pool2d(grey, LATENT_STEP_PX)[0, 0]

    def spot_maps(self, told: ConditionTensors, level: float) -> Float64[np.ndarray, "s h w"]:
        """Absolute derivative of brightness by the size of a spot's tokens, a map a slot."""
        slots = told.present.shape[1]
        with torch.no_grad():
            scaled = self._by_spot(told)
        size = torch.ones(slots, device=self.noise.device)

        def picture(size: Float[Tensor, s]) -> Float[Tensor, "h w"]:
            return self.brightness(scaled(size), level)

        maps = []
        for slot in range(slots):
            if not bool(told.present[0, slot]):
                maps.append(np.zeros(tuple(self.noise.shape[-2:])))
                continue
            direction = torch.zeros_like(size)
            direction[slot] = 1.0
            change = jvp(picture, (size,), (direction,))[1]
            maps.append(change.abs().double().cpu().numpy())
        return np.stack(maps)

    def _by_spot(self, told: ConditionTensors) -> Callable[[Float[Tensor, s]], Embedded]:
        """The condition with each spot's tokens, and its part in the pooled vector, scaled."""
        net = self.pipeline.condnet
        embedded = net(told)
        each, slots = net.config.tokens, told.present.shape[1]
        more = embedded.tokens.shape[1] - each * slots  # tokens that come from no spot stay as they are
        # What a spot adds to the pooled vector: the vector with it minus the vector without it.
        without = []
        for slot in range(slots):
            present = told.present.clone()
            present[0, slot] = False
            without.append(
                net(replace(told, present=present)).pooled if bool(told.present[0, slot]) else embedded.pooled
            )
        added = embedded.pooled - torch.stack(without)[:, 0]  # (S, W)

        def scaled(size: Float[Tensor, s]) -> Embedded:
            factor = torch.cat([size.repeat_interleave(each), size.new_ones(more)])
            tokens = embedded.tokens * factor[None, :, None]
            pooled = embedded.pooled + ((size - 1)[:, None] * added).sum(0, keepdim=True)
            return Embedded(tokens, embedded.mask, pooled)

        return scaled

    def gene_scores(self, told: ConditionTensors, level: float) -> Float64[np.ndarray, g]:
        """Minus d mean brightness / d (a gene's standardised level) × that level, summed over the spots."""
        seen: list[Tensor] = []

        def keep(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # Standardised levels, and plain ones: a condition by sets looks at the latter.
            leaves = tuple(a.detach().requires_grad_() for a in args[:2])
            seen.extend(leaves)
            return (*leaves, *args[2:])

        hook = self.pipeline.condnet.encoder.input.register_forward_pre_hook(keep)
        try:
            with torch.enable_grad():
                darkness = -self.brightness(self.pipeline.condnet(told), level).mean()
                gradients = torch.autograd.grad(darkness, seen, allow_unused=True)
        finally:
            hook.remove()
        found = torch.zeros_like(seen[0])
        for value, gradient in zip(seen, gradients, strict=True):
            if gradient is not None:
                found = found + gradient * value
        present = told.present[0][:, None]
        return np.asarray((found.detach() * present).sum(0).double().cpu().numpy())
