"""Checkpoints by step: safetensors and JSON only, written whole, resumed exactly."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, write_json
from stainglass.training.average import MovingAverage

_NAME = re.compile(r"^step-(\d{7})$")


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on."""

    step: int
    state: dict[str, Any]


def hash_of_weights(*networks: nn.Module, without: str | None = None) -> str:
    """Ten hex digits of the SHA-256 of names and values: what is trained on the result of other weights is told apart by it.

    Parameters
    ----------
    without
        Names that begin so do not count.
    """
    digest = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            if without is not None and name.startswith(without):
                continue
            digest.update(name.encode())
            # By bytes, as numpy knows no bf16.
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:10]


def checkpoint_path(folder: Path, step: int) -> Path:
    """``checkpoints/step-0000100``."""
    return folder / "checkpoints" / f"step-{step:07d}"


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    found = [
        p
        for p in (folder / "checkpoints").glob("step-*")
        if _NAME.match(p.name) and (p / "state.json").is_file()
    ]
    return max(found, default=None, key=lambda p: p.name)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    average: MovingAverage,
    optimiser: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write everything a run needs to go on as if it had not stopped, then drop all but the newest ``keep``.

    Frozen parameters are not written: they are those the run began with.

    Random numbers need no state: data, noise and noise levels are functions of (seed, position), and the
    global generator is reseeded from (seed, step) at every step.
    """
    final = checkpoint_path(folder, step)
    with atomic_path(final) as temporary:
        temporary.mkdir(parents=True)
        save_file(_contiguous(_changing(model)), temporary / "model.safetensors")
        save_file(_contiguous(average.values), temporary / "ema.safetensors")
        tensors, scalars = _optimiser_state(optimiser)
        save_file(tensors, temporary / "optimiser.safetensors")
        write_json(temporary / "state.json", {"step": step, "optimiser": scalars, **state})
    for old in sorted((folder / "checkpoints").glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: MovingAverage,
    optimiser: torch.optim.Optimizer,
    expected: Mapping[str, Any],
) -> Resumed:
    """Put a checkpoint back.

    Parameters
    ----------
    expected
        Settings that must be as they were (seed, batch, …): another value would be another run.

    Raises
    ------
    StainglassError
        When it is damaged, or belongs to a run with other settings.
    """
    state = read_json(path / "state.json", "checkpoint")
    for key, value in expected.items():
        if state.get(key) != value:
            raise StainglassError(
                path, f"was written with {key} = {state.get(key)!r}, this run has {value!r}",
                "Use the same settings, or another --out (or delete this folder)",
            )  # fmt: skip
    try:
        found, wanted = load_file(path / "model.safetensors"), _changing(model)
        if found.keys() != wanted.keys():
            raise ValueError(f"{len(found)} tensors, this run trains {len(wanted)}")
        model.load_state_dict(found, strict=False)
        average.load(load_file(path / "ema.safetensors"))
        _restore_optimiser(optimiser, load_file(path / "optimiser.safetensors"), state["optimiser"])
    except (
        Exception
    ) as error:  # safetensors has no public error base; whatever it is, the file is the finding
        first = str(error).splitlines()[0]
        raise StainglassError(
            path,
            f"a damaged or foreign checkpoint ({first})",
            "Delete this folder; the run goes on from the one before",
        ) from error
    return Resumed(int(state["step"]), state)


def _changing(model: nn.Module) -> dict[str, Tensor]:
    """State of a model without its frozen parameters."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()
    }


def _optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimiser.state_dict()
    tensors, scalars = {}, {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            else:
                scalars[f"{index}.{key}"] = value
    return tensors, scalars


def _restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *scalars.items()]:
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
