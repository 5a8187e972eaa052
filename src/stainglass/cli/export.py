"""``stainglass export``: a generator as a folder that plain diffusers loads."""

from __future__ import annotations

from pathlib import Path

from stainglass.cli.common import print_result


def export(generator: Path, *, out: Path) -> None:
    """Save a generator of Stable Diffusion's family as a Stable Diffusion folder.

    diffusers loads it without stainglass and without a text encoder: ``StableDiffusionPipeline.from_pretrained(OUT,
    text_encoder=None, tokenizer=None)``. Tokens for ``prompt_embeds`` come from GeneCondNet, which lies beside.

    For instance::

        stainglass export runs/her2st_sd/generator --out her2st_sd_diffusers

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

    if out.exists():
        raise StainglassError(out, "exists already", "Choose another --out")
    folder = generator / "generator" if (generator / "generator").is_dir() else generator
    print_result(export_stable_diffusion(TissuePipeline.from_pretrained(folder), out))
