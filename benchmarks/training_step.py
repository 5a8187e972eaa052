"""Seconds of a training step of a denoiser: plain, compiled, recorded as a CUDA graph, and both.

    python -m benchmarks.training_step [--widths 64 128 128] [--layers 2] [--batch 64] [--steps 60]
        [--attention tokens] [--optimiser adamw-fused] [--out training_step.json]

The steps are those of `stainglass train` (a fresh UNet with GeneCondNet, loss, gradients, clipping, optimiser, moving average) on
examples that lie ready and are only put together. Without a GPU there is nothing to record, and compiled gradients are wrong in
bf16: the plain step alone is timed. What is compiled for one way is at hand for the next, so what a row took besides its steps
says little of compiling.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks.common import arguments, emit
from stainglass.config import Attention, DenoiserLoop
from stainglass.models.denoiser import make_unet
from stainglass.models.flow import Flow
from stainglass.models.genecondnet import GeneCondNet
from stainglass.training.denoise import Denoise, LatentSpace
from stainglass.training.denoiser import ready_to_train
from stainglass.training.loop import train

WAYS = {
    "plain": {},
    "compiled": {"compile": True},
    "recorded": {"cuda_graph": True},
    "compiled and recorded": {"compile": True, "cuda_graph": True},
}
GENES, SPOTS, CHANNELS, SIDE, WIDTH = 1000, 5, 10, 32, 128
"""As in the recipe `breast`."""
FIRST = 5
"""Steps that are not timed: kernels are chosen, compiled and recorded in them."""


class Ready:
    """Examples that lie ready, one for each place of a batch."""

    def __init__(self, batch: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.drawn = [self._one(rng) for _ in range(batch)]

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The one at this place of its batch."""
        return self.drawn[position % len(self.drawn)]

    @staticmethod
    def _one(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            "z": rng.standard_normal((CHANNELS, SIDE, SIDE), dtype=np.float32),
            "noise": rng.standard_normal((CHANNELS, SIDE, SIDE), dtype=np.float32),
            "t": np.asarray(rng.uniform(0.05, 0.95), np.float32),
            "counts": rng.poisson(1.0, (SPOTS, GENES)).astype(np.float32),
            "offsets_um_yx": rng.normal(0, 100, (SPOTS, 2)).astype(np.float32),
            "diameters_um": np.full(SPOTS, 100, np.float32),
            "present": np.ones(SPOTS, bool),
            "measured": np.ones(GENES, bool),
        }


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Time every way, tell how much faster than the plain one it is."""
    parser = arguments(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 128])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--attention", choices=get_args(Attention), default="tokens")
    parser.add_argument("--optimiser", choices=("adamw", "adamw-fused", "muon"), default="adamw-fused")
    options = parser.parse_args(argv)
    ways = WAYS if torch.cuda.is_available() else {"plain": WAYS["plain"]}
    if options.optimiser == "muon":
        ways = {name: way for name, way in ways.items() if not way.get("cuda_graph")}
    rows = {}
    for name, settings in ways.items():
        loop = DenoiserLoop(
            steps=FIRST + options.steps, batch=options.batch, learning_rate=1e-4, optimiser=options.optimiser, log_every=1,
            preview_every=10**9, checkpoint_every=10**9, seed=options.seed, **settings,
        )  # fmt: skip
        rows[name] = _timed(loop, options.widths, options.layers, options.attention)
    plain = rows["plain"]["seconds_a_step"]
    for row in rows.values():
        row["times_as_fast"] = round(plain / row["seconds_a_step"], 2)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    sizes = {"widths": options.widths, "layers": options.layers, "batch": options.batch}
    sizes |= {"attention": options.attention, "optimiser": options.optimiser}
    return emit("training_step", {"device": device, **sizes, "rows": rows}, options.out)


def _timed(loop: DenoiserLoop, widths: Sequence[int], layers: int, attention: Attention) -> dict[str, float]:
    torch.manual_seed(loop.seed)
    unet = make_unet(widths, layers, 32, CHANNELS, SIDE, WIDTH, attention)
    ready_to_train(unet)
    if loop.compile:
        unet.compile(dynamic=False)
    condnet = GeneCondNet(GENES, "profile", WIDTH, tokens=4, reach_um=250.0)
    space = LatentSpace(None, ("none",), np.zeros(CHANNELS, np.float32), np.ones(CHANNELS, np.float32))
    objective, examples = Denoise(condnet, unet, space, Flow()), Ready(loop.batch, loop.seed)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        train(objective, examples, loop, Path(folder), "timing steps", cuda_graph=loop.cuda_graph)
        whole = time.perf_counter() - began
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    return {
        "seconds_a_step": round(float(np.median(seconds[FIRST:])), 5),
        "seconds_besides": round(whole - float(np.sum(seconds[FIRST:])), 1),
        "loss": round(json.loads(lines[-1])["loss"], 4),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
