"""The report's part on what was found in real and generated tissue: figures, components, classes, latent view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stainglass.report.images import picture_file

LONGEST_PX = 1500
MOST_FIGURES = 8
GROUPS = (
    (
        "figures",
        ("composite_*.png", "map_*.png", "attribution_*.png"),
        "Signals on real and generated tissue",
        "Measured expression, what is read back from real and from generated pictures of the same spots, each r beside its "
        "shuffled partner.",
    ),
    (
        "compartments",
        ("compartments.png",),
        "Compartments",
        "Generated patches beside real ones of the same compartment by expression: of another place, and of the same place. "
        "The page holds more pairs, pairs by appearance, and what was found unlike real tissue.",
    ),
    (
        "components",
        ("*_regions.png", "*_nuclei.png"),
        "Connected components",
        "Regions of neighbouring spots of one class, and nuclei, in real and generated tissue. The GeoJSON beside the "
        "pictures opens in QuPath.",
    ),
    (
        "subtypes",
        ("subtypes.png",),
        "Classes",
        "Classes by markers, and as a calibrated classifier reads them from real and generated pictures.",
    ),
)


@dataclass(frozen=True)
class AnalysisGroup:
    """Pictures of one kind of analysis, and where the rest lies; ``page`` is a link from the report, or empty."""

    title: str
    about: str
    folder: str
    pictures: tuple[dict[str, str], ...]
    more: int
    page: str = ""


def analysis_groups(run: Path) -> tuple[AnalysisGroup, ...]:
    """What ``RUN/analysis`` holds, as pictures in the page; nothing where nothing was analysed."""
    found = []
    for name, patterns, title, about in GROUPS:
        folder = run / "analysis" / name
        files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        shown = [(path.stem, picture_file(path, LONGEST_PX)) for path in files[:MOST_FIGURES]]
        pictures = tuple({"name": stem, "image": image} for stem, image in shown if image is not None)
        if pictures:
            more = max(len(files) - MOST_FIGURES, 0)
            page = f"analysis/{name}/index.html" if (folder / "index.html").is_file() else ""
            found.append(AnalysisGroup(title, about, f"analysis/{name}/", pictures, more, page))
    return tuple(found)
