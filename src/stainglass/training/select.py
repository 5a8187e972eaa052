"""Fitting what chooses between candidates (`stainglass.models.selector`): a ridge, on training windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import encode_pixels, pixels_to_input
from stainglass.models.facts import SELECTS
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.ridge import reading_ridge
from stainglass.models.selector import Selector, nearest_expression
from stainglass.progress import progress_bar
from stainglass.spread import spread
from stainglass.training.processes import processes

LEVEL = 0.5
"""Noise level at which the denoiser is shown pictures; of .1, .3 and .5 chosen on training tissue."""
GENES = 200
"""Most variable genes whose components are read."""
COMPONENTS = 16
WINDOWS = 2000
FEWEST = 8
LEAST_DEVIATION = 1e-3
BATCH = 16


def ready_to_select(
    pipeline: TissuePipeline, cohort: Cohort, sections: Sequence[str], candidates: int
) -> None:
    """Give a generator that is to paint several candidates what chooses between them; take it from one that is not.

    Its facts then say so. What was fitted to another denoiser is of no use to this one, so it is fitted after every training.

    Raises
    ------
    StainglassError
        When training windows do not differ in what is told.
    """
    assert pipeline.facts is not None
    training = {key: value for key, value in pipeline.facts.training.items() if key != SELECTS}
    selector = None
    if candidates > 1:
        for part in (pipeline.autoencoder, pipeline.condnet, pipeline.denoiser):
            nn.Module.to(part, processes().device)
        selector, windows = fit_selector(pipeline, cohort, sections)
        training[SELECTS] = (
            f"the best of {candidates} by {selector.config.components} components of expression that its denoiser reads, "
            f"fitted on {windows} training windows"
        )
    pipeline.register_modules(selector=selector)
    pipeline.facts = replace(pipeline.facts, training=training)


def fit_selector(pipeline: TissuePipeline, cohort: Cohort, sections: Sequence[str]) -> tuple[Selector, int]:
    """Fit to a generator's denoiser, on windows around the spots of these training sections.

    Returns
    -------
    The selector, and how many windows it was fitted on.

    Raises
    ------
    StainglassError
        When there are too few windows, or all are told the same.
    """
    facts = pipeline.facts
    assert facts is not None
    windows = cohort.patches(sections, facts.window_px)
    windows = [windows[i] for i in spread(len(windows), WINDOWS)]
    if facts.told == "bulk" or len(windows) < FEWEST:
        found = (
            "is told its section's mean" if facts.told == "bulk" else f"has {len(windows)} training windows"
        )
        raise StainglassError(
            "sampling.candidates", f"is for generators that are told spots, and {facts.name} {found}",
            "Set sampling.candidates=1",
        )  # fmt: skip
    seen, expression, measured = _seen(pipeline, cohort, windows)
    # A section that did not measure a gene says nothing of it, as when it is painted.
    usual = np.average(expression, axis=0, weights=measured + 1e-9)
    centred = (expression - usual) * measured
    deviation = np.sqrt(np.average(centred**2, axis=0, weights=measured + 1e-9))
    chosen = np.sort(np.argsort(-deviation, kind="stable")[:GENES])
    z = centred[:, chosen] / (deviation[chosen] + LEAST_DEVIATION)
    components = PCA(min(COMPONENTS, *z.shape), svd_solver="full").fit(z).components_
    weights, bias = _ridge(seen, z @ components.T)

    selector = Selector(seen.shape[1], expression.shape[1], len(components), LEVEL)
    told = np.zeros((len(components), expression.shape[1]))
    told[:, chosen] = components / (deviation[chosen] + LEAST_DEVIATION)
    with torch.no_grad():
        for place, value in (
            (selector.read.weight, weights), (selector.read.bias, bias), (selector.told.weight, told), (selector.usual, usual)
        ):  # fmt: skip
            place.copy_(torch.from_numpy(value))
    selector.eval().requires_grad_(False)
    return selector.to(pipeline.device), len(windows)


def _seen(
    pipeline: TissuePipeline, cohort: Cohort, windows: list[Window]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """What the denoiser sees in real windows, the log1p CP10k of the spots they are centred on, and which genes were measured."""
    facts = pipeline.facts
    assert facts is not None
    told = cohort.conditions(windows, facts.axis, facts.reach_um, facts.max_spots)
    assert told.measured is not None
    seen, expression = [], []
    with progress_bar("learning to select", len(windows)) as advance:
        for first in range(0, len(windows), BATCH):
            some = windows[first : first + BATCH]
            pixels = pixels_to_input(torch.from_numpy(cohort.pixels(some))).to(pipeline.device)
            latents = encode_pixels(pipeline.autoencoder, pixels)
            seen.append(pipeline.look(latents, LEVEL).double().cpu().numpy())
            few = ConditionTensors.of(told.take(range(first, first + len(some))))
            expression.append(nearest_expression(few).double().numpy())
            advance(len(some))
    return np.concatenate(seen), np.concatenate(expression), told.measured


def _ridge(
    seen: Float64[np.ndarray, "n d"], wanted: Float64[np.ndarray, "n k"]
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, k]]:
    """Weights and bias of a ridge: all of it is linear, so what it says of nothing and of each feature alone gives them away."""
    ridge, features = reading_ridge(*seen.shape).fit(seen, wanted), seen.shape[1]
    bias = ridge.predict(np.zeros((1, features))).reshape(-1)
    return ridge.predict(np.eye(features)).reshape(features, -1).T - bias[:, None], bias
