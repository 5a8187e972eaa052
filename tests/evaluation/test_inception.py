"""The 2015 Inception network beside torch-fidelity's, block by block, and what it is shown beside Pillow's resize.

torch-fidelity wants torchvision at import only, for other networks than this one: a stub stands in for it.
"""

import importlib.util
import sys
import types
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from stainglass.evaluation.inception import Inception2015Network, resized, scaled

BLOCKS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


def stub_of_torchvision() -> dict[str, types.ModuleType]:
    """What torch-fidelity's modules name while they are imported."""
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms")
    stub = {name: types.ModuleType(name) for name in (*names, "torchvision.transforms.functional")}
    stub["torchvision.datasets"].__dict__.update(CIFAR10=object, STL10=object, CIFAR100=object)
    for name, module in stub.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(stub[parent], child, module)
    return stub


@pytest.fixture(scope="module")
def fidelity():
    """torch-fidelity's extractor class; the stub is gone again when the tests are done."""
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("torch-fidelity is not here; make installs it without its dependencies")
    before = set(sys.modules)
    if importlib.util.find_spec("torchvision") is None:
        sys.modules.update(stub_of_torchvision())
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    yield FeatureExtractorInceptionV3
    for name in set(sys.modules) - before:
        if name.startswith(("torchvision", "torch_fidelity")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def network():
    """Random weights and running statistics of batch norm, of a size that keeps activations alive to the end."""
    draw = torch.Generator().manual_seed(2015)
    made = Inception2015Network()
    for name, tensor in made.state_dict().items():
        if name.endswith("conv.weight"):
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=draw)
        elif name.endswith(("running_mean", "bn.bias")):
            tensor.normal_(0, 0.1, generator=draw)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5, generator=draw)
    return made.eval().requires_grad_(False)


def activations(network, picture):
    """Output of every named block, and the network's own."""
    found = {}

    def keep(name, _module, _inputs, output):
        found[name] = output.clone()

    hooks = [getattr(network, name).register_forward_hook(partial(keep, name)) for name in BLOCKS]
    with torch.inference_mode():
        found["pool"] = network(picture)
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture(scope="module")
def picture():
    """One of 299 px, so that neither network resizes."""
    return torch.randint(0, 256, (1, 3, 299, 299), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


@pytest.fixture(scope="module")
def theirs(fidelity, network, tmp_path_factory):
    """torch-fidelity's network with the same weights, loaded from a file by its own code."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(network.state_dict(), path)
    return fidelity("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))


def test_names_and_shapes_are_those_of_torch_fidelity(theirs, network):
    def shapes(state):
        return {name: tuple(tensor.shape) for name, tensor in state.items()}

    assert shapes(theirs.state_dict()) == shapes(network.state_dict())


def test_every_block_answers_as_torch_fidelitys(theirs, network, picture):
    expected = activations(theirs, picture)
    (expected["pool"],) = expected["pool"]
    found = activations(network, scaled(picture.float() / 255))
    assert tuple(found) == tuple(expected) == (*BLOCKS, "pool")
    for name, theirs_here in expected.items():
        size = float(theirs_here.abs().max())
        assert size > 0.01, f"{name}: dead, so the comparison says nothing"
        assert theirs_here.std() > 0
        # The same sums in the same order; what is left is the rounding of (x · 255 − 128) / 128.
        assert torch.allclose(found[name], theirs_here, rtol=0, atol=1e-5 * size), name


def test_the_two_patches_of_2015_are_told_apart(theirs, network, picture):
    """The comparison would notice either of the differences to the network of today's libraries."""
    expected = theirs(picture)[0]
    size = float(expected.abs().max())
    network.Mixed_7c.pool_by_maximum = False
    try:
        other = network(scaled(picture.float() / 255))
    finally:
        network.Mixed_7c.pool_by_maximum = True
    assert float((other - expected).abs().max()) > 1e-2 * size


@pytest.mark.parametrize("side", [97, 256, 299, 640])
def test_the_resize_is_pillows(side):
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    channels = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(3)]
    expected = np.stack([np.asarray(c.resize((299, 299), Image.Resampling.BICUBIC)) for c in channels])
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0].numpy()
    # Of 0…255 grey levels: torch keeps the cubic's weights in single precision, Pillow in double.
    assert np.abs(found - expected).max() < 0.01


def test_the_resize_is_antialiased():
    """Stripes finer than a pixel of the result become grey, not moiré."""
    stripes = torch.zeros(1, 1, 1200, 1200)
    stripes[..., ::2] = 1
    assert float((resized(stripes) - 0.5).abs()[..., 4:-4].max()) < 0.02
    aliased = torch.nn.functional.interpolate(stripes, (299, 299), mode="bilinear", align_corners=False)
    assert float((aliased - 0.5).abs().max()) > 0.4


def test_scale_is_that_of_tensorflows_graph():
    assert scaled(torch.tensor([0.0, 128 / 255, 1.0])) == pytest.approx(torch.tensor([-1.0, 0.0, 127 / 128]))


def test_what_the_resize_throws_out_of_range_is_clipped_as_by_clean_fid():
    """Black on white overshoots by tens of grey levels; the network never sees them (`resize.py` of clean-fid clips)."""
    pixels = (
        np.where(np.indices((256, 256)).sum(0)[..., None] // 16 % 2, 255, 0).repeat(3, -1).astype(np.uint8)
    )
    channels = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(3)]
    thrown = np.stack([np.asarray(c.resize((299, 299), Image.Resampling.BICUBIC)) for c in channels])
    assert thrown.min() < -10
    assert thrown.max() > 265
    seen = scaled(resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255))[0].numpy()
    assert np.abs(seen * 128 + 128 - thrown.clip(0, 255)).max() < 0.01
