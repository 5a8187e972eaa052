"""``stainglass retrieve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from stainglass.cli.common import print_result, say_next

if TYPE_CHECKING:
    import numpy as np

    from stainglass.cohort.cohort import Cohort
    from stainglass.models.clip import TissueCLIP


def retrieve(
    run: Path,
    query: Annotated[str, Parameter(help="SECTION:SPOT of the cohort, or a picture's file.")],
    *,
    by: Annotated[
        Literal["genes", "image"],
        Parameter(help="genes: nearest real patches; image: nearest expression profiles."),
    ] = "genes",
    among: Annotated[
        str, Parameter(help="What is searched: train, validation, test, or a section's id.")
    ] = "train",
    k: int = 5,
    cohort: Annotated[Path | None, Parameter(help="The cohort; by default the run's own.")] = None,
) -> None:
    """Search the run's CLIP space: genes → nearest real patches, a patch → nearest expression profiles.

    Writes a table of the hits and their patches side by side under RUN/retrieved.

    For instance::

        stainglass retrieve runs/skin P5:AAACAAGTATCTCCCA-1 --by genes --k 5

    Parameters
    ----------
    run
        Folder of a run with a CLIP.
    """
    import numpy as np
    from PIL import Image

    from stainglass.analysis.embeddings import embed_sections, montage, nearest, retrieved_table
    from stainglass.cli.generate import sections_of
    from stainglass.cohort.of_run import open_cohort
    from stainglass.errors import StainglassError
    from stainglass.files import atomic_path
    from stainglass.models.clip import TissueCLIP

    if k < 1:
        raise StainglassError("--k", f"{k} is not possible", "Give a whole number from 1 on")
    clip = TissueCLIP.load(run / "clip" / "model")
    opened = open_cohort(run, cohort)
    vector, shown, name = _query(clip, opened, query, by)
    searched = embed_sections(clip, opened, sections_of(opened, among))
    at, cosines = nearest(vector, searched.images if by == "genes" else searched.genes, k)
    table = retrieved_table(opened, searched, at, cosines)
    out = run / "retrieved"
    with atomic_path(out / f"{name}-{by}.csv") as temporary:
        table.to_csv(temporary, index=False)
    patches = opened.pixels([searched.windows[i] for i in at])
    with atomic_path(out / f"{name}-{by}.png") as temporary:
        Image.fromarray(montage(np.concatenate([shown[None], patches]))).save(temporary, format="PNG")
    for row in table.itertuples():
        print(f"{row.cosine:+.3f}  {row.section}:{row.spot}  {row.top_genes}")
    say_next(f"look at {out / f'{name}-{by}.png'}: the query, then its hits")
    print_result(out / f"{name}-{by}.csv")


def _query(clip: TissueCLIP, cohort: Cohort, query: str, by: str) -> tuple[np.ndarray, np.ndarray, str]:
    """The query's vector, its picture, and a name for files."""
    import numpy as np

    from stainglass.analysis.embeddings import embed_sections
    from stainglass.errors import StainglassError

    section, colon, spot = query.partition(":")
    if Path(query).is_file():
        if by == "genes":
            raise StainglassError(query, "a picture has no genes", "Ask with --by image")
        pixels = _picture(Path(query), _window_px(clip))
        return clip.embed_images(pixels[None])[0], pixels, Path(query).stem
    if not colon or section not in cohort.sections:
        known = ", ".join(cohort.sections)
        raise StainglassError(
            query, "neither a file nor a SECTION:SPOT of the cohort", f"Sections are: {known}"
        )
    found = embed_sections(clip, cohort, [section])
    names = [window.spot for window in found.windows]
    if spot not in names:
        raise StainglassError(
            query, f"{section} has no used spot {spot!r}", f"For instance {section}:{names[0]}"
        )
    at = names.index(spot)
    vectors: Any = found.genes if by == "genes" else found.images
    safe = f"{section}-{spot}".replace("/", "_")
    return np.asarray(vectors[at]), cohort.pixels([found.windows[at]])[0], safe


def _window_px(clip: TissueCLIP) -> int:
    assert clip.facts is not None
    return clip.facts.window_px


def _picture(path: Path, side: int) -> np.ndarray:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from stainglass.errors import StainglassError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError):
        raise StainglassError(path, "no picture that can be read", "Give a PNG or TIFF patch") from None
    if pixels.shape[:2] != (side, side):
        raise StainglassError(
            path,
            f"is {pixels.shape[1]} × {pixels.shape[0]} px, this CLIP looks at windows of {side} px",
            "Cut or scale the patch to the model's window at its µm/px",
        )
    return pixels
