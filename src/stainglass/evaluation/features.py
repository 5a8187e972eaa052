"""The judges: frozen networks that turn pictures into features.

Two unrelated ones judge by default. A network that took part in training never judges: a generator trained
to please a network pleases it.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from stainglass.errors import StainglassError
from stainglass.evaluation.card import JudgeRecord
from stainglass.evaluation.inception import Inception2015Network
from stainglass.evaluation.lpips import AlexTrunk
from stainglass.evaluation.settings import EvaluationSettings, Judge
from stainglass.models.features import EfficientNetLite0, in_batches
from stainglass.progress import Advance

INCEPTION = "Inception-2015"
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
    """The network FID is defined with; 2,048 pooled features.

    Parameters
    ----------
    weights_path
        The published ``pt_inception-2015-12-05`` state dict.
    """

    name = INCEPTION

    def __init__(self, weights_path: Path, batch: int = 16) -> None:
        self.batch = batch
        self.network = Inception2015Network()
        try:
            state = torch.load(weights_path, map_location="cpu", weights_only=True)
            found = self.network.load_state_dict(state, strict=False)
        except (pickle.UnpicklingError, RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise StainglassError(
                weights_path,
                f"not the weights of the 2015 Inception network ({reason})",
                "Give the published pt_inception-2015-12-05 state dict",
            ) from None
        # Old exports lack the counters of batch norm, which inference never reads.
        lacking = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
        if lacking or found.unexpected_keys:
            raise StainglassError(
                weights_path,
                f"lacks {lacking[:3]} or holds foreign {found.unexpected_keys[:3]}",
                "Give the published pt_inception-2015-12-05 state dict",
            )
        self.network.eval().requires_grad_(False)

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n 2048"]:
        """Pooled features behind the last block."""
        return in_batches(pixels, self.network, self.batch, advance)


def build_judges(settings: EvaluationSettings) -> tuple[tuple[Judge, ...], tuple[JudgeRecord, ...]]:
    """The judges that may judge, in order, and a record of every one that was asked for.

    Raises
    ------
    StainglassError
        When a name is unknown, or nobody is left to judge.
    """
    judges: list[Judge] = []
    records: list[JudgeRecord] = []
    for asked in settings.judges:
        name = asked if isinstance(asked, str) else asked.name
        trained_on = name in settings.took_part_in_training
        why = "took part in training, so it may not judge" if trained_on else _why_absent(name, settings)
        records.append(JudgeRecord(name=name, took_part_in_training=trained_on, why_absent=why))
        if why is None:
            judges.append(_load(asked, settings) if isinstance(asked, str) else asked)
    if not judges:
        raise StainglassError(
            "evaluation settings",
            f"no judge is left of {', '.join(record.name for record in records) or 'none'}",
            "Name a judge that took no part in training and whose weights are here",
        )
    return tuple(judges), tuple(records)


def _weights(name: str, settings: EvaluationSettings) -> Path | None:
    return {LpipsAlexTrunk.name: settings.lpips_weights, INCEPTION: settings.inception_weights}.get(name)


def _why_absent(name: str, settings: EvaluationSettings) -> str | None:
    if name not in (LpipsAlexTrunk.name, INCEPTION):
        return None
    path = _weights(name, settings)
    if path is None:
        return "no weights were given"
    return None if path.is_file() else f"its weights are not at {path.name}"


def _load(name: str, settings: EvaluationSettings) -> Judge:
    path = _weights(name, settings)
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name == LpipsAlexTrunk.name and path is not None:
        return LpipsAlexTrunk(path)
    if name == INCEPTION and path is not None:
        return Inception2015(path)
    raise StainglassError(
        "evaluation settings",
        f"no judge is called {name!r}",
        f"Choose of {EfficientNetLite0.name}, {LpipsAlexTrunk.name}, {INCEPTION}",
    )
