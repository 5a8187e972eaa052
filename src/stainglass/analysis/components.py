"""Connected components of tissue as clusters: how large, beside which, expressing what, of which class, how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64
from skimage.measure import perimeter_crofton

from stainglass.analysis.polygons import Polygon
from stainglass.analysis.regions import SpotMap, connected, neighbours, touching
from stainglass.genes.classes import UNASSIGNED

SOURCES = ("expression", "real", "generated")
"""Where the groups of spots come from: measured expression, real pictures, generated pictures."""


@dataclass(frozen=True)
class Components:
    """Connected components over the spots of a section.

    Attributes
    ----------
    groups
        Group of each spot, an index into ``names``; -1: none.
    names
        Of the groups.
    of_spot
        Component of each spot, from 1, the largest first; 0: none.
    links
        Pairs of neighbouring spots.
    grid
        Which spot every place of the tissue belongs to.
    """

    groups: Int64[np.ndarray, n]
    names: tuple[str, ...]
    of_spot: Int64[np.ndarray, n]
    links: Int64[np.ndarray, "m 2"]
    grid: SpotMap

    @classmethod
    def of(
        cls,
        groups: Int64[np.ndarray, n],
        names: Sequence[str],
        centres_um_yx: Float64[np.ndarray, "n 2"],
    ) -> Components:
        """Connect neighbouring spots of the same group."""
        links = neighbours(centres_um_yx)
        return cls(groups, tuple(names), connected(groups, links), links, SpotMap.of(centres_um_yx))

    def __len__(self) -> int:
        return int(self.of_spot.max(initial=0))

    def outline(self, component: int) -> list[Polygon]:
        """Polygons of a component in µm (y, x)."""
        return self.grid.outline(self.of_spot == component)

    def table(
        self,
        centres_um_yx: Float64[np.ndarray, "n 2"],
        probability: Float64[np.ndarray, "n k"],
        classes: Sequence[str],
        nuclei_um_yx: Float64[np.ndarray, "c 2"] | None = None,
        patches_um_yx: Float64[np.ndarray, "p 2"] | None = None,
        side_um: float = 0.0,
    ) -> pd.DataFrame:
        """One row a component.

        Parameters
        ----------
        centres_um_yx
            Of the spots.
        probability
            (n, k) of each class in each spot; what is missing to 1 is the chance that it is none of them.
        classes
            Names of the k classes.
        nuclei_um_yx
            Centres of the nuclei of the section's patches, when they were found.
        patches_um_yx, side_um
            Corners and side of those patches, which seldom show all of a component.

        Returns
        -------
        Index ``component``: ``group`` (what its spots have in common), ``class`` and ``confidence`` (the class that
        leads and its expected share of the component), ``spots``, ``area_um2``, ``perimeter_um`` (Crofton's
        formula, outer and inner borders), ``y_um``, ``x_um``, ``neighbours`` (components it touches), ``nuclei``
        (seen in patches) and ``nuclei_per_mm2`` (of what patches show of it; NaN where they show nothing), and
        ``share NAME`` of every class and of ``unassigned``.
        """
        beside = touching(self.of_spot, self.links)
        in_component = seen = None
        if nuclei_um_yx is not None and patches_um_yx is not None:
            spot = self.grid.spot_at(nuclei_um_yx)
            in_component = np.where(spot >= 0, self.of_spot[np.maximum(spot, 0)], 0)
            seen = self.grid.within(patches_um_yx, side_um)
        rows = []
        for component in range(1, len(self) + 1):
            member = self.of_spot == component
            own = self.grid.mask(member)
            mask = np.pad(own, 1)
            y, x = centres_um_yx[member].mean(axis=0)
            shares = {name: float(p) for name, p in zip(classes, probability[member].mean(axis=0))}
            shares[UNASSIGNED] = max(0.0, 1.0 - sum(shares.values()))
            leads = max(shares, key=lambda name: shares[name])
            row: dict[str, object] = {
                "component": component,
                "group": self.names[int(self.groups[member][0])],
                "class": leads,
                "confidence": shares[leads],
                "spots": int(member.sum()),
                "area_um2": float(own.sum()) * self.grid.cell_um**2,
                "perimeter_um": float(perimeter_crofton(mask)) * self.grid.cell_um,
                "y_um": float(y),
                "x_um": float(x),
                "neighbours": " ".join(str(other) for other in beside[component]),
            }
            if in_component is not None and seen is not None:
                shown_mm2 = float((own & seen).sum()) * (self.grid.cell_um / 1000) ** 2
                seen_here = int((in_component == component).sum())
                row["nuclei"] = seen_here
                row["nuclei_per_mm2"] = seen_here / shown_mm2 if shown_mm2 else float("nan")
            rows.append({**row, **{f"share {name}": share for name, share in shares.items()}})
        columns = [
            *("component", "group", "class", "confidence", "spots", "area_um2", "perimeter_um", "y_um", "x_um", "neighbours"),
            *(() if in_component is None else ("nuclei", "nuclei_per_mm2")),
            *(f"share {name}" for name in (*classes, UNASSIGNED)),
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).set_index("component")

    def mean_of(self, values: Float[np.ndarray, "n g"], names: Sequence[str]) -> pd.DataFrame:
        """Mean of per-spot values (log-normalised expression) in every component."""
        means = [
            values[self.of_spot == component].mean(axis=0, dtype=np.float64)
            for component in range(1, len(self) + 1)
        ]
        index = pd.Index(range(1, len(self) + 1), name="component")
        return pd.DataFrame(
            np.stack(means) if means else np.zeros((0, len(names))), index=index, columns=list(names)
        )
