"""The truth of a simulated section: what a generator, or a test, is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.sections.simulate.layout import GRID_UM, Layout
from stainglass.sections.simulate.tissues import TISSUES


@dataclass(frozen=True)
class Truth:
    """Truth of one section.

    Attributes
    ----------
    tissue
        ``skin`` or ``colon``.
    classes
        Names of the classes, in the order of ``shares``.
    shares
        (classes, h, w) share of each class in cells of ``grid_um``.
    hypoxia
        (h, w) from 0 to 1.
    grid_um
        Side of a cell, in µm.
    nuclei
        One row a nucleus: ``y_um``, ``x_um``, ``type``.
    """

    tissue: str
    classes: tuple[str, ...]
    shares: NDArray[np.float32]
    hypoxia: NDArray[np.float32]
    grid_um: float
    nuclei: pd.DataFrame

    def at(self, centre_um_yx: NDArray[np.float64], diameter_um: float) -> pd.DataFrame:
        """Truth in discs anywhere on the section.

        Parameters
        ----------
        centre_um_yx
            (n, 2) centres.
        diameter_um
            Diameter of the discs.

        Returns
        -------
        (n rows) share of every class, ``hypoxia``, and ``nuclei``, their number.
        """
        radius = diameter_um / 2 / self.grid_um
        reach = int(np.ceil(radius))
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        inside = np.hypot(dy, dx) <= radius
        dy, dx = dy[inside], dx[inside]
        cell = np.floor(np.atleast_2d(centre_um_yx) / self.grid_um).astype(np.int64)
        rows, columns = cell[:, :1] + dy, cell[:, 1:] + dx
        h, w = self.hypoxia.shape
        on = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
        rows, columns = np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
        table = pd.DataFrame(
            {name: (self.shares[i][rows, columns] * on).mean(axis=1) for i, name in enumerate(self.classes)}
        )
        table["hypoxia"] = (self.hypoxia[rows, columns] * on).mean(axis=1)
        table["nuclei"] = self.nuclei_in(centre_um_yx, diameter_um)
        return table

    def nuclei_in(self, centre_um_yx: NDArray[np.float64], diameter_um: float) -> NDArray[np.int64]:
        """(n,) number of nuclei whose centre lies in discs round (n, 2) centres."""
        from scipy.spatial import cKDTree

        if not len(self.nuclei):
            return np.zeros(len(np.atleast_2d(centre_um_yx)), dtype=np.int64)
        tree = cKDTree(self.nuclei[["y_um", "x_um"]].to_numpy())
        found = tree.query_ball_point(np.atleast_2d(centre_um_yx), diameter_um / 2, return_length=True)
        return np.asarray(found, dtype=np.int64)

    def density_per_mm2(self, shares: pd.DataFrame) -> NDArray[np.float64]:
        """Nuclei per mm² that spots of any composition (spots × classes) would have on the slide."""
        density = {one.name: one.nuclei_per_mm2 for one in TISSUES[self.tissue]}
        weights = np.array([density[name] for name in self.classes])
        return np.asarray(shares[list(self.classes)].to_numpy(np.float64) @ weights)


def truth_of(tissue: str, layout: Layout, nuclei: pd.DataFrame) -> Truth:
    """The truth of a drawn section."""
    names = tuple(one.name for one in layout.classes)
    return Truth(tissue, names, layout.shares, layout.hypoxia, GRID_UM, nuclei[["y_um", "x_um", "type"]])


def class_colours(truth: Truth, image: NDArray[np.uint8], mpp: float) -> pd.DataFrame:
    """Colour of every class as it was drawn: mean red, green, blue (0 to 255) where its share is above 0.9.

    Parameters
    ----------
    truth
        Of the section.
    image
        (h, w, 3), the slide.
    mpp
        µm per px of the slide.
    """
    cell = truth.grid_um / mpp
    rows = ((np.arange(truth.hypoxia.shape[0]) + 0.5) * cell).astype(int)
    columns = ((np.arange(truth.hypoxia.shape[1]) + 0.5) * cell).astype(int)
    sample = image[np.ix_(rows, columns)].astype(np.float64)
    colours = {}
    for name, share in zip(truth.classes, truth.shares, strict=True):
        pure = share > 0.9
        colours[name] = sample[pure].mean(axis=0) if pure.any() else np.full(3, np.nan)
    return pd.DataFrame(colours, index=["red", "green", "blue"]).T


def write_truth(truth: Truth, spots: pd.DataFrame, colours: pd.DataFrame, folder: Path) -> None:
    """Write ``cell_types.csv`` (per spot), ``nuclei.csv``, ``classes.csv``, ``programme.npz`` (maps),
    ``truth.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spots.to_csv(folder / "cell_types.csv", index_label="barcode", float_format="%.5f")
    truth.nuclei.to_csv(folder / "nuclei.csv", index=False, float_format="%.3f")
    table = colours.round(2)
    table.insert(0, "nuclei_per_mm2", [one.nuclei_per_mm2 for one in TISSUES[truth.tissue]])
    table.to_csv(folder / "classes.csv", index_label="class")
    np.savez_compressed(
        folder / "programme.npz",
        shares=truth.shares.astype(np.float16),
        hypoxia=truth.hypoxia.astype(np.float16),
    )
    write_json(
        folder / "truth.json",
        {"tissue": truth.tissue, "classes": list(truth.classes), "grid_um": truth.grid_um},
    )


def load_truth(folder: Path) -> Truth:
    """Read the truth beside a simulated section (``SECTION/truth``).

    Raises
    ------
    StainglassError
        When there is none.
    """
    about = read_json(folder / "truth.json", "truth of a simulated section")
    try:
        with np.load(folder / "programme.npz") as maps:
            shares, hypoxia = maps["shares"].astype(np.float32), maps["hypoxia"].astype(np.float32)
        nuclei = pd.read_csv(folder / "nuclei.csv")
    except (OSError, KeyError, ValueError) as error:
        raise StainglassError(
            folder, f"the truth is not whole ({error})", "Simulate the cohort again"
        ) from error
    return Truth(about["tissue"], tuple(about["classes"]), shares, hypoxia, float(about["grid_um"]), nuclei)
