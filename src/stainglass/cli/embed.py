"""``stainglass embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next


def embed(
    run: Path,
    *,
    cohort: Annotated[Path | None, Parameter(help="The cohort; by default the run's own.")] = None,
    sections: Annotated[
        tuple[str, ...], Parameter(name="--section", help="Section ids; all by default.", negative="")
    ] = (),
) -> None:
    """Place every spot and its patch in the run's CLIP space.

    Writes one .h5ad a section with obsm["X_clip_image"] and obsm["X_clip_gene"], which scanpy and squidpy read.

    For instance::

        stainglass embed runs/skin --section P5

    Parameters
    ----------
    run
        Folder of a run with a CLIP (stainglass align, or a recipe with clip).
    """
    from stainglass.analysis.embeddings import write_embeddings
    from stainglass.cli.common import known_sections
    from stainglass.cohort.of_run import open_cohort
    from stainglass.models.clip import TissueCLIP

    clip = TissueCLIP.load(run / "clip" / "model")
    opened = open_cohort(run, cohort)
    write_embeddings(clip, opened, known_sections(opened, sections), run / "embeddings")
    say_next(f"stainglass retrieve {run} SECTION:SPOT")
    print_result(run / "embeddings")
