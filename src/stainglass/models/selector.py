"""Best of several: which of some painted candidates shows the expression that was told."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

from stainglass.genes.normalise import COUNTS_PER
from stainglass.models.denoiser import TissueDiT
from stainglass.models.genecondnet import ConditionTensors

FAINT = 1e-6


class Selector(ModelMixin, ConfigMixin):
    """How far the expression that is read from latents is from the expression that was told.

    A denoiser that is shown a noisy picture, and told nothing, finds out for itself what tissue it is looking at:
    features of its blocks are good ones (Baranchuk et al. 2022). From their mean and deviation, channel by channel, a ridge reads
    the leading components of the nearest spot's expression. Of several candidates the one is kept that reads most like what
    was told (best of n; search by a verifier, Ma et al. 2025). No judge has part in it, and nothing but what was told decides.

    Parameters
    ----------
    features
        Length of `block_statistics`.
    genes
        Length of the gene axis.
    components
        Of expression, that are compared.
    level
        Noise level at which latents are shown.
    """

    config_name = "config.json"
    usual: Tensor

    @register_to_config
    def __init__(self, features: int, genes: int, components: int = 16, level: float = 0.5) -> None:
        super().__init__()
        self.read = nn.Linear(features, components)
        self.told = nn.Linear(genes, components, bias=False)
        self.register_buffer("usual", torch.zeros(genes))

    def forward(self, seen: Float[Tensor, "b d"], conditions: ConditionTensors) -> Float[Tensor, b]:
        """How well each picture agrees with what was told: 0 at best, and where nothing was told.

        Parameters
        ----------
        seen
            `block_statistics` of the pictures.
        conditions
            What was told; the spot nearest to the centre counts.
        """
        expression = nearest_expression(conditions) - self.usual
        if conditions.measured is not None:
            expression = expression * conditions.measured
        read, told = self.read(seen.to(self.dtype)), self.told(expression.to(self.dtype))
        distance = (read - told).float().square().sum(1)
        return -distance.masked_fill(~conditions.present.any(1), 0.0)


def nearest_expression(conditions: ConditionTensors) -> Float[Tensor, "b g"]:
    """log1p of counts per 10,000 (`stainglass.genes.normalise`) of the spot nearest to each window's centre."""
    away = conditions.offsets_um_yx.square().sum(-1).masked_fill(~conditions.present, torch.inf)
    nearest = away.argmin(1)[:, None, None].expand(-1, 1, conditions.counts.shape[-1])
    counts = conditions.counts.gather(1, nearest).squeeze(1).float()
    return torch.log1p(counts / counts.sum(1, keepdim=True).clamp_min(1e-6) * COUNTS_PER)


def block_statistics(denoiser: nn.Module, look: Callable[[], object]) -> Float[Tensor, "b d"]:
    """Mean and deviation of each channel after each block of a denoiser, while ``look`` lets it see pictures once."""
    found: list[Tensor] = []

    def keep(_block: nn.Module, _given: object, answer: Tensor) -> None:
        x = answer.float()
        x = x.transpose(1, 2) if x.ndim == 3 else x.flatten(2)  # channels before places
        mean = x.mean(2)
        found.extend((mean, ((x.square().mean(2) - mean.square()).clamp_min(0) + FAINT).sqrt()))

    handles = [block.register_forward_hook(keep) for block in _blocks(denoiser)]
    try:
        with torch.compiler.set_stance("force_eager"):  # a compiled network would not notice the hooks
            look()
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(found, 1)


def _blocks(denoiser: nn.Module) -> list[nn.Module]:
    kind = BasicTransformerBlock if isinstance(denoiser, TissueDiT) else ResnetBlock2D
    return [module for module in denoiser.modules() if isinstance(module, kind)]
