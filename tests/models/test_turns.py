import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stainglass.models.autoencoder import FREQUENCIES, TissueAutoencoder
from stainglass.models.turns import TURNS, channel_action, turn_latents, turn_offsets, turn_plane


def test_the_eight_turns_are_eight() -> None:
    square = torch.arange(9).reshape(3, 3)
    assert len({tuple(turn_plane(square, k).flatten().tolist()) for k in TURNS}) == 8


@pytest.mark.parametrize("turn", TURNS)
def test_offsets_turn_with_the_picture(turn: int) -> None:
    plane = torch.zeros(7, 7)
    plane[1, 5] = 1  # offset (-2, 2) from the centre (3, 3)
    turned = turn_plane(plane, turn)
    at = torch.nonzero(turned)[0].float() - 3
    torch.testing.assert_close(turn_offsets(torch.tensor([[-2.0, 2.0]]), turn)[0], at)


@given(st.sampled_from(list(TURNS)), st.integers(0, 1000))
def test_the_cosine_shortcut_commutes_exactly_with_turns(turn: int, seed: int) -> None:
    network = TissueAutoencoder(
        widths=(8, 8), blocks=(1, 1)
    )  # fresh: the networks are silent, the shortcut speaks
    pixels = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed))
    one = network.encode(turn_plane(pixels, turn)).latents
    other = turn_latents(network.encode(pixels).latents, turn, network.frequencies)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    decoded = network.decode(other).sample
    torch.testing.assert_close(
        decoded, turn_plane(network.decode(network.encode(pixels).latents).sample, turn), atol=1e-5, rtol=0
    )


def test_channel_actions_are_signed_permutations() -> None:
    for turn in TURNS:
        source, sign = channel_action(FREQUENCIES, turn)
        assert sorted(source) == list(range(len(FREQUENCIES)))
        assert set(np.abs(sign)) == {1.0}
