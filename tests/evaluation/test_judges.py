from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_toy import SETTINGS, toy_tissue
from skimage.metrics import structural_similarity

from stainglass.analysis.nuclei import NucleusReader
from stainglass.errors import StainglassError
from stainglass.evaluation.features import LpipsAlexTrunk, build_judges
from stainglass.evaluation.inception import Inception2015Network
from stainglass.evaluation.lpips import Lpips
from stainglass.evaluation.pairs import cosine, lpips, ssim
from stainglass.models.features import EfficientNetLite0

SHARED = Path(__file__).parents[2].parent / "shared"
ALEX = SHARED / "weights" / "lpips" / "alex.safetensors"
needs_alex = pytest.mark.skipif(not ALEX.is_file(), reason="LPIPS weights are not in ../shared")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def test_efficientnet_sees_256_px_and_does_not_depend_on_the_batch(pixels):
    judge = EfficientNetLite0(batch=2)
    found = judge.features(pixels)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert found.std() > 0
    assert judge.features(pixels[2:]) == pytest.approx(found[2:], abs=1e-4)


def test_inception_has_the_published_names_and_shapes(tmp_path):
    network = Inception2015Network()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    published = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_1a_3x3.bn.running_var": (32,),
        "Conv2d_2b_3x3.conv.weight": (64, 32, 3, 3),
        "Conv2d_3b_1x1.conv.weight": (80, 64, 1, 1),
        "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
        "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5c.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
        "Mixed_6c.branch7x7_3.conv.weight": (192, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_1.conv.weight": (448, 2048, 1, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    assert published.items() <= shapes.items()
    # 94 convolutions with batch norm (six tensors each) and one linear layer.
    assert sum(key.endswith("conv.weight") for key in shapes) == 94
    assert len(shapes) == 94 * 6 + 2


def test_unknown_judge():
    with pytest.raises(StainglassError, match="no judge is called 'Nobody'"):
        build_judges(replace(SETTINGS, judges=("Nobody",)))


def test_lpips_refuses_other_weights(tmp_path):
    (tmp_path / "alex.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(StainglassError, match="not readable LPIPS"):
        Lpips(tmp_path / "alex.safetensors")


@needs_alex
def test_lpips_is_zero_for_equal_pictures_and_grows_with_noise(pixels):
    network = Lpips(ALEX)
    tissue = toy_tissue("t", 1, 2, 2).pixels
    rng = np.random.default_rng(0)
    slight, strong = (
        np.clip(tissue + rng.normal(0, sd, tissue.shape), 0, 255).astype(np.uint8) for sd in (4, 60)
    )
    assert lpips(network, tissue, tissue) == pytest.approx(np.zeros(4), abs=1e-6)
    assert (lpips(network, tissue, slight) > 0).all()
    assert (lpips(network, tissue, slight) < lpips(network, tissue, strong)).all()
    assert lpips(network, tissue, strong) == pytest.approx(lpips(network, strong, tissue), abs=1e-6)


@needs_alex
def test_the_trunk_of_lpips_judges(pixels):
    judges, records = build_judges(replace(SETTINGS, judges=("LPIPS-AlexNet",), lpips_weights=ALEX))
    assert judges[0].features(pixels).shape == (3, 1152)
    assert records[0].why_absent is None
    assert isinstance(judges[0], LpipsAlexTrunk)


def test_ssim_is_that_of_scikit_image():
    rng = np.random.default_rng(1)
    one = rng.integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    other = np.clip(one + rng.normal(0, 40, one.shape), 0, 255).astype(np.uint8)
    expected = [
        structural_similarity(
            a,
            b,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        for a, b in zip(one, other, strict=True)
    ]
    assert ssim(one, other) == pytest.approx(expected, abs=1e-4)
    assert ssim(one, one) == pytest.approx(np.ones(2))


def test_cosine_is_seen_from_the_training_mean():
    origin = np.array([10.0, 10.0])
    a, b = np.array([[11.0, 10], [11, 10], [10, 10]]), np.array([[12.0, 10], [10, 12], [5, 5]])
    assert cosine(a, b, origin) == pytest.approx([1, 0, 0])


def test_nuclei_are_counted_in_a_drawn_picture():
    pink, blue = np.array([235, 190, 215], np.uint8), np.array([70, 50, 130], np.uint8)
    y, x = np.mgrid[:128, :128]
    picture = np.broadcast_to(pink, (128, 128, 3)).copy()
    for cy in range(16, 128, 32):
        for cx in range(16, 128, 32):
            picture[(y - cy) ** 2 + (x - cx) ** 2 <= 36] = blue
    reader = NucleusReader.fit(picture[None], mpp=0.5)
    density, area, optical = reader.read(picture[None])[0]
    assert density == pytest.approx(16 / (0.064**2))
    assert area == pytest.approx(16 * 36 * np.pi / 128**2, rel=0.35)  # smoothing widens them
    assert optical > 0
    assert reader.read(np.full((1, 32, 32, 3), 255, np.uint8))[0, :2].tolist() == [0, 0]
