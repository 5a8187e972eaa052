"""From a spot's counts to tokens and one vector: the trunk that both systems share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.genes.gene_sets import gene_sets
from stainglass.genes.normalise import COUNTS_PER

VISIUM_DIAMETER_UM = 55.0
GeneInput = Literal["profile", "set", "pca", "gene-sets"]


def log_normalised(counts: Float[Tensor, "*b g"]) -> Float[Tensor, "*b g"]:
    """log1p of counts per 10,000 over the last axis; zeros stay zero."""
    total = counts.sum(-1, keepdim=True).clamp_min(1e-6)
    return torch.log1p(counts / total * COUNTS_PER)


class _Mlp(nn.Module):
    """x + W₂ silu(W₁ norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        return x + self.down(F.silu(self.up(self.norm(x))))


class ProfileInput(nn.Module):
    """The whole gene axis by one linear map; a gene the panel lacks is silent."""

    def __init__(self, genes: int, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed = nn.Linear(genes, width)
        self.blocks = nn.Sequential(_Mlp(width), _Mlp(width))
        self.spread = nn.Linear(width, tokens * width)

    def forward(
        self, standard: Float[Tensor, "n g"], level: Float[Tensor, "n g"], extra: Float[Tensor, "n w"]
    ) -> tuple[Float[Tensor, "n t w"], Float[Tensor, "n w"]]:
        vector = self.blocks(self.embed(standard) + extra)
        return self.spread(vector).unflatten(-1, (self.tokens, -1)), vector


class ScoresInput(nn.Module):
    """Fixed weighted sums of genes (principal components, or published gene sets), then as `ProfileInput`.

    The weights are found when the encoder is fitted and travel as a buffer; only what follows is trained.
    """

    weights: Tensor

    def __init__(self, genes: int, scores: int, width: int, tokens: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(scores, genes))
        self.profile = ProfileInput(scores, width, tokens)

    def forward(
        self, standard: Float[Tensor, "n g"], level: Float[Tensor, "n g"], extra: Float[Tensor, "n w"]
    ) -> tuple[Float[Tensor, "n t w"], Float[Tensor, "n w"]]:
        scores = standard @ self.weights.T
        found: tuple[Tensor, Tensor] = self.profile(scores, level, extra)
        return found


def set_weights(gene_ids: Sequence[str]) -> Float[Tensor, "s g"]:
    """Hallmark sets and PROGENy pathways on a gene axis: unit rows, so that a score of independent genes has deviation 1.

    A set without a gene on the axis is a row of zeros.
    """
    place = {gene: i for i, gene in enumerate(gene_ids)}
    weights = np.zeros((len(gene_sets()), len(gene_ids)), np.float32)
    for row, found in zip(weights, gene_sets().values()):
        for gene, weight in found.weights.items():
            if gene in place:
                row[place[gene]] = weight
    length = np.linalg.norm(weights, axis=1, keepdims=True)
    return torch.from_numpy(weights / np.maximum(length, 1e-9))


def component_weights(standard: Float[Tensor, "n g"], components: int) -> Float[Tensor, "c g"]:
    """Directions of greatest variance over the training spots, each divided by its deviation."""
    centred = (standard - standard.mean(0)).double()
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    deviation = (values / math.sqrt(max(len(standard) - 1, 1))).clamp_min(1e-6)
    found = torch.zeros(components, standard.shape[1])
    k = min(components, len(values))
    found[:k] = (directions[:k] / deviation[:k, None]).float()
    return found


class SetInput(nn.Module):
    """The top-k expressed genes as a set: learned gene embeddings scaled by value, pooled by a small resampler.

    Ties between equal values go to the gene that comes first on the model's axis, which is ordered by
    variance on the training tissue, then id.
    """

    def __init__(self, genes: int, width: int, tokens: int, top_k: int) -> None:
        super().__init__()
        self.top_k = min(top_k, genes)
        self.gene = nn.Embedding(genes, width)
        self.value = nn.Linear(1, width)
        self.query = nn.Parameter(torch.randn(tokens, width) / math.sqrt(width))
        self.attend = nn.MultiheadAttention(width, max(width // 32, 1), batch_first=True)
        self.norm_genes, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.block = _Mlp(width)

    def forward(
        self, standard: Float[Tensor, "n g"], level: Float[Tensor, "n g"], extra: Float[Tensor, "n w"]
    ) -> tuple[Float[Tensor, "n t w"], Float[Tensor, "n w"]]:
        # A stable sort keeps the axis' order among equals; torch.topk promises no order.
        value, index = torch.sort(level, dim=-1, descending=True, stable=True)
        value, index = value[:, : self.top_k], index[:, : self.top_k]
        embedded = self.norm_genes(self.gene(index) * value[..., None] + self.value(value[..., None]))
        query = self.query + extra[:, None]
        silent = value <= 0
        silent[:, 0] = False  # a spot without counts attends to one empty gene instead of to none
        pooled = self.attend(query, embedded, embedded, key_padding_mask=silent, need_weights=False)[0]
        tokens = self.block(query + pooled)
        return tokens, self.norm_out(tokens.mean(1))


class GeneEncoder(nn.Module):
    """Counts of spots → M tokens and one vector a spot.

    Parameters
    ----------
    genes
        Length G of the model's gene axis.
    kind
        ``profile`` (whole axis), ``set`` (top-k genes), ``pca`` (principal components of the training spots) or
        ``gene-sets`` (scores of the hallmark sets and PROGENy pathways).
    width
        Width W of tokens and vector.
    tokens
        M, tokens a spot.
    top_k
        Genes of a set (the original skin system: 50).
    components
        Of ``pca``.
    """

    gene_mean: Tensor
    gene_std: Tensor
    depth_mean: Tensor
    depth_std: Tensor

    def __init__(
        self,
        genes: int,
        kind: GeneInput = "profile",
        width: int = 128,
        tokens: int = 4,
        top_k: int = 50,
        components: int = 50,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("gene_mean", torch.zeros(genes))
        self.register_buffer("gene_std", torch.ones(genes))
        self.register_buffer("depth_mean", torch.tensor(0.0))
        self.register_buffer("depth_std", torch.tensor(1.0))
        self.extra = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.input = _make_input(kind, genes, width, tokens, top_k, components)

    def fit(self, counts: Float[Tensor, "n g"], gene_ids: Sequence[str] = ()) -> None:
        """Take means, deviations and components from the training fold's spots; they travel with the weights.

        Parameters
        ----------
        gene_ids
            The gene axis, on which the gene sets are laid.
        """
        level = log_normalised(counts)
        depth = torch.log1p(counts.sum(-1))
        self.gene_mean.copy_(level.mean(0))
        # A gene hardly seen would be blown up by its tiny deviation; the floor keeps it quiet.
        self.gene_std.copy_(level.std(0).clamp_min(0.1))
        self.depth_mean.copy_(depth.mean())
        self.depth_std.copy_(depth.std().clamp_min(0.1))
        if isinstance(self.input, ScoresInput):
            standard = self.standard(level)
            of_sets = self.kind == "gene-sets"
            scores = len(self.input.weights)
            self.input.weights.copy_(
                set_weights(gene_ids) if of_sets else component_weights(standard, scores)
            )

    def standard(self, level: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
        """Log-normalised counts in deviations from the training fold's mean, at most 5."""
        return ((level - self.gene_mean) / self.gene_std).clamp(-5, 5)

    def forward(
        self,
        counts: Float[Tensor, "n g"],
        diameters_um: Float[Tensor, n],
        measured: Bool[Tensor, "n g"] | None = None,
    ) -> tuple[Float[Tensor, "n t w"], Float[Tensor, "n w"]]:
        """Raw counts and diameters of n spots → (tokens (n, M, W), vectors (n, W)), in the precision of the weights."""
        precision = self.gene_mean.dtype
        level = log_normalised(counts)
        standard = self.standard(level)
        if measured is not None:
            standard = standard * measured
        depth = (torch.log1p(counts.sum(-1)) - self.depth_mean) / self.depth_std
        size = torch.log(diameters_um.clamp_min(1.0) / VISIUM_DIAMETER_UM)
        extra = self.extra(torch.stack([depth.clamp(-4, 4), size], -1).to(precision))
        tokens, vector = self.input(standard.to(precision), level.to(precision), extra)
        return tokens, vector


def _make_input(
    kind: GeneInput, genes: int, width: int, tokens: int, top_k: int, components: int
) -> nn.Module:
    if kind == "set":
        return SetInput(genes, width, tokens, top_k)
    if kind == "profile":
        return ProfileInput(genes, width, tokens)
    return ScoresInput(genes, components if kind == "pca" else len(gene_sets()), width, tokens)
