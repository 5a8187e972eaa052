"""Where the weights of the 2015 Inception network come from: a file, a folder, torch's cache, an address with its hash."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import torch
from jaxtyping import Float
from torch import Tensor

from stainglass.errors import StainglassError
from stainglass.evaluation.inception import Inception2015Network
from stainglass.fetch.download import download
from stainglass.files import sha256_of

PUBLISHED_HASH = "6726825d"
"""First digits of the SHA-256 of the published state dict; both of its names carry them."""

PUBLISHED = (
    f"pt_inception-2015-12-05-{PUBLISHED_HASH}.pth",
    f"weights-inception-2015-12-05-{PUBLISHED_HASH}.pth",
)
"""The file as pytorch-fid and as torch-fidelity name it in torch's cache; keys and tensors are the same."""

SCRIPT = "inception-2015-12-05.pt"
"""The network as TorchScript, as StyleGAN's authors and clean-fid name it."""

FEATURES = 2048
REMEDY = (
    "Set evaluation.inception_weights to the file pt_inception-2015-12-05, its folder, or ADDRESS#sha256=HASH; "
    "see docs/fid.md"
)

Network = Callable[[Float[Tensor, "n 3 299 299"]], Float[Tensor, "n 2048"]]


@dataclass(frozen=True)
class Found:
    """A judge's weights, or why they are not here (None and None: it needs none)."""

    path: Path | None = None
    why: str | None = None


def find_weights(told: str | Path | None, *, torchscript: bool = False) -> Found:
    """The weights that a setting names; without one, the published file in torch's cache.

    Parameters
    ----------
    told
        A file, a folder with the published file in it, or ``https://…#sha256=…``, which is brought to torch's cache once.
    torchscript
        Whether the TorchScript file of a folder will do too.

    Raises
    ------
    StainglassError
        When an address comes without its hash, the download fails, or a file is not what its name says.
    """
    if isinstance(told, str) and "://" in told:
        return Found(_brought(told))
    place = cache_folder() if told is None else Path(told)
    if place.is_file():
        return Found(_as_named(place))
    if told is not None and not place.is_dir():
        return Found(why=f"its weights are not at {place.name}")
    for name in (*PUBLISHED, *((SCRIPT,) if torchscript else ())):
        if (place / name).is_file():
            return Found(_as_named(place / name))
    if told is None:
        return Found(why="no weights were given")
    return Found(why=f"the folder {place.name} holds no {' or '.join(PUBLISHED)}")


def cache_folder() -> Path:
    """Where torch keeps weights that were downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _as_named(path: Path) -> Path:
    """A name that ends with digits of its SHA-256, as torch's cache names files, must keep its word."""
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if named is not None and not sha256_of(path).startswith(named[1]):
        raise StainglassError(
            path, f"its SHA-256 does not begin with {named[1]}, as its name says", "Download it again"
        )
    return path


def _brought(address: str) -> Path:
    """The file of an address, in torch's cache under a name with its hash; what is there is not fetched again."""
    url, _, told = address.partition("#")
    sha256 = told.removeprefix("sha256=").lower()
    if not told.startswith("sha256=") or re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise StainglassError(
            url,
            "an address of weights without its SHA-256",
            "Write it behind, as ADDRESS#sha256=64_HEX_DIGITS",
        )
    name = PurePosixPath(unquote(urlsplit(url).path))
    stem = name.stem if name.stem.endswith(f"-{sha256[:8]}") else f"{name.stem}-{sha256[:8]}"
    final = cache_folder() / f"{stem}{name.suffix or '.pth'}"
    if not final.is_file() or sha256_of(final) != sha256:
        final.parent.mkdir(parents=True, exist_ok=True)
        download(url, final, sha256)
    return final


def told_weights(path: Path) -> str:
    """Name and hash of a file of weights, for the card, and whether it is the published one."""
    found = sha256_of(path)
    known = "" if found.startswith(PUBLISHED_HASH) else ", not the published state dict"
    return f"{path.name}, SHA-256 {found}{known}"


def load_network(path: Path, *, torchscript: bool = False) -> Network:
    """The network with these weights, fit for inference.

    A state dict is loaded without running anything (weights-only). TorchScript is a program: it is run only where the user
    allowed it, and has to be the published one, whose part ``layers`` takes pictures that were resized and scaled.

    Raises
    ------
    StainglassError
        When the file is something else, or TorchScript that was not allowed.
    """
    if not _is_script(path):
        return _of_state_dict(path)
    if not torchscript:
        raise StainglassError(
            path,
            "is TorchScript, a program that runs when it is loaded",
            "Give the published state dict, or allow it with evaluation.inception_torchscript=true",
        )
    return _of_script(path)


def _is_script(path: Path) -> bool:
    """Whether an archive of torch holds code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("code" in PurePosixPath(name).parts[1:-1] for name in archive.namelist())


def _of_state_dict(path: Path) -> Network:
    network = Inception2015Network()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = network.load_state_dict(state, strict=False)
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        finding = f"not the weights of the 2015 Inception network ({_reason(error)})"
        raise _not_these(path, finding) from None
    # Old exports lack the counters of batch norm, which inference never reads.
    lacking = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    if lacking or found.unexpected_keys:
        raise _not_these(path, f"lacks {lacking[:3]} or holds foreign {found.unexpected_keys[:3]}")
    return network.eval().requires_grad_(False)


def _of_script(path: Path) -> Network:
    try:
        layers = torch.jit.load(path, map_location="cpu").eval().layers
    except (RuntimeError, AttributeError) as error:
        finding = f"not the 2015 Inception network as TorchScript ({_reason(error)})"
        raise _not_these(path, finding) from None

    def pooled(x: Float[Tensor, "n 3 299 299"]) -> Float[Tensor, "n 2048"]:
        found = layers(x).flatten(1)
        if found.shape[1] != FEATURES:
            raise _not_these(path, f"its layers give {found.shape[1]} features, not {FEATURES}")
        return found

    return pooled


def _reason(error: Exception) -> str:
    """Its first line; some errors of torch have none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _not_these(path: Path, finding: str) -> StainglassError:
    return StainglassError(path, finding, "Give the published pt_inception-2015-12-05 state dict")
