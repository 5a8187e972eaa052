"""GeneCondNet: the spots in reach of a window → tokens for cross-attention and a pooled vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stainglass.cohort.windows import Conditions
from stainglass.models.gene_encoder import GeneEncoder, GeneInput

OFFSET_WAVES = 6


@dataclass(frozen=True)
class ConditionTensors:
    """`Conditions` of a batch as tensors; see there for the meaning."""

    counts: Float[Tensor, "b s g"]
    offsets_um_yx: Float[Tensor, "b s 2"]
    diameters_um: Float[Tensor, "b s"]
    present: Bool[Tensor, "b s"]
    measured: Bool[Tensor, "b g"] | None = None
    images: Float[Tensor, "b d"] | None = None

    @classmethod
    def of(cls, conditions: Conditions, device: torch.device | str = "cpu") -> ConditionTensors:
        """Move numpy conditions to a device."""
        measured, images = conditions.measured, conditions.images
        return cls(
            torch.from_numpy(conditions.counts).to(device),
            torch.from_numpy(conditions.offsets_um_yx).to(device),
            torch.from_numpy(conditions.diameters_um).to(device),
            torch.from_numpy(conditions.present).to(device),
            None if measured is None else torch.from_numpy(measured).to(device),
            None if images is None else torch.from_numpy(images).to(device),
        )

    def null(self) -> ConditionTensors:
        """The same number of windows, told nothing."""
        return ConditionTensors(
            self.counts, self.offsets_um_yx, self.diameters_um, torch.zeros_like(self.present), self.measured
        )


@dataclass(frozen=True)
class Embedded:
    """What the denoiser is told."""

    tokens: Float[Tensor, "b t w"]
    mask: Bool[Tensor, "b t"]
    pooled: Float[Tensor, "b w"]


class GeneCondNet(ModelMixin, ConfigMixin):
    """Expression of the spots in reach of a window → conditioning of a denoiser.

    Each spot gives M tokens (gene encoder trunk) to which an embedding of its offset from the window's
    centre is added; a pooled vector weighs the spots by offset. A window without spots gets learned null
    tokens and a learned null vector, which is also what guidance contrasts with. Because spots carry
    offsets and diameters in µm, the same weights serve a patch, a window between spots and a whole slide.

    Parameters
    ----------
    genes
        Length of the gene axis.
    input
        ``profile``, ``set``, ``pca`` or ``gene-sets``; see `GeneEncoder`.
    width
        Width of tokens and pooled vector; the denoiser's cross-attention width.
    tokens
        Tokens a spot.
    top_k
        Genes of a set.
    reach_um
        Scale of the offset embedding: the distance up to which spots condition a window.
    image_dim
        Length of the CLIP embedding of a picture that may be told instead of, or beside, genes; 0: none may.
    components
        Of ``pca``.
    pools
        Without, the pooled vector of every window is the learned null one: tokens alone tell.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        genes: int,
        input: GeneInput = "profile",
        width: int = 128,
        tokens: int = 4,
        top_k: int = 50,
        reach_um: float = 150.0,
        image_dim: int = 0,
        components: int = 50,
        pools: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = GeneEncoder(genes, input, width, tokens, top_k, components)
        self.offset = nn.Sequential(
            nn.Linear(4 * OFFSET_WAVES + 2, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.weigh = nn.Linear(width, 1)
        self.pool = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.token_norm = nn.LayerNorm(width)
        self.null_tokens = nn.Parameter(torch.randn(tokens, width))
        self.null_pooled = nn.Parameter(torch.zeros(width))
        self.image = nn.Linear(image_dim, (tokens + 1) * width) if image_dim else None

    def forward(self, c: ConditionTensors) -> Embedded:
        """Embed a batch of conditions."""
        b, s, g = c.counts.shape
        measured = None if c.measured is None else c.measured[:, None].expand(b, s, g).reshape(b * s, g)
        tokens, vectors = self.encoder(c.counts.reshape(b * s, g), c.diameters_um.reshape(-1), measured)
        place = self.offset(self._offset_features(c.offsets_um_yx).to(self.dtype))
        tokens = self.token_norm(tokens.unflatten(0, (b, s)) + place[:, :, None])
        weight = self.weigh(place).squeeze(-1).float().masked_fill(~c.present, -1e9).softmax(-1)
        pooled = self.pool((weight[..., None] * vectors.unflatten(0, (b, s))).sum(1).to(self.dtype))
        told = c.present.any(-1)
        # Not by `where`, which would copy the number to a GPU every time.
        pooled = pooled.masked_fill(~told[:, None], 0)
        mask = c.present
        if self.image is not None:
            shown, from_image, vector = self._image(c, tokens)
            tokens, mask = torch.cat([tokens, from_image], 1), torch.cat([mask, shown[:, None]], 1)
            pooled, told = pooled + vector, told | shown
        groups, m = tokens.shape[1:3]
        tokens = torch.where(told[:, None, None, None], tokens, self._null(groups))
        mask = torch.where(told[:, None], mask, torch.arange(groups, device=told.device) == 0)
        return Embedded(
            tokens.flatten(1, 2),
            mask.repeat_interleave(m, 1),
            torch.where(told[:, None] & self.config.pools, pooled, self.null_pooled.to(pooled.dtype)),
        )

    def _image(
        self, c: ConditionTensors, like: Float[Tensor, "b s m w"]
    ) -> tuple[Bool[Tensor, b], Float[Tensor, "b 1 m w"], Float[Tensor, "b w"]]:
        """Which windows are told a picture, its tokens, and its share of the pooled vector."""
        assert self.image is not None
        b, _, m, w = like.shape
        if c.images is None:
            nothing = like.new_zeros(b, 1, m, w)
            return torch.zeros(b, dtype=torch.bool, device=like.device), nothing, nothing[:, 0, 0]
        shown = (c.images != 0).any(-1)
        found = self.image(c.images.to(self.dtype)).unflatten(-1, (m + 1, w)) * shown[:, None, None]
        return shown, self.token_norm(found[:, None, :m]), found[:, m]

    def _null(self, spots: int) -> Float[Tensor, "1 s m w"]:
        """Null tokens in the first slot; the other slots are masked."""
        first = self.token_norm(self.null_tokens)
        return torch.cat([first[None], torch.zeros_like(first).expand(spots - 1, -1, -1)])[None]

    def _offset_features(self, offsets_um: Float[Tensor, "b s 2"]) -> Float[Tensor, "b s f"]:
        """(y, x) in units of the reach, and sines and cosines of 6 octaves from two reaches down."""
        unit = offsets_um / self.config.reach_um
        waves = math.pi / 2 * 2.0 ** torch.arange(OFFSET_WAVES, device=unit.device, dtype=unit.dtype)
        angle = (unit[..., None] * waves).flatten(-2)
        return torch.cat([unit, angle.sin(), angle.cos()], -1)
