"""Objective of a gene encoder before there are pictures: complete a profile of which counts and genes were taken away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.expression import KeptExpression, kept_expression, learnable
from stainglass.cohort.splits import Split
from stainglass.config import GeneEncoder as GeneSettings
from stainglass.config import Loop
from stainglass.genes.axis import GeneAxis
from stainglass.models.gene_encoder import VISIUM_DIAMETER_UM, GeneEncoder, log_normalised
from stainglass.progress import console
from stainglass.training.batches import Batch, rng_of
from stainglass.training.corrupt import corrupted
from stainglass.training.loop import Objective, train

BATCH = 128
HIDDEN = 0.5
"""Share of genes taken away."""


class Profiles:
    """Spots of any sections, each section as often as it has spots, thinned and with half their genes taken away.

    Parameters
    ----------
    counts
        Of each section, (spots, genes) on the model's axis, with which genes were measured.
    diameters_um
        Of each section's spots.
    """

    def __init__(
        self,
        counts: Sequence[tuple[Float32[np.ndarray, "spots g"], Bool[np.ndarray, g]]],
        diameters_um: Sequence[float],
        genes: GeneSettings,
        seed: int,
    ) -> None:
        self.counts, self.diameters_um, self.seed = counts, diameters_um, seed
        self.genes = genes.model_copy(update={"gene_dropout": 0.0})
        self._ends = np.cumsum([len(matrix) for matrix, _ in counts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def example(self, position: int) -> dict[str, np.ndarray]:
        """``counts`` as they are; ``seen``, what is left of them, and which genes are ``shown``: the others are silent, as genes
        a panel lacks are, since a zero would tell something.
        """
        rng = rng_of(self.seed, position)
        pick = int(rng.integers(len(self)))
        which = int(np.searchsorted(self._ends, pick, side="right"))
        matrix, measured = self.counts[which]
        row = matrix[pick - (int(self._ends[which - 1]) if which else 0)][None]
        shown = measured & (rng.random(len(measured)) >= HIDDEN)
        return {
            "counts": row[0],
            "seen": corrupted(row, self.genes, rng)[0] * shown,
            "shown": shown,
            "measured": measured,
            "diameter_um": np.asarray(self.diameters_um[which], np.float32),
        }


class Complete(Objective):
    """Squared error of every measured gene's standardised level, told from the encoder's vector by one linear map."""

    def __init__(self, encoder: GeneEncoder, genes: int, width: int) -> None:
        super().__init__()
        self.encoder, self.tell = encoder, nn.Linear(width, genes)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and the share of variance that is told."""
        wanted = self.encoder.standard(log_normalised(batch["counts"]))
        measured = batch["measured"]
        _, vectors = self.encoder(batch["seen"], batch["diameter_um"], batch["shown"])
        loss = (self.tell(vectors) - wanted)[measured].pow(2).mean()
        return loss, {"explained": 1 - loss.detach() / wanted[measured].var()}


def pretrain_encoder(
    encoder: GeneEncoder,
    cohort: Cohort,
    split: Split,
    trained: Sequence[str],
    axis: GeneAxis,
    settings: GeneSettings,
    width: int,
    folder: Path,
    denoiser: Loop,
) -> tuple[KeptExpression, ...]:
    """Train a fitted encoder, in place, on all expression that training may see.

    Parameters
    ----------
    trained
        Sections whose spots count: the training part, less those that are told to be unpaired.
    folder
        Of this training's log and checkpoints.
    denoiser
        Loop of the training that follows: its seed and precision hold here too.

    Returns
    -------
    The sections without pictures it has seen.
    """
    further = learnable(kept_expression(cohort.path), split, cohort.patients)
    counts = [cohort.sections[name].counts_on(axis) for name in trained]
    diameters = [float(cohort.sections[name].used_spots.obs["diameter_um"].median()) for name in trained]
    for one in further:
        counts.append(one.counts_on(axis))
        diameters.append(diameters[0] if diameters else VISIUM_DIAMETER_UM)
    profiles = Profiles(counts, diameters, settings, denoiser.seed)
    console.print(
        f"  gene encoder: {len(profiles)} spots of {len(trained)} training sections and {len(further)} without pictures",
        highlight=False,
    )
    steps = settings.pretrain_steps
    shared = {"seed": denoiser.seed, "precision": denoiser.precision}
    loop = Loop(steps=steps, batch=BATCH, checkpoint_every=max(steps // 2, 1), preview_every=steps, **shared)
    torch.manual_seed(denoiser.seed)
    train(Complete(encoder, len(axis), width), profiles, loop, folder, "pre-training the gene encoder")
    encoder.train()
    return tuple(further)
