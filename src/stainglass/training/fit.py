"""Everything that is fitted, fitted on the training sections alone; it travels with the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis
from stainglass.genes.normalise import log_normalised
from stainglass.models.turns import TURNS, Frequency, channel_action


def variable_genes(cohort: Cohort, sections: Sequence[str], most: int) -> GeneAxis:
    """The genes whose log-normalised expression varies most over the training spots, most variable first, ties by id.

    Genes that a training section did not measure are left out: a zero there is no count.
    """
    blocks, measured = zip(*(cohort.sections[name].counts_on(cohort.axis) for name in sections))
    everywhere = np.logical_and.reduce(measured)
    level = log_normalised(np.concatenate(blocks))
    variance = np.where(everywhere, level.var(0), -1.0)
    order = sorted(range(len(cohort.axis)), key=lambda i: (-variance[i], cohort.axis.ids[i]))[:most]
    chosen = [i for i in order if variance[i] > 0]
    if len(chosen) < 10:
        raise StainglassError(
            cohort.path,
            f"only {len(chosen)} genes vary over the training sections",
            "Check that the sections share a gene panel and carry raw counts",
        )
    return GeneAxis(tuple(cohort.axis.ids[i] for i in chosen), tuple(cohort.axis.symbols[i] for i in chosen))


def latent_statistics(
    cohort: Cohort,
    sections: Sequence[str],
    raster: str,
    size_px: int,
    frequencies: Sequence[Frequency] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each latent channel over the training patches.

    When turns act on the channels, the statistics are averaged over all eight, so that normalising and
    turning can be done in either order.

    Returns
    -------
    mean, std
        (c,) each.
    """
    total = squares = None
    count = 0
    for window in cohort.patches(sections, size_px):
        z = cohort.sections[window.section].latents(raster, window).astype(np.float64)
        if total is None or squares is None:
            total, squares = np.zeros(len(z)), np.zeros(len(z))
        total += z.sum((1, 2))
        squares += (z**2).sum((1, 2))
        count += z.shape[1] * z.shape[2]
    assert total is not None
    assert squares is not None
    mean, square = total / count, squares / count
    if frequencies is not None:
        actions = [channel_action(frequencies, turn) for turn in TURNS]
        mean = np.mean([mean[source] * np.array(sign) for source, sign in actions], axis=0)
        square = np.mean([square[source] for source, _ in actions], axis=0)
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 1e-6)).astype(np.float32)
