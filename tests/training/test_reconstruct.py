from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.models.autoencoder import TissueAutoencoder, pixels_to_input
from stainglass.training.adversary import Adversary
from stainglass.training.autoencoder import train_autoencoder
from stainglass.training.reconstruct import LATTICE, Reconstruct, Sharpen, lattice
from stainglass.training.start import Start

LOOP = {
    "steps": 6,
    "batch": 4,
    "crop_px": 64,
    "warmup": 1,
    "log_every": 1,
    "learning_rate": 2e-3,
    "ema_half_life": 2,
}


def sharpen_of_nothing() -> Sharpen:
    return Sharpen(TissueAutoencoder(3, (16, 32), (1, 1)), texture=0.1, similarity=0.3)


def test_detail_tells_how_much_there_is_and_not_where() -> None:
    detail = sharpen_of_nothing().detail
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.3
    other = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.3
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    same = (detail(noise) - detail(other)).abs().mean()
    blurrier = (detail(noise) - detail(blurred)).abs().mean()
    assert 0 < 3 * same < blurrier
    assert (detail(noise * 2) - detail(noise)).mean().item() == pytest.approx(np.log(4), abs=0.02)


@pytest.mark.parametrize("wavelength_px", [2.5, 3.0, 3.5, 4.0, 5.0])
@pytest.mark.parametrize("across", [True, False])
def test_no_wave_that_is_fine_goes_unseen(wavelength_px: float, across: bool) -> None:
    detail = sharpen_of_nothing().detail
    at = torch.arange(64) * 2 * np.pi / wavelength_px
    wave = 0.1 * torch.cos(at).expand(1, 3, 64, 64)
    wave = wave if across else wave.transpose(2, 3)
    more = (detail(wave) - detail(torch.zeros_like(wave))).amax((1, 2, 3))
    assert more.min() > np.log(1000)


def test_a_pattern_that_every_picture_has_is_an_error_whatever_they_show() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(16, 3, 64, 64, generator=generator)
    pattern = 0.05 * torch.randn(3, 8, 8, generator=generator).repeat(1, 8, 8)
    assert lattice(noise).abs().mean() < 0.005
    torch.testing.assert_close(lattice(noise + pattern).std(), torch.tensor(0.05), atol=0.01, rtol=0)
    assert lattice(noise * 0 + 0.3).abs().max() < 1e-6  # another colour is no pattern


def test_what_latents_tell_is_not_asked_for() -> None:
    detail = sharpen_of_nothing().detail
    at = torch.arange(64) * 2 * np.pi / 32
    coarse = 0.1 * torch.cos(at).expand(1, 3, 64, 64)
    assert (detail(coarse) - detail(torch.zeros_like(coarse))).max() < np.log(10)


def test_sharpening_leaves_the_latents_and_brings_detail_back(cohort: Cohort, tmp_path: Path) -> None:
    split = cohort.split()
    few = {"autoencoder": {"latent_channels": 3, "widths": [16, 32], "blocks": [1, 1]}}
    plain = train_autoencoder(
        cohort, split, small_recipe(**few, train_autoencoder=LOOP), tmp_path / "plain" / "autoencoder"
    )
    loop = {**LOOP, "sharpen_steps": 40, "texture": 0.3}
    sharp = train_autoencoder(
        cohort, split, small_recipe(**few, train_autoencoder=loop), tmp_path / "sharp" / "autoencoder"
    )
    windows = cohort.patches(split.test, 64)[:8]
    pixels = pixels_to_input(torch.from_numpy(cohort.pixels(windows)))
    with torch.no_grad():
        latents = plain.encode(pixels).latents
        assert torch.equal(latents, sharp.encode(pixels).latents)
        detail = sharpen_of_nothing().detail
        gaps = [(detail(a.decode(latents).sample) - detail(pixels)).abs().mean() for a in (plain, sharp)]
    assert gaps[1] < 0.8 * gaps[0]


def test_a_fresh_decoder_of_another_shape_learns_on_the_same_latents(cohort: Cohort, tmp_path: Path) -> None:
    plain = TissueAutoencoder(3, (16, 32), (1, 1))
    start = Start("small", SimpleNamespace(autoencoder=plain), "")  # type: ignore[arg-type]
    recipe = small_recipe(
        autoencoder={"latent_channels": 3, "decoder_widths": [24, 40], "decoder_blocks": [1, 2]},
        train_autoencoder={**LOOP, "sharpen_steps": 2},
    )
    wider = train_autoencoder(cohort, cohort.split(), recipe, tmp_path / "autoencoder", None, start)
    assert tuple(wider.config.decoder_widths) == (24, 40)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = wider.encode(pixels).latents
        assert torch.equal(latents, plain.encode(pixels).latents)
        assert wider.decode(latents).sample.shape == pixels.shape


def test_an_adversary_learns_texture_and_neither_loss_reaches_the_others_weights() -> None:
    torch.manual_seed(0)
    adversary = Adversary()
    decoded = torch.nn.Parameter(0.05 * torch.randn(4, 3, 64, 64))
    real = 0.3 * torch.randn(4, 3, 64, 64)
    wanted, own, _ = adversary(decoded, real)
    wanted.backward(retain_graph=True)
    assert decoded.grad is not None
    assert all(p.grad is None for p in adversary.parameters())
    decoded.grad = None
    own.backward()
    assert decoded.grad is None
    optimiser = torch.optim.Adam(adversary.parameters(), 1e-3)
    apart = []
    for _ in range(40):
        optimiser.zero_grad()
        _, own, told = adversary(0.05 * torch.randn(4, 3, 64, 64), 0.3 * torch.randn(4, 3, 64, 64))
        own.backward()
        optimiser.step()
        apart.append(told.item())
    assert apart[-1] > 0.1 + 2 * abs(apart[0])


def test_without_weight_it_is_the_plain_error_and_the_encoder_rests() -> None:
    decoded, wanted = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    autoencoder = TissueAutoencoder(3, (16, 32), (1, 1))
    plain, _ = Reconstruct(autoencoder).loss(decoded, wanted)
    weights = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.25)]
    bare, fine, alike = (
        Sharpen(autoencoder, texture=t, similarity=s).loss(decoded, wanted) for t, s in weights
    )
    assert bare[0].item() == plain.item()
    detail, pattern = fine[1]["detail"].item(), fine[1]["lattice"].item()
    assert fine[0].item() == pytest.approx(plain.item() + 0.5 * (detail + LATTICE * pattern))
    assert alike[0].item() == pytest.approx(plain.item() + 0.25 * alike[1]["unlike"].item())
    assert {name.split(".")[0] for name, p in autoencoder.named_parameters() if p.requires_grad} == {
        "decoder"
    }
