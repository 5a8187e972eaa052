"""Where the weights of FID's network come from, and what is refused."""

import hashlib
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_toy import SETTINGS, ToyJudge
from local_web import web

from stainglass.errors import StainglassError
from stainglass.evaluation import inception_weights
from stainglass.evaluation.features import Inception2015, build_judges
from stainglass.evaluation.inception import RESIZE, Inception2015Network, resized, scaled
from stainglass.evaluation.inception_weights import PUBLISHED, SCRIPT, find_weights
from stainglass.files import sha256_of
from stainglass.models.features import to_unit

INCEPTION = replace(SETTINGS, judges=("Inception-2015",), judges_required=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inception2015Network().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """A state dict as published: without the counters of batch norm."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    state = network.state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    return path


@pytest.fixture(scope="module")
def script(network, tmp_path_factory):
    """TorchScript as published: a module whose part ``layers`` takes pictures that were resized and scaled."""
    path = tmp_path_factory.mktemp("script") / SCRIPT
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
        traced = torch.jit.trace(network, torch.zeros(1, 3, 299, 299))
        torch.jit.save(torch.jit.script(Holder(traced)), path)
    return path


class Holder(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def published(weights, monkeypatch):
    """The published names, as if these weights were the published ones; and the first digits of their hash."""
    digits = sha256_of(weights)[:8]
    names = tuple(re.sub("[0-9a-f]{8}(?=.pth)", digits, name) for name in PUBLISHED)
    monkeypatch.setattr(inception_weights, "PUBLISHED", names)
    monkeypatch.setattr(inception_weights, "PUBLISHED_HASH", digits)
    return names


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A torch cache of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def test_the_published_names_are_those_of_pytorch_fid_and_torch_fidelity():
    assert PUBLISHED == (
        "pt_inception-2015-12-05-6726825d.pth",
        "weights-inception-2015-12-05-6726825d.pth",
    )


def test_a_file_judges_and_the_card_names_resize_and_hash(weights, network, pixels):
    (judge,), (record,) = build_judges(replace(INCEPTION, inception_weights=weights))
    assert record.sees == RESIZE
    assert record.weights == f"mine.pth, SHA-256 {sha256_of(weights)}, not the published state dict"
    expected = network(scaled(resized(to_unit(pixels)))).numpy()
    assert expected.std() > 0
    assert judge.features(pixels) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_folder_and_torchs_cache_are_looked_into(which, weights, published, cache, tmp_path):
    for told, folder in ((tmp_path / "mine", tmp_path / "mine"), (None, cache)):
        folder.mkdir(exist_ok=True)
        assert find_weights(told).path is None
        path = folder / published[which]
        path.write_bytes(weights.read_bytes())
        assert find_weights(told).path == path
    _, (record,) = build_judges(INCEPTION)
    assert record.weights == f"{published[which]}, SHA-256 {sha256_of(weights)}"


def test_a_file_that_is_not_what_its_name_says_is_refused(weights, cache):
    (cache / PUBLISHED[0]).write_bytes(weights.read_bytes())
    with pytest.raises(StainglassError, match="does not begin with 6726825d"):
        build_judges(INCEPTION)
    with pytest.raises(StainglassError, match="does not begin with 6726825d"):
        build_judges(replace(INCEPTION, inception_weights=cache))


def test_an_address_is_brought_once_and_checked(weights, cache):
    content = weights.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    with web() as server:
        file = server.serve("fid/weights.pth", content)
        url = server.url("fid/weights.pth")
        for wrong in (url, f"{url}#sha256=6726825d", f"{url}#{sha256}"):
            with pytest.raises(StainglassError, match="without its SHA-256"):
                find_weights(wrong)
        assert not file.asked  # refused before anything is fetched
        told = f"{url}#sha256={sha256}"
        found = find_weights(told).path
        assert found == cache / f"weights-{sha256[:8]}.pth"
        assert find_weights(told).path == found
        assert len(file.asked) == 1
        with pytest.raises(StainglassError, match="SHA-256"):
            find_weights(f"{url}#sha256={'0' * 64}")
        assert [p.name for p in cache.iterdir()] == [found.name]
    assert Inception2015(found).network is not None


def test_a_setting_that_leads_nowhere_does_not_fall_back(weights, published, cache, tmp_path):
    (cache / published[0]).write_bytes(weights.read_bytes())
    assert find_weights(tmp_path / "none.pth").why == "its weights are not at none.pth"
    (tmp_path / "empty").mkdir()
    assert "holds no" in find_weights(tmp_path / "empty").why


def test_without_weights_it_is_an_error_only_when_asked_for(cache):
    with pytest.raises(StainglassError, match=r"no weights were given\. Set evaluation\.inception_weights"):
        build_judges(INCEPTION)
    judges, records = build_judges(
        replace(INCEPTION, judges=(ToyJudge(), "Inception-2015"), judges_required=False)
    )
    assert [judge.name for judge in judges] == ["toy"]
    assert records[1].why_absent == "no weights were given"
    with pytest.raises(StainglassError, match="took part in training"):
        build_judges(replace(INCEPTION, took_part_in_training=("Inception-2015",)))


def test_other_files_are_refused(weights, tmp_path):
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "half.pth")
    with pytest.raises(StainglassError, match="lacks"):
        Inception2015(tmp_path / "half.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("broken", "empty", "list"):
        with pytest.raises(StainglassError, match="not the weights"):
            Inception2015(tmp_path / f"{name}.pth")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(StainglassError, match="not the weights"):
        Inception2015(tmp_path / "trap.pth", torchscript=True)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit.*:DeprecationWarning")
def test_torchscript_only_when_it_is_allowed(script, weights, pixels):
    with pytest.raises(StainglassError, match="a program that runs when it is loaded"):
        build_judges(replace(INCEPTION, inception_weights=script))
    assert find_weights(script.parent).path is None
    allowed = replace(INCEPTION, inception_torchscript=True)
    expected = Inception2015(weights).features(pixels)
    for told in (script, script.parent):
        (judge,), (record,) = build_judges(replace(allowed, inception_weights=told))
        assert judge.features(pixels) == pytest.approx(expected, abs=1e-5)
        assert record.weights.startswith(SCRIPT)
    (judge,), _ = build_judges(replace(allowed, inception_weights=weights))  # a permission, not a demand
    assert judge.features(pixels) == pytest.approx(expected, abs=1e-6)
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), script.parent / "relu.pt")
    with pytest.raises(StainglassError, match="as TorchScript"):
        Inception2015(script.parent / "relu.pt", torchscript=True)
