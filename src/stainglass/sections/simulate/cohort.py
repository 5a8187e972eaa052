"""Simulate a cohort: sections of several patients with known truth, in the vendors' own formats."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.progress import progress_bar
from stainglass.sections.simulate.expression import count, expression_of
from stainglass.sections.simulate.layout import GRID_UM, lay_out
from stainglass.sections.simulate.nuclei import place_nuclei
from stainglass.sections.simulate.paint import paint, random_stain
from stainglass.sections.simulate.tissues import TISSUES
from stainglass.sections.simulate.truth import Truth, class_colours, truth_of, write_truth
from stainglass.sections.simulate.write import write_pyramid, write_spaceranger

PITCH_UM = 100.0
SPOT_UM = 55.0
DEPTH = 5000.0
SMALLEST_UM = 300.0


def simulate_cohort(
    out: str | Path,
    tissue: str,
    patients: int,
    size_um: float = 1200.0,
    mpp: float = 0.5,
    seed: int = 0,
    depth: float = DEPTH,
) -> Path:
    """Simulate one section of each of several patients.

    Written under ``out``: ``manifest.csv`` and, for each patient ``P1``, ``P2``, …, a Space Ranger folder
    (``outs/``), the slide (``slide.tif``, a pyramid with its scale in the tags) and the truth (``truth/``,
    see
    `load_truth`). The ordinary readers read them, with no special case.

    Parameters
    ----------
    out
        Folder; a section of the same name in it is replaced.
    tissue
        ``skin`` or ``colon``.
    patients
        Number of patients. A patient's section depends on the seed and its own number alone.
    size_um
        Side of the square section, taken to the nearest multiple of 4 µm.
    mpp
        µm per px of the slide.
    seed
        The same seed gives the same files' content.
    depth
        UMIs of a mean spot; it varies from patient to patient, and from spot to spot.

    Returns
    -------
    The manifest.

    Raises
    ------
    StainglassError
        For an unknown tissue or a size that cannot hold its structures.
    """
    out = Path(out)
    refuse_impossible(out, tissue, patients, size_um, mpp, depth)
    size_um = GRID_UM * round(size_um / GRID_UM)  # whole cells of the maps of what is where
    names = [f"P{i + 1}" for i in range(patients)]
    with progress_bar(f"simulating {tissue}", patients) as advance:
        for i, name in enumerate(names):
            with atomic_path(out / name) as folder:
                simulate_section(folder, tissue, size_um, mpp, depth, np.random.default_rng([seed, i]))
            advance(note=name)
    manifest = out / "manifest.csv"
    with atomic_path(manifest) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "patient", "path", "slide", "tissue"])
        writer.writerows([name, name, f"{name}/outs", f"{name}/slide.tif", tissue] for name in names)
    return manifest


def refuse_impossible(
    out: Path, tissue: str, patients: int, size_um: float, mpp: float, depth: float = DEPTH
) -> None:
    """What `simulate_cohort` cannot make.

    Raises
    ------
    StainglassError
        For an unknown tissue or a size that cannot hold its structures.
    """
    if tissue not in TISSUES:
        raise StainglassError(out, f"no tissue {tissue!r} to simulate", f"Choose one of {', '.join(TISSUES)}")
    if not size_um >= SMALLEST_UM or not 0.1 <= mpp <= 4.0 or patients < 1 or not depth > 0:
        raise StainglassError(
            out,
            f"cannot simulate {patients} sections of {size_um:g} µm at {mpp:g} µm/px and a depth of {depth:g}",
            f"Ask for one patient or more, {SMALLEST_UM:g} µm or more, 0.1 to 4 µm/px and a depth above zero",
        )


def simulate_section(
    folder: Path, tissue: str, size_um: float, mpp: float, depth: float, rng: np.random.Generator
) -> None:
    """Simulate one section into ``folder`` (see `simulate_cohort`)."""
    # One stream a step: a change to the drawing leaves the counts as they were.
    shape_rng, cell_rng, paint_rng, spot_rng = rng.spawn(4)
    layout = lay_out(tissue, size_um, shape_rng)
    nuclei = place_nuclei(layout, cell_rng)
    image = paint(layout, nuclei, size_um, mpp, random_stain(paint_rng), paint_rng)
    truth = truth_of(tissue, layout, nuclei)
    positions = _positions(truth, size_um, mpp, spot_rng)
    centres = positions[["pxl_row_in_fullres", "pxl_col_in_fullres"]].to_numpy(np.float64) * mpp
    spots = truth.at(centres, SPOT_UM).set_index(positions["barcode"])
    on = (positions["in_tissue"] == 1).to_numpy()
    expression = expression_of(tissue)
    counts = count(
        expression,
        spots.loc[on, list(truth.classes)],
        spots.loc[on, "hypoxia"].to_numpy(),
        spots.loc[on, "nuclei"].to_numpy(),
        depth * float(spot_rng.lognormal(0.0, 0.3)),
        spot_rng,
    )
    write_spaceranger(folder / "outs", image, mpp, positions, counts, expression.ids, expression.symbols)
    write_pyramid(image, mpp, folder / "slide.tif")
    write_truth(truth, spots, class_colours(truth, image, mpp), folder / "truth")


def _positions(truth: Truth, size_um: float, mpp: float, rng: np.random.Generator) -> pd.DataFrame:
    """Spots of a Visium array laid over the section, in Space Ranger's columns."""
    step_x, step_y = PITCH_UM / 2, PITCH_UM * np.sqrt(3) / 2
    start = rng.uniform(SPOT_UM / 2, SPOT_UM / 2 + 20, 2)
    rows = np.arange(int((size_um - SPOT_UM / 2 - start[0]) // step_y) + 1)
    columns = np.arange(int((size_um - SPOT_UM / 2 - start[1]) // step_x) + 1)
    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    staggered = (row + column) % 2 == 0
    row, column = row[staggered], column[staggered]
    yx_um = np.stack([start[0] + row * step_y, start[1] + column * step_x], axis=1)
    covered = truth.at(yx_um, SPOT_UM)[list(truth.classes)].sum(axis=1).to_numpy()
    return pd.DataFrame(
        {
            "barcode": _barcodes(len(row), rng),
            "in_tissue": (covered > 0.5).astype(int),
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": np.rint(yx_um[:, 0] / mpp).astype(int),
            "pxl_col_in_fullres": np.rint(yx_um[:, 1] / mpp).astype(int),
        }
    )


def _barcodes(number: int, rng: np.random.Generator) -> list[str]:
    """Different 16-letter barcodes with the suffix of Space Ranger."""
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(rng.choice(list("ACGT"), 16)) + "-1"] = None
    return list(found)
