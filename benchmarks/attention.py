"""Attention fused or written out: seconds of a forward and backward of the shipped UNet on a CPU.

    python -m benchmarks.attention [--generator builtin:breast] [--batch 16] [--out attention.json]

PyTorch's fused attention saves memory, and its gradient is slow on CPUs. Both ways take turns; the network, its precision and the
tokens are those of training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from benchmarks.common import arguments, emit, in_turns
from stainglass.models.denoiser import predict_velocity
from stainglass.models.genecondnet import Embedded
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.precision import cpu_has_bf16

ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Time both, tell the ratio."""
    parser = arguments(__doc__)
    parser.add_argument("--generator", default="builtin:breast")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    pipeline = TissuePipeline.from_pretrained(options.generator)
    facts = pipeline.facts
    assert facts is not None
    denoiser = pipeline.denoiser.train().requires_grad_(True).to(memory_format=torch.channels_last)
    side, width = facts.window_px // 8, pipeline.condnet.config.width
    tokens = pipeline.condnet.config.tokens * facts.max_spots
    mask = torch.ones(options.batch, tokens, dtype=torch.bool)
    told = Embedded(torch.randn(options.batch, tokens, width), mask, torch.randn(options.batch, width))
    x, t = torch.randn(options.batch, len(facts.latent_mean), side, side), torch.rand(options.batch)

    def step(way: type) -> None:
        denoiser.set_attn_processor(way())
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16()):
            loss = predict_velocity(denoiser, x, t, told, pipeline.flow).pow(2).mean()
        loss.backward()

    seconds = in_turns(
        {"fused": lambda: step(AttnProcessor2_0), "written out": lambda: step(AttnProcessor)}, ROUNDS
    )
    told_in_all = {name: round(value, 3) for name, value in seconds.items()}
    return emit(
        "attention",
        {
            "batch": options.batch,
            "seconds": told_in_all,
            "ratio": round(seconds["written out"] / seconds["fused"], 3),
        },
        options.out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
