"""How much GPU memory fine-tuning takes, by arithmetic on a UNet's shape; nothing is allocated for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

FULL, HALF = 4, 2
"""Bytes a value in fp32 and in bf16."""
Train = Literal["condnet", "cross-attention", "lora", "all"]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, by what they are for. Allocator, kernels and CUDA itself come on top.

    Attributes
    ----------
    weights
        The UNet in fp32.
    cast
        Its bf16 copies, which autocast keeps while a step runs.
    trained
        LoRA beside the UNet, where there is one.
    gradients, optimiser, average
        Of what is trained: fp32 gradients, two moments, the moving average.
    activations
        What the backward pass needs; counted in fp32, an upper bound: autocast keeps norms in fp32 and products in
        bf16, and frozen weights need less.
    """

    weights: int
    cast: int
    trained: int
    gradients: int
    optimiser: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """Everything together."""
        held = (self.weights, self.cast, self.trained, self.gradients, self.optimiser, self.average)
        return sum(held) + self.activations


def plan_memory(
    config: dict[str, Any],
    *,
    window_px: int,
    batch: int,
    tokens: int,
    train: Train,
    lora_rank: int = 16,
    gradient_checkpointing: bool = True,
    optimiser: str = "adamw",
) -> MemoryPlan:
    """What training a UNet of this shape holds at its fullest; GeneCondNet, a few million weights, is not counted.

    Parameters
    ----------
    config
        Of a `UNet2DConditionModel`.
    window_px, batch, tokens
        Side of a window, windows a batch, tokens a window.
    train
        As in a recipe's ``train_denoiser.train``.
    optimiser
        ``adamw-8bit`` holds its moments in a byte each, the others in four.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    weights = sum(p.numel() for p in unet.parameters())
    lora = _lora_weights(unet, lora_rank) if train == "lora" else 0
    trained = {"condnet": 0, "cross-attention": _cross_attention(unet), "lora": lora, "all": weights}[train]
    moments = 2 * trained * (1 if optimiser == "adamw-8bit" else FULL)
    return MemoryPlan(
        weights=weights * FULL,
        cast=(weights + lora) * HALF,
        trained=lora * FULL,
        gradients=trained * FULL,
        optimiser=moments,
        average=trained * FULL,
        activations=_activations(unet, window_px // 8, batch, tokens, gradient_checkpointing),
    )


def _lora_weights(unet: nn.Module, rank: int) -> int:
    """Two thin matrices for each of the four linear maps of every attention."""
    maps = [
        m for a in unet.modules() if isinstance(a, Attention) for m in (a.to_q, a.to_k, a.to_v, a.to_out[0])
    ]
    return sum(rank * (m.in_features + m.out_features) for m in maps)


def _cross_attention(unet: nn.Module) -> int:
    blocks = [m.attn2 for m in unet.modules() if isinstance(m, BasicTransformerBlock)]
    return sum(m.weight.numel() for a in blocks for m in (a.to_k, a.to_v))


def _activations(unet: Any, side: int, batch: int, tokens: int, checkpointing: bool) -> int:
    """Bytes the backward pass finds, from a forward pass over shapes alone.

    With gradient checkpointing only what enters each resnet and transformer block is kept of it, and one of them is
    computed again at a time: the largest comes on top.
    """
    x = torch.empty(batch, unet.config.in_channels, side, side, device="meta")
    told = torch.empty(batch, tokens, unet.config.cross_attention_dim, device="meta")
    unet.set_attn_processor(_FlashShapes())
    count = _Count(unet)
    with count.watching(unet):
        unet(x, torch.empty(batch, device="meta"), told)
    if not checkpointing:
        return count.kept()
    return count.entering + count.kept() - sum(count.blocks) + max(count.blocks)


class _Flash(torch.autograd.Function):
    """Keeps what a flash kernel keeps: queries, keys, values and output, but no matrix of all pairs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out


class _FlashShapes:
    """An attention processor of shapes; attention on the meta device would be the textbook's, with its matrix."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        out = _Flash.apply(attn.to_q(hidden_states), attn.to_k(told), attn.to_v(told))
        projected: Tensor = attn.to_out[0](out)
        return projected


class _Count:
    """What autograd keeps of a forward pass: every storage once, weights left out; and what enters each block."""

    def __init__(self, unet: nn.Module) -> None:
        self.weights = {_key(p) for p in unet.parameters()}
        self.storages: dict[int, Any] = {}  # held, so that no two share an address
        self.entering = 0
        self.blocks: list[int] = []

    def kept(self, first: int = 0) -> int:
        """Bytes of all storages but the first so many."""
        return sum(storage.nbytes() for storage in list(self.storages.values())[first:])

    def _keep(self, tensor: Tensor) -> Tensor:
        if _key(tensor) not in self.weights:
            self.storages.setdefault(_key(tensor), tensor.untyped_storage())
        return tensor

    @contextmanager
    def watching(self, unet: nn.Module) -> Iterator[None]:
        """Count while this lasts."""
        began: list[int] = []

        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            self.entering += sum(a.numel() * a.element_size() for a in args if isinstance(a, Tensor))
            began.append(len(self.storages))

        def after(*_: Any) -> None:
            self.blocks.append(self.kept(began.pop()))

        blocks = [m for m in unet.modules() if isinstance(m, ResnetBlock2D | BasicTransformerBlock)]
        hooks = [m.register_forward_pre_hook(before) for m in blocks]
        hooks += [m.register_forward_hook(after) for m in blocks]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
