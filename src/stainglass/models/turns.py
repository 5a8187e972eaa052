"""The eight flips and turns of a square, on pictures, on spot offsets and on latents.

A turn is a number 0…7 read as three bits, applied in this order: 4 swaps rows and columns, 2 flips top
and bottom, 1 flips left and right. 0 leaves everything as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

TURNS = range(8)

Frequency = tuple[int, int, int]
"""(colour axis, vertical frequency, horizontal frequency) of one latent channel."""


def turn_plane(x: Float[Tensor, "*b h w"], turn: int) -> Float[Tensor, "*b a c"]:
    """Turn the last two axes."""
    if turn & 4:
        x = x.transpose(-1, -2)
    if turn & 2:
        x = x.flip(-2)
    if turn & 1:
        x = x.flip(-1)
    return x


def turn_offsets(offsets_yx: Float[Tensor, "*b 2"], turn: int) -> Float[Tensor, "*b 2"]:
    """Turn (y, x) offsets from the window's centre along with the picture."""
    if turn & 4:
        offsets_yx = offsets_yx.flip(-1)
    signs = offsets_yx.new_tensor([-1.0 if turn & 2 else 1.0, -1.0 if turn & 1 else 1.0])
    return offsets_yx * signs


def channel_action(frequencies: Sequence[Frequency], turn: int) -> tuple[list[int], list[float]]:
    """How a turn acts on latent channels: output channel k is ``sign[k]`` × input channel ``source[k]``.

    A channel that holds the cosine coefficient (colour, u, v) of each 8 × 8 block changes sign under a flip
    along which its frequency is odd, and changes places with (colour, v, u) when rows and columns swap.
    """
    index = {tuple(f): k for k, f in enumerate(frequencies)}
    source, sign = [], []
    for colour, u, v in frequencies:
        source.append(index[(colour, v, u)] if turn & 4 else index[(colour, u, v)])
        odd = (u if turn & 2 else 0) + (v if turn & 1 else 0)
        sign.append(-1.0 if odd % 2 else 1.0)
    return source, sign


def turn_latents(
    z: Float[Tensor, "*b c h w"], turn: int, frequencies: Sequence[Frequency] | None
) -> Float[Tensor, "*b c a d"]:
    """Turn latents so that they decode to the turned picture; ``frequencies`` None: channels are left alone."""
    z = turn_plane(z, turn)
    if frequencies is None or turn == 0:
        return z
    source, sign = channel_action(frequencies, turn)
    return z.index_select(-3, torch.tensor(source, device=z.device)) * z.new_tensor(sign)[:, None, None]
