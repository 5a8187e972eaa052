"""``stainglass latent``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next
from stainglass.cli.figures import tell
from stainglass.cli.finished import CohortPath, SectionNames, open_run


def latent(
    run: Path,
    *,
    section: SectionNames = (),
    colour: Annotated[str, Parameter(help="class, patient, a gene, a gene set or clip.")] = "class",
    slider: Annotated[
        Literal["expression", "dose", "trajectory"],
        Parameter(help="The fourth dimension: expression of a gene, dose of an edit, or noise to tissue."),
    ] = "expression",
    gene: Annotated[
        str | None,
        Parameter(help="Gene or gene set of the slider; by default the colour's, or the most variable gene."),
    ] = None,
    projection: Annotated[
        Literal["pca", "umap"], Parameter(help="umap needs pip install 'stainglass[umap]'.")
    ] = "pca",
    features: Annotated[
        Literal["efficientnet", "clip"],
        Parameter(help="What the axes are axes of: EfficientNet-Lite0, or the run's own CLIP."),
    ] = "efficientnet",
    most: Annotated[int, Parameter(help="At most this many points, two a spot, thinned evenly.")] = 50_000,
    thumbnails: Annotated[int, Parameter(help="Spots whose pictures are kept in the page.")] = 600,
    cohort: CohortPath = None,
    dry_run: DryRun = False,
) -> None:
    """Spots and generated patches in three dimensions, and a slider for the fourth: one self-contained page.

    For instance::

        stainglass latent runs/her2st --colour patient --slider dose --gene HALLMARK_HYPOXIA

    Parameters
    ----------
    run
        Folder of a run with recipe.yaml, cohort/ and generator/.
    """
    recipe, opened, generator, settings, sections = open_run(run, cohort, section)
    if dry_run:
        tell(generator, opened, sections, settings, recipe, most // 2, run)
        return
    from stainglass.report.latent_run import write_latent

    page = write_latent(
        run,
        opened,
        generator,
        settings,
        sections,
        colour=colour,
        slider=slider,
        gene=gene,
        projection=projection,
        features=features,
        most=most,
        thumbnails=thumbnails,
        seed=recipe.sampling.seed,
        batch=recipe.sampling.batch,
    )
    say_next(f"stainglass report {run}")
    print_result(page)
