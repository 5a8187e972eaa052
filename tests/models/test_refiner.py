import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from stainglass.models.autoencoder import TissueAutoencoder, load_autoencoder
from stainglass.models.refiner import BLOCK_PX, NOISE, Refiner


def awake(width: int = 8) -> Refiner:
    """A refiner that draws, as after training."""
    torch.manual_seed(0)
    refiner = Refiner(width, 2)
    torch.nn.init.normal_(refiner.last.weight, std=0.05)
    return refiner.eval()


def picture(side: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_fresh_one_adds_nothing() -> None:
    assert torch.equal(Refiner(8, 2)(picture()), picture())


def test_the_noise_is_noise() -> None:
    refiner = awake()
    blocks = F.pixel_unshuffle(picture(128), BLOCK_PX)
    noise = refiner.noise(blocks, None)[0]
    assert noise.mean().abs() < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    beside = torch.corrcoef(torch.stack([noise[:, :, 1:].flatten(), noise[:, :, :-1].flatten()]))[0, 1]
    assert beside.abs() < 0.03
    channels = torch.corrcoef(noise.flatten(1)) - torch.eye(NOISE)
    assert channels.abs().max() < 0.15


def test_a_tenth_of_a_grey_level_makes_other_noise() -> None:
    flat = torch.full((1, 3, 64, 64), 0.9)
    faint = flat + 0.1 / 127.5 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    refiner = awake()
    one, other = (refiner.noise(F.pixel_unshuffle(x, BLOCK_PX), None).flatten() for x in (flat, faint))
    assert torch.corrcoef(torch.stack([one, other]))[0, 1].abs() < 0.1


def test_another_phase_is_another_draw_and_the_same_is_the_same() -> None:
    refiner, phase = awake(), torch.rand(1, NOISE) * 2 * math.pi
    assert torch.equal(refiner(picture()), refiner(picture()))
    assert torch.equal(refiner(picture(), phase), refiner(picture(), phase))
    assert (refiner(picture(), phase) - refiner(picture())).abs().mean() > 1e-3


def test_a_tile_is_drawn_over_as_in_the_whole() -> None:
    refiner, whole = awake(), picture(128)
    margin = BLOCK_PX * (2 + 2 * 2)  # first and last map, and two of each block
    tile = refiner(whole[..., 64 - margin : 96 + margin, 64 - margin : 96 + margin])
    torch.testing.assert_close(
        tile[..., margin:-margin, margin:-margin], refiner(whole)[..., 64:96, 64:96], atol=1e-4, rtol=0
    )


def test_the_gradient_goes_through_the_picture_but_not_through_the_noise() -> None:
    told = picture().requires_grad_()
    awake()(told).sum().backward()
    assert told.grad is not None
    assert told.grad.abs().max() < 100  # sines as steep as these would say thousands


def test_an_autoencoder_is_given_one_that_travels_with_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = TissueAutoencoder(10, (8, 16), (1, 1), (8, 24), (1, 2)).eval()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    latents = torch.randn(2, 10, 4, 4)
    refined = plain.with_refiner(8, 2).eval()
    assert torch.equal(refined.decode(latents).sample, plain.decode(latents).sample)
    assert refined.refiner is not None
    torch.nn.init.normal_(refined.refiner.last.weight, std=0.05)
    assert not torch.allclose(refined.decode(latents).sample, plain.decode(latents).sample, atol=1e-3)
    assert torch.equal(refined.decode(latents, refined=False).sample, plain.decode(latents).sample)
    pixels = picture()
    assert torch.equal(refined.encode(pixels).latents, plain.encode(pixels).latents)
    refined.save_pretrained(tmp_path)
    torch.testing.assert_close(
        load_autoencoder(tmp_path).decode(latents).sample, refined.decode(latents).sample, atol=1e-4, rtol=0
    )
    again = refined.with_refiner(16, 1).eval()
    assert torch.equal(again.decode(latents).sample, plain.decode(latents).sample)
