"""``stainglass export``: a generator to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stainglass.cli.common import print_result


def export(
    generator: Path,
    *,
    out: Path,
    form: Annotated[
        Literal["diffusers", "stainglass"],
        Parameter(help="For plain diffusers, or for stainglass with its figures."),
    ] = "diffusers",
) -> None:
    """Save a generator to hand on: as a Stable Diffusion folder, or as a stainglass generator with its card.

    ``diffusers`` (generators of Stable Diffusion's family) loads without stainglass and without a text encoder:
    ``StableDiffusionPipeline.from_pretrained(OUT, text_encoder=None, tokenizer=None)``. Tokens for ``prompt_embeds`` come from
    GeneCondNet, which lies beside. ``stainglass`` takes a run that was evaluated: its model card then holds every figure.

    For instance::

        stainglass export runs/her2st_sd/generator --out her2st_sd_diffusers
        stainglass export runs/breast --out breast --form stainglass

    Parameters
    ----------
    generator
        A saved generator, or a run.
    out
        Folder to write; must not exist.
    """
    from stainglass.errors import StainglassError
    from stainglass.models.pipeline import TissuePipeline
    from stainglass.models.stable_diffusion import export_stable_diffusion
    from stainglass.report.hand_on import hand_on

    if out.exists():
        raise StainglassError(out, "exists already", "Choose another --out")
    if form == "stainglass":
        print_result(hand_on(generator, out))
        return
    folder = generator / "generator" if (generator / "generator").is_dir() else generator
    print_result(export_stable_diffusion(TissuePipeline.from_pretrained(folder), out))
