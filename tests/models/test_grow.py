from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from stainglass.config import Attention, Denoiser
from stainglass.errors import StainglassError
from stainglass.models.denoiser import make_denoiser, predict_velocity
from stainglass.models.flow import RECTIFIED
from stainglass.models.genecondnet import Embedded
from stainglass.models.grow import grow_attention, grow_layers


def told() -> Embedded:
    g = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    return Embedded(torch.randn(2, 6, 32, generator=g), mask, torch.randn(2, 32, generator=g))


@pytest.mark.parametrize(
    ("had", "attention"),
    [
        ("coarse", "tokens"),
        ("coarse", "everywhere"),
        ("coarsest", "coarse"),
        ("coarsest", "tokens"),
        ("coarsest", "everywhere"),
    ],
)
def test_attention_grown_at_finer_levels_begins_silent_and_can_speak(
    had: Attention, attention: Attention
) -> None:
    torch.manual_seed(0)
    settings = Denoiser(kind="unet", widths=(32, 32, 32), layers=1, heads_of=16, attention=had)
    plain = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32).eval()
    torch.nn.init.normal_(plain.conv_out.weight, std=0.05)
    grown = grow_attention(plain, attention).eval()
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        before = predict_velocity(plain, x, t, told(), RECTIFIED)
        torch.testing.assert_close(predict_velocity(grown, x, t, told(), RECTIFIED), before)
        new = [n for n, _ in grown.named_parameters() if n not in dict(plain.named_parameters())]
        assert {name.split(".")[0] for name in new} == {"down_blocks", "up_blocks"}
        for name in new:
            if "proj_out.weight" in name:
                torch.nn.init.normal_(grown.get_parameter(name), std=0.1)
        assert (predict_velocity(grown, x, t, told(), RECTIFIED) - before).abs().max() > 1e-4


@pytest.mark.parametrize("attention", ["tokens", "everywhere"])
def test_a_saved_network_that_has_it_is_left_alone(attention: Attention, tmp_path: Path) -> None:
    settings = Denoiser(kind="unet", widths=(32, 32), layers=1, heads_of=16, attention=attention)
    make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32).save_pretrained(tmp_path)
    found = UNet2DConditionModel.from_pretrained(tmp_path)
    assert grow_attention(found, attention) is found
    with pytest.raises(StainglassError, match="attention of another kind"):
        grow_attention(found, "everywhere" if attention == "tokens" else "tokens")


def test_no_attention_is_taken_away() -> None:
    settings = Denoiser(kind="unet", widths=(32, 32, 32), layers=1, heads_of=16)
    coarse = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32)
    with pytest.raises(StainglassError, match=r"coarsest is asked for.*more levels"):
        grow_attention(coarse, "coarsest")


@pytest.mark.parametrize("attention", ["coarsest", "coarse", "tokens", "everywhere"])
@pytest.mark.parametrize(("had", "layers"), [(1, 2), (1, 4), (2, 3)])
def test_new_layers_pass_on_what_they_are_given_and_can_learn(
    attention: Attention, had: int, layers: int
) -> None:
    torch.manual_seed(0)
    # Of two levels coarsest and coarse are the same.
    settings = Denoiser(kind="unet", widths=(32, 64), layers=had, heads_of=16, attention=attention)
    plain = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32).eval()
    torch.nn.init.normal_(plain.conv_out.weight, std=0.05)
    grown = grow_layers(plain, layers).eval()
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([0.3, 0.9])
    wanted = predict_velocity(plain, x, t, told(), RECTIFIED)
    answer = predict_velocity(grown, x, t, told(), RECTIFIED)
    torch.testing.assert_close(answer, wanted)
    # As many new layers in each block as were asked for, and every one of them has a gradient.
    assert grown.config.layers_per_block == layers
    answer.square().mean().backward()
    blocks = (*grown.down_blocks, *grown.up_blocks)
    speaks_last = [layer.conv2 for block in blocks for layer in block.resnets]
    speaks_last += [layer.proj_out for block in blocks for layer in getattr(block, "attentions", ())]
    new = [m for m in speaks_last if not m.weight.any()]
    with_attention = 2 if attention in ("coarsest", "coarse") else 4
    assert len(new) == (layers - had) * (4 + with_attention)
    assert all(m.weight.grad.any() for m in new)


def test_a_network_is_given_no_fewer_layers() -> None:
    settings = Denoiser(kind="unet", widths=(32, 32), layers=2, heads_of=16)
    network = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32)
    assert grow_layers(network, 1) is network
    assert grow_layers(network, 2) is network


@pytest.mark.parametrize("kind", ["dit", "stable-diffusion"])
def test_only_our_unet_grows(kind: str) -> None:
    settings = Denoiser(kind=kind, widths=(32, 32), layers=1, heads_of=16)
    other = make_denoiser(settings, latent_channels=8, latent_size=16, condition_width=32)
    with pytest.raises(StainglassError, match="only our own UNet"):
        grow_attention(other, "tokens")
    with pytest.raises(StainglassError, match="only our own UNet"):
        grow_layers(other, 2)
