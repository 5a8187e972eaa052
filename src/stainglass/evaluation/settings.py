"""What an evaluation may be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from stainglass.progress import Advance

JUDGES = {"efficientnet": "EfficientNet-Lite0", "lpips": "LPIPS-AlexNet", "inception": "Inception-2015"}
"""Names of the judges as a user asks for them, and as the card names them; all judge unless some are asked for."""


class Judge(Protocol):
    """A network (or any function) that turns pictures into features; it never learns here."""

    @property
    def name(self) -> str:
        """Name on the card; "FID" is reserved for the 2015 Inception network."""
        ...

    def features(
        self, pixels: UInt8[np.ndarray, "n h w 3"], advance: Advance | None = None
    ) -> Float32[np.ndarray, "n d"]:
        """One row of features a picture; ``advance`` is called with the number of pictures done."""
        ...


BLOCK_UM = 1000.0
"""Side of the blocks of tissue that intervals draw."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How to judge; every default is a choice the card states.

    Attributes
    ----------
    mpp
        µm per px of the windows.
    split
        Name of the split's part that is judged; written in every row.
    trained_on
        What the generator was trained on, in words.
    n
        At most this many windows a subject; every subject gets the same number.
    seeds
        Noise seeds; each is painted under every condition.
    sampling
        How windows are painted, for the card to tell.
    judges
        Names known to `stainglass.evaluation.features.build_judges`, or judges themselves. The first leads.
    judges_required
        Whether a judge that cannot judge is an error; else a row says why it is silent.
    took_part_in_training
        Names of networks the generator was trained on; they never judge.
    saw_train
        Whether the generator was trained on the training tissue that is handed over; of other tissue it has no copies.
    tells_images
        Whether the generator may be told CLIP embeddings of pictures.
    lpips_weights
        File with weights; None or absent leaves its rows undefined, with the reason.
    inception_weights
        File, folder or ``https://…#sha256=…``; None looks into torch's cache. See
        `stainglass.evaluation.inception_weights.find_weights`.
    inception_torchscript
        Whether these weights may be TorchScript, a program that is run.
    derange_um
        Shuffled conditions come from windows at least this far away, or from another section.
    block_um
        Side of the blocks of tissue that are resampled together.
    bootstrap
        Resamples behind an interval.
    recovery_genes
        How many of the training tissue's most variable genes are looked for in the pictures.
    train_max
        At most this many training windows are used (fit of the recovery, nearest neighbours).
    usefulness
        How many labelled training windows are taught and painted for the rows on usefulness; 0: no such rows.
    primary
        The one metric declared before the run.
    notes
        What a reader of the card must know ("noise seeds, not training seeds").
    choice_seed
        Seed of every draw the evaluation makes (windows, derangement, resamples).
    """

    mpp: float
    split: str = "validation"
    trained_on: str = "not stated"
    n: int = 200
    seeds: tuple[int, ...] = (0, 1, 2)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    judges: tuple[str | Judge, ...] = tuple(JUDGES.values())
    judges_required: bool = False
    took_part_in_training: tuple[str, ...] = ()
    saw_train: bool = True
    tells_images: bool = False
    lpips_weights: Path | None = None
    inception_weights: Path | str | None = None
    inception_torchscript: bool = False
    derange_um: float = 1000.0
    block_um: float = BLOCK_UM
    bootstrap: int = 200
    recovery_genes: int = 200
    train_max: int = 2000
    usefulness: int = 0
    primary: str = "recovery_gain"
    notes: tuple[str, ...] = ()
    choice_seed: int = 0
