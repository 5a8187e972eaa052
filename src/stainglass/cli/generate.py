"""``stainglass generate``."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from stainglass.cli.common import DryRun, print_result, say_next


def generate(
    source: Path,
    *,
    model: Annotated[str, Parameter(help="A generator's folder (or a run's, a hub id, or builtin:NAME).")],
    out: Path,
    n: Annotated[int | None, Parameter(help="This many windows, spread evenly; all by default.")] = None,
    part: Annotated[
        str | None, Parameter(help="Of a cohort: train, validation, test, or a section's id.")
    ] = None,
    split: Annotated[str, Parameter(help="Which split --part is of, by name (fold-0-of-5, …).")] = "default",
    section: Annotated[
        str | None, Parameter(help="Which section of a folder that holds several (an ST array's).")
    ] = None,
    layout: Literal["patches", "grid"] = "patches",
    mpp: Annotated[
        float | None, Parameter(help="µm/px of obsm['spatial'] of an AnnData that does not tell.")
    ] = None,
    steps: Annotated[
        int | None, Parameter(help="Of the solver; like the next six, by default the model's own.")
    ] = None,
    solver: Literal["euler", "heun", "unipc", "dpmpp", "jumps"] | None = None,
    guidance: float | None = None,
    interval: Annotated[
        tuple[float, float] | None, Parameter(help="Noise levels between which guidance acts.")
    ] = None,
    thinning: Annotated[float | None, Parameter(help="Share of each spot's counts that is not told.")] = None,
    depth: Annotated[
        float | None,
        Parameter(help="Median counts a spot that a deeper section is thinned to; inf: told in full."),
    ] = None,
    candidates: Annotated[
        int | None, Parameter(help="Pictures painted of each window, of which the best is kept.")
    ] = None,
    seed: int = 0,
    batch: int = 16,
    tiff: Annotated[bool, Parameter(help="Write TIFF instead of PNG.", negative="")] = False,
    dry_run: DryRun = False,
) -> None:
    """Paint patches for an AnnData, a section's folder or a cohort's sections.

    Every file says in its metadata that it is synthetic, by which model and from which spots.

    For instance::

        stainglass generate my.h5ad --model run/generator --out painted --n 36

    Parameters
    ----------
    source
        An .h5ad, the folder of a section, or a prepared cohort.
    out
        Folder for the pictures and patches.csv.
    layout
        Windows round the spots, or a grid that tiles the tissue (cohorts only).
    """
    from stainglass.sections.names import name_of
    from stainglass.synthesis.generator import Generator

    is_cohort = (source / "cohort.json").is_file()
    counts = {"--n": n, "--batch": batch, "--steps": steps, "--candidates": candidates}
    _refuse_nonsense(is_cohort, counts, thinning, depth, part, layout)
    generator = Generator.from_pretrained(model_folder(model))
    asked: dict[str, Any] = {
        "solver": solver, "steps": steps, "guidance": guidance, "interval": interval,
        "thinning": thinning, "depth": depth, "candidates": candidates,
    }  # fmt: skip
    own = generator.facts.sampler
    settings = replace(own, **{name: value for name, value in asked.items() if value is not None})
    if settings.depth == inf:
        settings = replace(settings, depth=None)
    generator.pipeline.require_selector(settings.candidates)
    if is_cohort:
        from stainglass.cohort.cohort import Cohort

        cohort = Cohort.open(source)
        sections = sections_of(cohort, part, split)
        size = generator.facts.window_px
        windows = len(cohort.patches(sections, size) if layout == "patches" else cohort.grid(sections, size))
    else:
        spots = _spots_of(source, mpp, section)
        windows = int(spots.obs["used"].sum())
    if dry_run:
        from stainglass.cli.estimate import tell_painting

        tell_painting(generator.pipeline, min(windows, n or windows), settings, batch, out)
        return
    order = (
        generator.order_cohort(cohort, sections, n, layout=layout, seed=seed, settings=settings)
        if is_cohort
        else generator.order(spots, n, section=section or name_of(source), seed=seed, settings=settings)
    )
    generator.paint_into(order, out, batch=batch, suffix=".tif" if tiff else ".png")
    say_next(f"look at {out}, then stainglass evaluate RUN")
    print_result(out)


def _refuse_nonsense(
    is_cohort: bool,
    counts: dict[str, int | None],
    thinning: float | None,
    depth: float | None,
    part: str | None,
    layout: str,
) -> None:
    from stainglass.errors import StainglassError

    for name, value in counts.items():
        if value is not None and value < 1:
            raise StainglassError(name, f"{value} is not possible", "Give a whole number from 1 on")
    if thinning is not None and not 0 <= thinning < 1:
        raise StainglassError("--thinning", f"{thinning:g} is not possible", "Give a share from 0 to below 1")
    if depth is not None and not depth > 0:
        raise StainglassError("--depth", f"{depth:g} is not possible", "Give counts a spot, above 0")
    if not is_cohort and (part is not None or layout != "patches"):
        raise StainglassError(
            "--part and --layout grid", "need a prepared cohort", "Run 'stainglass prepare' first"
        )


def model_folder(model: str) -> str:
    """A run's folder stands for its generator."""
    inside = Path(model) / "generator"
    return str(inside) if inside.is_dir() else model


def sections_of(cohort: Any, part: str | None, split: str = "default") -> tuple[str, ...]:
    """Sections of a part of the split, one by name, or all."""
    if part is None:
        return tuple(cohort.sections)
    if part in cohort.sections:
        return (part,)
    from stainglass.errors import StainglassError

    if part not in ("train", "validation", "test"):
        raise StainglassError(
            f"--part {part}",
            "no part of a split and no section",
            f"Choose train, validation, test or one of {', '.join(cohort.sections)}",
        )
    return tuple(cohort.split(split).part(part))


def _spots_of(source: Path, mpp: float | None, which: str | None) -> Any:
    """The spots of an AnnData file or a section's folder, positions in µm; what was noticed of them is told."""
    from rich.markup import escape

    from stainglass.progress import console
    from stainglass.sections import read_section
    from stainglass.sections.read import kind_of

    if kind_of(source) == "anndata":
        import anndata

        from stainglass.sections.spots import read_spots

        adata = anndata.read_zarr(source) if source.is_dir() else anndata.read_h5ad(source)
        section = read_spots(adata, id=source.stem, mpp=mpp)
    else:
        from stainglass.sections.spots import NoSlide

        section = read_section(source, mpp=mpp, section=which, slide=NoSlide())
    for notice in section.notices:
        console.print(f"  [dim]{escape(notice)}[/dim]", highlight=False, soft_wrap=True)
    spots = section.spots
    spots.obsm["spatial_um_yx"] = section.spots_um_yx
    return spots
