"""Numbers of texture: blind to turns, keen on what differs."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import gaussian

from stainglass.models.texture import Texture, texture_numbers


def woven(side: int = 128, period: float = 8.0, seed: int = 0) -> np.ndarray:
    """Stripes of a period under noise, pink and purple."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(side) * 2 * np.pi / period)[None] + gaussian(rng.normal(size=(side, side)), 2)
    return np.clip(180 + 40 * wave[..., None] * np.array([0.5, 1.0, 0.4]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, lambda x: x.transpose(1, 0, 2)])
def test_a_turned_picture_gives_the_same_numbers(turn) -> None:
    picture = woven()
    straight, turned = Texture().features(np.stack([picture, turn(picture)]))
    other = Texture().features(woven(period=16.0)[None])[0]
    assert np.abs(straight - turned).max() < 0.02 * np.abs(straight - other).max()


def test_finer_texture_has_its_energy_at_a_finer_scale() -> None:
    fine, coarse = Texture().features(np.stack([woven(period=4.0), woven(period=32.0)]))
    flat = Texture().features(np.full((1, 128, 128, 3), 200, np.uint8))[0]
    assert np.isfinite([fine, coarse, flat]).all()
    first_band = slice(35, 40)  # after mean, deviation and five quantiles of five planes
    assert (fine[first_band] > coarse[first_band] + 0.3).all()
    assert (coarse[first_band] > flat[first_band]).all()


@pytest.mark.parametrize("side", [32, 64, 256])
def test_its_length_is_known_before_a_picture_is_seen(side: int) -> None:
    found = Texture().features(woven(side)[None])
    assert found.shape == (1, texture_numbers(side))
    assert np.isfinite(found).all()
