"""Sampling: what the pipeline adds to the bare network.

    python -m benchmarks.sampling [--generator RUN/generator] [--out sampling.json]
    python -m benchmarks.sampling --generator builtin:breast --batch 64 --device cuda --bf16 --compile

The second tells the patches a second of a GPU, at the generator's own steps and candidates. The wall time of
`TissuePipeline.best_latents`, guidance acting over its interval and all candidates painted, is told against the number of
denoiser forwards it makes (counted by a hook, guidance included) times the time of one bare forward at the same batch.
GeneCondNet, solver, guidance arithmetic and the choice between candidates are the difference. Encoding and decoding of the same
windows are timed apart. Settings are the generator's own. Without ``--generator`` the demo's networks are
made with fresh weights, and its settings taken: the time of a forward does not depend on what was learnt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import arguments, emit, in_turns, target
from stainglass.config import Recipe
from stainglass.models.autoencoder import decode_latents, encode_pixels, make_autoencoder
from stainglass.models.denoiser import make_denoiser
from stainglass.models.facts import Facts
from stainglass.models.genecondnet import ConditionTensors, GeneCondNet
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.solver import make_scheduler
from stainglass.recipe_files import load_recipe
from stainglass.units import LATENT_STEP_PX


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--generator", help="folder of a generator, or builtin:NAME; by default the demo's, untrained"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="by default the generator's own")
    parser.add_argument("--guidance", type=float, help="by default the generator's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="multiply in bf16")
    parser.add_argument("--compile", action="store_true", help="compile denoiser and decoder")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    plan = load_recipe("demo")
    pipeline = fresh(plan) if options.generator is None else TissuePipeline.from_pretrained(options.generator)
    pipeline.to(options.device)
    assert pipeline.facts is not None
    own = SamplerSettings.of(plan.sampling) if options.generator is None else pipeline.facts.sampler
    asked = {"steps": options.steps, "guidance": options.guidance}
    settings = replace(own, **{key: value for key, value in asked.items() if value is not None})
    with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=options.bf16):
        found = measure(pipeline, settings, options.batch, options.rounds, options.compile)
    how = {"device": _device_name(options.device), "bf16": options.bf16, "compiled": options.compile}
    return emit("sampling", {**how, **found}, options.out)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def fresh(plan: Recipe) -> TissuePipeline:
    """The recipe's networks with fresh weights, and facts that fit them."""
    channels, side = plan.autoencoder.latent_channels, plan.windows.size_px // LATENT_STEP_PX
    genes = plan.genes
    pipeline = TissuePipeline(
        make_autoencoder(plan.autoencoder),
        GeneCondNet(
            genes.genes, genes.input, genes.width, genes.tokens, genes.top_k, plan.windows.reach_um
        ).eval(),
        make_denoiser(plan.denoiser, channels, side, genes.width).eval(),
        make_scheduler(plan.sampling.solver),
    )
    names = tuple(f"ENSG{i:011d}" for i in range(genes.genes))
    pipeline.facts = Facts(
        name=plan.name, mpp=plan.prepare.mpp or WANTED_MPP, window_px=plan.windows.size_px, reach_um=plan.windows.reach_um,
        max_spots=plan.windows.max_spots, gene_ids=names, gene_symbols=names,
        latent_mean=(0.0,) * channels, latent_std=(1.0,) * channels,
    )  # fmt: skip
    return pipeline


def measure(
    pipeline: TissuePipeline, settings: SamplerSettings, batch: int, rounds: int, compiled: bool = False
) -> dict[str, object]:
    """Sampling, one forward, encoding and decoding, in turns."""
    facts = pipeline.facts
    assert facts is not None
    side, channels = facts.window_px // LATENT_STEP_PX, len(facts.latent_mean)
    device = pipeline.device
    told = random_conditions(facts, batch, device)
    noises = torch.randn(settings.candidates, batch, channels, side, side, device=device)
    pixels = torch.rand(batch, 3, facts.window_px, facts.window_px, device=device) * 2 - 1
    latents = torch.randn(batch, channels, side, side, device=device)
    embedded, level = pipeline.embed(told), torch.full((batch,), 0.5, device=device)
    with FlopCounterMode(display=False) as counted:
        forwards = count_forwards(pipeline, lambda: pipeline.best_latents(told, noises, settings))
        decode_latents(pipeline.autoencoder, latents)
    if compiled:
        pipeline.denoiser.compile()
        pipeline.autoencoder.decoder.compile()

    with torch.no_grad():
        seconds = in_turns(
            {
                "sample": lambda: _done(pipeline.best_latents(told, noises, settings)),
                "forward": lambda: [
                    _done(pipeline.velocity(noises[0], level, embedded)) for _ in range(forwards)
                ],
                "encode": lambda: _done(encode_pixels(pipeline.autoencoder, pixels)),
                "decode": lambda: _done(decode_latents(pipeline.autoencoder, latents)),
            },
            rounds,
        )
    return {
        "batch": batch,
        "window_px": facts.window_px,
        "solver": settings.solver,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "candidates": settings.candidates,
        "denoiser_forwards": forwards,
        "gflop_a_window": round(counted.get_total_flops() / batch / 1e9, 1),
        "parameters": pipeline.parameters_by_part(),
        "sample_seconds": round(seconds["sample"], 4),
        "one_forward_seconds": round(seconds["forward"] / forwards, 5),
        "encode_seconds": round(seconds["encode"], 4),
        "decode_seconds": round(seconds["decode"], 4),
        "windows_per_second": round(batch / (seconds["sample"] + seconds["decode"]), 2),
        "sample_over_forwards": target(seconds["sample"] / seconds["forward"], 1.1, at_least=False),
    }


def _done(result: torch.Tensor) -> torch.Tensor:
    """Wait until a GPU has really finished."""
    if result.is_cuda:
        torch.cuda.synchronize()
    return result


def random_conditions(facts: Facts, batch: int, device: torch.device | str = "cpu") -> ConditionTensors:
    """Every slot filled with a spot of Poisson counts."""
    shape = (batch, facts.max_spots)
    return ConditionTensors(
        counts=torch.poisson(torch.ones(*shape, len(facts.gene_ids))).to(device),
        offsets_um_yx=((torch.rand(*shape, 2) - 0.5) * facts.reach_um).to(device),
        diameters_um=torch.full(shape, 55.0, device=device),
        present=torch.ones(shape, dtype=torch.bool, device=device),
        measured=torch.ones(batch, len(facts.gene_ids), dtype=torch.bool, device=device),
    )


def count_forwards(pipeline: TissuePipeline, work: object) -> int:
    """How often the denoiser is called while ``work`` runs."""
    assert callable(work)
    calls: list[None] = []
    hook = pipeline.denoiser.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        work()
    finally:
        hook.remove()
    return len(calls)


if __name__ == "__main__":
    main(sys.argv[1:])
