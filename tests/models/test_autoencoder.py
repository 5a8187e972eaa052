from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from stainglass.errors import StainglassError
from stainglass.models.autoencoder import (
    FREQUENCIES,
    TissueAutoencoder,
    cosine_basis,
    decode_latents,
    encode_pixels,
    load_autoencoder,
    pixels_to_input,
)


def awake(**changes: object) -> TissueAutoencoder:
    """An autoencoder whose networks speak, as after training."""
    torch.manual_seed(0)
    network = TissueAutoencoder(widths=(8, 16), blocks=(1, 2), **changes)  # type: ignore[arg-type]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def test_the_basis_is_orthonormal() -> None:
    flat = cosine_basis(FREQUENCIES).flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(FREQUENCIES)), atol=1e-5, rtol=0)


def test_a_smooth_picture_survives_before_any_training() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1.5, 64), torch.linspace(0, 1, 64), indexing="ij")
    picture = torch.stack([torch.sin(y + x), torch.cos(y), torch.sin(x)])[None] * 0.8
    network = TissueAutoencoder(widths=(8, 8))
    error = network.decode(network.encode(picture).latents).sample - picture
    assert -10 * torch.log10(error.pow(2).mean() / 4) > 35


def test_a_tile_with_its_halo_encodes_like_the_whole() -> None:
    network = awake().eval()
    whole = torch.randn(1, 3, 256, 256)
    halo = network.halo_px
    assert halo % 8 == 0
    inner = network.encode(whole[..., 96 - halo : 160 + halo, 96 - halo : 160 + halo]).latents
    cells = halo // 8
    torch.testing.assert_close(
        inner[..., cells:-cells, cells:-cells],
        network.encode(whole).latents[..., 12:20, 12:20],
        atol=1e-5,
        rtol=1e-4,
    )
    nearer = halo - 16
    short = network.encode(whole[..., 96 - nearer : 160 + nearer, 96 - nearer : 160 + nearer]).latents
    cells = nearer // 8
    with pytest.raises(AssertionError):  # a shorter halo is seen: the test above can fail
        torch.testing.assert_close(
            short[..., cells:-cells, cells:-cells],
            network.encode(whole).latents[..., 12:20, 12:20],
            atol=1e-5,
            rtol=1e-4,
        )


def test_an_impossible_channel_count_is_refused() -> None:
    with pytest.raises(StainglassError, match="latent_channels"):
        TissueAutoencoder(latent_channels=4)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    network = awake(latent_channels=8)
    network.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(encode_pixels(loaded, pixels), encode_pixels(network, pixels))
    assert loaded.frequencies == FREQUENCIES[:8]


@pytest.mark.parametrize("kind", ["tiny", "kl"])
def test_any_diffusers_autoencoder_loads_from_a_folder(kind: str, tmp_path: Path) -> None:
    network = (
        AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
        if kind == "tiny"
        else AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 4,
                           up_block_types=("UpDecoderBlock2D",) * 4)
    )  # fmt: skip
    network.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    pixels = pixels_to_input(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    latents = encode_pixels(loaded, pixels)
    assert latents.shape == (2, 4, 8, 8)
    assert decode_latents(loaded, latents).shape == (2, 64, 64, 3)


def test_what_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="no autoencoder here"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(StainglassError, match="not an autoencoder"):
        load_autoencoder(tmp_path)
    four_down = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    four_down.save_pretrained(tmp_path / "four")
    with pytest.raises(StainglassError, match="one latent covers 4 px"):
        load_autoencoder(tmp_path / "four")


def test_real_tiny_autoencoders_load(shared: Path) -> None:
    for name, channels in (("taesd", 4), ("taesd3", 16)):
        latents = encode_pixels(load_autoencoder(shared / "weights" / name), torch.zeros(1, 3, 64, 64))
        assert latents.shape == (1, channels, 8, 8)


def test_overflow_is_said_not_painted() -> None:
    with pytest.raises(FloatingPointError, match="full precision"):
        decode_latents(awake(), torch.full((1, 16, 2, 2), float("nan")))
