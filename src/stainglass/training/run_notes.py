"""What a run writes down about its own making: how long each part took, and what it began with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.training.processes import is_first, processes


def timed(path: Path, name: str, work: Callable[[], Any]) -> Any:
    """Do the work and add its seconds to ``timing.json`` (a resumed stage adds up)."""
    began = time.perf_counter()
    try:
        done = work()
    finally:
        if is_first():
            seconds = read_json(path, "timing") if path.is_file() else {}
            seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 1)
            write_json(path, seconds)
    processes().wait_for_everyone()  # others read these seconds too
    return done


def same_checkpoint(path: Path, name: str) -> str:
    """The name of what a run begins with, written down then: a hub id or folder that changed meanwhile is not gone on with.

    Raises
    ------
    StainglassError
        When the run began with another checkpoint, or another commit of it.
    """
    if path.is_file():
        began = read_json(path, "checkpoint")["source"]
        if began != name:
            raise StainglassError(
                path.parent, f"began with {began}, and {name} was found now",
                "Restore the former (denoiser.revision pins a hub id), or choose another --out",
            )  # fmt: skip
    write_json(path, {"source": name})
    return name


def device_name() -> str:
    """What trains here, for the model card."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "CPU"
