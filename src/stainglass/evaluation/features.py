"""The judges: frozen networks that turn pictures into features.

Two unrelated ones judge by default. A network that took part in training never judges: a generator trained
to please a network pleases it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from stainglass.errors import StainglassError
from stainglass.evaluation.card import JudgeRecord
from stainglass.evaluation.inception import RESIZE, resized, scaled
from stainglass.evaluation.inception_weights import (
    REMEDY,
    Found,
    find_weights,
    load_network,
    told_weights,
)
from stainglass.evaluation.lpips import AlexTrunk
from stainglass.evaluation.settings import JUDGES, EvaluationSettings, Judge
from stainglass.models.features import EfficientNetLite0, in_batches
from stainglass.progress import Advance

INCEPTION = JUDGES["inception"]
"""The only judge whose Fréchet distance is called FID."""


class LpipsAlexTrunk:
    """AlexNet as LPIPS uses it (Zhang et al. 2018): the means of its five taps, 1,152 features.

    Parameters
    ----------
    weights_path
        Safetensors with ``features.*``.
    """

    name = "LPIPS-AlexNet"

    def __init__(self, weights_path: Path, batch: int = 32) -> None:
        self.batch = batch
        self.trunk = AlexTrunk.load(weights_path)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n 1152"]:
        """Mean over positions of each tap, side by side."""
        return in_batches(pixels, self._look, self.batch, advance)

    def _look(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1152"]:
        return torch.cat([tap.mean((2, 3)) for tap in self.trunk(rgb * 2 - 1)], 1)


class Inception2015:
    """The network FID is defined with; 2,048 pooled features of pictures resized as Pillow does.

    Parameters
    ----------
    weights_path
        The published ``pt_inception-2015-12-05`` state dict, or the network as TorchScript.
    torchscript
        Whether TorchScript, a program, may be run.
    """

    name = INCEPTION

    def __init__(self, weights_path: Path, batch: int = 16, torchscript: bool = False) -> None:
        self.batch = batch
        self.network = load_network(weights_path, torchscript=torchscript)
        self.weights = told_weights(weights_path)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n 2048"]:
        """Pooled features behind the last block."""
        return in_batches(pixels, self._look, self.batch, advance)

    def _look(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        return self.network(scaled(resized(rgb)))


def build_judges(settings: EvaluationSettings) -> tuple[tuple[Judge, ...], tuple[JudgeRecord, ...]]:
    """The judges that may judge, in order, and a record of every one that was asked for.

    Raises
    ------
    StainglassError
        When a name is unknown or taken in vain, nobody is left to judge, or one that was required cannot.
    """
    judges: list[Judge] = []
    records: list[JudgeRecord] = []
    for asked in settings.judges:
        name = asked if isinstance(asked, str) else asked.name
        if name == INCEPTION and not isinstance(asked, str | Inception2015):
            raise StainglassError(
                "evaluation settings",
                f"another network calls itself {INCEPTION}, and its distance would be called FID",
                "Give it a name of its own",
            )
        trained_on = name in settings.took_part_in_training
        found = Found() if trained_on or not isinstance(asked, str) else _weights(name, settings)
        why = "took part in training, so it may not judge" if trained_on else found.why
        if why is not None and settings.judges_required:
            remedy = REMEDIES.get(name, "") if not trained_on else ""
            raise StainglassError(f"judge {name}", why, remedy or "Ask for other features")
        judge = None
        if why is None:
            judge = _load(name, found.path, settings) if isinstance(asked, str) else asked
            judges.append(judge)
        records.append(_record(name, trained_on, why, judge))
    if not judges:
        raise StainglassError(
            "evaluation settings",
            f"no judge is left of {', '.join(record.name for record in records) or 'none'}",
            "Name a judge that took no part in training and whose weights are here",
        )
    return tuple(judges), tuple(records)


REMEDIES = {
    JUDGES["inception"]: REMEDY,
    JUDGES["lpips"]: "Set evaluation.lpips_weights to the file with LPIPS weights",
}


def _record(name: str, trained_on: bool, why: str | None, judge: Judge | None) -> JudgeRecord:
    of_fid = judge if isinstance(judge, Inception2015) else None
    return JudgeRecord(
        name=name,
        took_part_in_training=trained_on,
        why_absent=why,
        sees=None if of_fid is None else RESIZE,
        weights=None if of_fid is None else of_fid.weights,
    )


def _weights(name: str, settings: EvaluationSettings) -> Found:
    if name == INCEPTION:
        return find_weights(settings.inception_weights, torchscript=settings.inception_torchscript)
    if name != LpipsAlexTrunk.name:
        return Found()
    path = settings.lpips_weights
    if path is None:
        return Found(why="no weights were given")
    return Found(path) if path.is_file() else Found(why=f"its weights are not at {path.name}")


def _load(name: str, path: Path | None, settings: EvaluationSettings) -> Judge:
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name == LpipsAlexTrunk.name and path is not None:
        return LpipsAlexTrunk(path)
    if name == INCEPTION and path is not None:
        return Inception2015(path, torchscript=settings.inception_torchscript)
    raise StainglassError(
        "evaluation settings", f"no judge is called {name!r}", f"Choose of {', '.join(JUDGES.values())}"
    )
