from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from stainglass.errors import StainglassError
from stainglass.models.eyes import CELLS, Eyes
from tiny_sd import tiny_vae


def tiny_autoencoder() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)


def test_a_picture_is_seen_as_a_whole_and_cell_by_cell() -> None:
    eyes = Eyes(tiny_autoencoder())
    pixels = torch.rand(3, 3, 64, 64) * 2 - 1
    seen = eyes(pixels)
    assert len(seen.whole) == 3
    assert seen.cells.shape == (3, CELLS**2, seen.whole.shape[1])
    assert torch.isfinite(seen.whole).all()
    # The first numbers are means of channels: those of the whole are the means of its cells'.
    torch.testing.assert_close(seen.whole[:, :8], seen.cells[:, :, :8].mean(1))
    # And a place's deviation is within the whole's, whose cells differ besides.
    assert (seen.whole[:, 8:16] ** 2 >= (seen.cells[:, :, 8:16] ** 2).mean(1) - 1e-5).all()


def test_what_happens_at_one_place_is_seen_there() -> None:
    eyes = Eyes(tiny_autoencoder())
    plain = torch.zeros(1, 3, 256, 256)
    changed = plain.clone()
    changed[..., :32, :32] = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    first = slice(0, 16)  # the first block looks a few pixels far
    moved = (eyes(plain).cells - eyes(changed).cells)[0, :, first].abs().sum(1)
    assert moved[0] > 1e-3
    assert moved[5:].max() < 1e-5


def test_pictures_get_a_gradient_and_the_eyes_none(tmp_path: Path) -> None:
    tiny_autoencoder().save_pretrained(tmp_path)
    eyes = Eyes.load(tmp_path)
    pixels = torch.zeros(1, 3, 64, 64, requires_grad=True)
    seen = eyes(pixels)
    (seen.whole.sum() + seen.cells.sum()).backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in eyes.parameters())


def test_another_autoencoder_is_refused(tmp_path: Path) -> None:
    network: AutoencoderKL = tiny_vae()
    network.save_pretrained(tmp_path)
    with pytest.raises(StainglassError, match="AutoencoderKL, whose layers are no eyes"):
        Eyes.load(tmp_path)
