"""A finished UNet is given more, and paints the same until it is trained on: attention at finer levels, more layers.

What is new adds nothing at first (its last map is zero), and what was learnt stays where it was: a network that has
learnt what it can hold goes on from there instead of from noise (the identity layers of Net2DeeperNet, Chen et al. 2016).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from stainglass.config import Attention
from stainglass.errors import StainglassError
from stainglass.models.denoiser import attention_blocks, is_stable_diffusion, silence

_OF_UP_BLOCK = re.compile(r"^(up_blocks\.\d+\.(?:resnets|attentions)\.)(\d+)(\..*)$")


def grow_attention(unet: Any, attention: Attention) -> UNet2DConditionModel:
    """The same UNet with attention at more of its levels, which begins as if it were not there.

    Raises
    ------
    StainglassError
        When it is no UNet of `make_unet`, or has attention that was not asked for, or of another kind.
    """
    own = _own(unet, "attention")
    asked = attention_blocks(attention, len(own.config.block_out_channels))
    if all(_as_json(own.config[key]) == _as_json(value) for key, value in asked.items()):
        return own
    had, wanted = ([_attends(kind) for kind in of["down_block_types"]] for of in (own.config, asked))
    if had[0] or any(before and not after for before, after in zip(had, wanted, strict=True)):
        raise StainglassError(
            "denoiser.attention",
            f"{attention} is asked for, and the start has attention of another kind, or at more levels",
            "Leave denoiser.attention out: the start keeps what it has",
        )
    grown: UNet2DConditionModel = UNet2DConditionModel.from_config({**own.config, **asked})
    for level, before in enumerate(had):
        if wanted[level] and not before:
            for block in (grown.down_blocks[level], grown.up_blocks[-1 - level]):
                for transformer in block.attentions:
                    silence(transformer.proj_out)
    _take_over(grown, own.state_dict())
    return grown


def _attends(kind: str) -> bool:
    return kind.startswith("CrossAttn")


def grow_layers(unet: Any, layers: int) -> UNet2DConditionModel:
    """The same UNet with so many layers a block, the new ones of which begin by passing on what they are given.

    A down block's new layers follow its old ones, so what the first layer of the up block hears from across is as before; the up
    block's new ones follow that first layer.

    Raises
    ------
    StainglassError
        When it is no UNet of `make_unet`.
    """
    own = _own(unet, "layers")
    had = int(own.config.layers_per_block)
    if layers <= had:
        return own
    grown: UNet2DConditionModel = UNet2DConditionModel.from_config({**own.config, "layers_per_block": layers})
    more = layers - had
    for block in grown.down_blocks:
        _pass_on(block, range(had, layers))
    for block in grown.up_blocks:
        _pass_on(block, range(1, 1 + more))
    _take_over(grown, {_moved(name, more): value for name, value in own.state_dict().items()})
    return grown


def is_own_unet(denoiser: Any) -> bool:
    """Whether it is a UNet of `make_unet`: no DiT, and none of Stable Diffusion's family."""
    return isinstance(denoiser, UNet2DConditionModel) and not is_stable_diffusion(denoiser)


def _own(unet: Any, what: str) -> UNet2DConditionModel:
    if not is_own_unet(unet):
        raise StainglassError(
            f"denoiser.{what}", f"only our own UNet is given {what} later", f"Leave denoiser.{what} out"
        )
    own: UNet2DConditionModel = unet
    return own


def _pass_on(block: Any, places: range) -> None:
    """Layers that pass on what they are given, and leave what comes from across unheard."""
    for place in places:
        resnet: ResnetBlock2D = block.resnets[place]
        silence(resnet.conv2)
        if resnet.conv_shortcut is not None:  # hidden channels first, those from across after them
            silence(resnet.conv_shortcut)
            with torch.no_grad():
                nn.init.dirac_(resnet.conv_shortcut.weight)
        if hasattr(block, "attentions"):
            silence(block.attentions[place].proj_out)


def _moved(name: str, more: int) -> str:
    """Where an old parameter stands: in up blocks, behind the new layers, but for the first layer's."""
    found = _OF_UP_BLOCK.match(name)
    if found is None or found[2] == "0":
        return name
    return f"{found[1]}{int(found[2]) + more}{found[3]}"


def _take_over(grown: nn.Module, state: dict[str, Tensor]) -> None:
    strange = grown.load_state_dict(state, strict=False).unexpected_keys
    assert not strange, strange


def _as_json(value: Any) -> Any:
    """A configuration's value as it is read from a file, where tuples are lists."""
    return list(value) if isinstance(value, tuple) else value
