import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from stainglass.models.similarity import RADIUS, SIGMA, structural_similarity


def test_it_is_the_one_everybody_means() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((40, 48, 3))
    other = np.clip(one + 0.1 * rng.standard_normal(one.shape), 0, 1)
    found = structural_similarity(*(torch.from_numpy(x).movedim(-1, 0)[None] for x in (one, other)))
    _, wanted = reference(
        one, other, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, full=True
    )  # fmt: skip
    inner = wanted[RADIUS:-RADIUS, RADIUS:-RADIUS]
    torch.testing.assert_close(found[0].movedim(0, -1), torch.from_numpy(inner))


def test_a_guess_at_full_contrast_is_more_alike_than_a_faint_one() -> None:
    generator = torch.Generator().manual_seed(0)
    known, rest = (0.1 * torch.randn(1, 1, 64, 64, generator=generator) for _ in range(2))
    real, faint = 0.5 + known + rest, 0.5 + known  # the mean of all that agrees with what is known
    full = 0.5 + 2**0.5 * known
    assert structural_similarity(full, real).mean() > structural_similarity(faint, real).mean()
    assert (full - real).pow(2).mean() > (faint - real).pow(2).mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pictures_are_wholly_alike(channels: int) -> None:
    picture = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(structural_similarity(picture, picture), torch.ones(2, channels, 22, 22))
