"""A pathologist's labels, a table per spot or regions drawn in QuPath, joined to the spots of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stainglass.analysis.polygons import area_of, contains, full_resolution_mpp, read_geojson
from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.errors import StainglassError

TABLES, REGIONS = (".tsv", ".csv", ".txt"), (".geojson", ".json")
SAME_PICTURE = 0.02
"""A stretch of less than 2 % in every direction is rounding, not another picture."""
NO_LABEL = frozenset(
    {"", "nan", "na", "none", "undetermined", "unlabeled", "unlabelled", "ignore*", "unassigned"}
)
"""Words that say that there is no label; ``Ignore*`` is QuPath's."""


@dataclass(frozen=True)
class SpotLabels:
    """Labels of the spots of some sections.

    Attributes
    ----------
    of_section
        Section → label of each labelled spot, indexed by barcode.
    notes
        What was left out, one sentence each.
    """

    of_section: Mapping[str, pd.Series[str]]
    notes: tuple[str, ...]

    def of(self, section: str, barcodes: Sequence[str | None]) -> list[str | None]:
        """Labels of these spots; None where there is none."""
        found = self.of_section.get(section)
        if found is None:
            return [None] * len(barcodes)
        table = found.to_dict()
        return [table.get(str(barcode)) for barcode in barcodes]


def read_labels(path: Path, cohort: Cohort, sections: Sequence[str]) -> SpotLabels:
    """Read labels and join them to the spots.

    Parameters
    ----------
    path
        A folder of files named after their section (``C5_labeled_coordinates.tsv``, ``C5.geojson``), one such
        file, or a table with a column ``section``. Tables: ``label`` and either ``barcode`` or array positions
        ``x`` and ``y`` (spot ``{x}x{y}`` when rounded), optionally ``pixel_x`` and ``pixel_y`` of the
        full-resolution slide, which then are checked. GeoJSON: polygons with a class, in full-resolution px.
    sections
        Sections whose labels are wanted; those without a file have none.

    Raises
    ------
    StainglassError
        When there is no such file, it cannot be read, no file is of these sections, or its labels match no spot.
    """
    if not path.exists():
        raise StainglassError(path, "no such file or folder", "Check --labels")
    files = _files(path, {name: cohort.sections[name].source_id for name in sections}, _names(cohort))
    found, notes = dict[str, "pd.Series[str]"](), list[str]()
    for section, file in files:
        labels, told = (
            _of_regions(file, cohort.sections[section])
            if file.suffix.lower() in REGIONS
            else _of_table(file, cohort.sections[section])
        )
        notes += [f"{file.name}: {line}" for line in told]
        if labels is not None:
            found[section] = labels
    if not found:
        raise StainglassError(
            path,
            f"holds labels of none of the sections {', '.join(sections)}",
            "Name each file after its section (C5.tsv, C5.geojson), or give the table a column section",
        )
    return SpotLabels(found, tuple(notes))


def _names(cohort: Cohort) -> tuple[str, ...]:
    """What a file may be named after: sections, of blocks also the section they are a part of."""
    return tuple({name for one in cohort.sections.values() for name in (one.id, one.source_id)})


def _files(path: Path, sections: Mapping[str, str], names: Sequence[str]) -> list[tuple[str, Path]]:
    """Which file is of which section; a table with a column ``section`` is of all.

    Parameters
    ----------
    sections
        Section → the section it was read from, which is another where it is a block.
    names
        `_names`.

    Raises
    ------
    StainglassError
        When two files are of one section.
    """
    if path.is_file():
        if path.suffix.lower() in TABLES and "section" in _table(path).columns:
            return [(section, path) for section in sections]
        own = [section for section, of in sections.items() if _section_of(path, names) in (section, of)]
        # A single file for a single section needs no name, as long as it is not another's.
        unnamed = _section_of(path, names) is None and len(set(sections.values())) == 1
        return [(section, path) for section in (sections if unnamed else own)]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (*TABLES, *REGIONS))
    whose = {file: _section_of(file, names) for file in files}
    found = []
    for section, of in sections.items():
        of_it = [file for file in files if whose[file] in (section, of)]
        if len(of_it) > 1:
            both = " and ".join(file.name for file in of_it)
            raise StainglassError(path, f"holds {both}, both of section {section}", "Leave one of them")
        found += [(section, file) for file in of_it]
    return found


def _section_of(file: Path, sections: Sequence[str]) -> str | None:
    """The section that a file's name begins with; the longest, so that P3_rep2.tsv is not one of P3."""
    named = [one for one in sections if file.name.startswith(one) and not file.name[len(one) :][:1].isalnum()]
    return max(named, key=len, default=None)


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path,
            sep="," if path.suffix.lower() == ".csv" else "\t",
            dtype={"label": str, "section": str, "barcode": str},
        )
    except (OSError, ValueError, EOFError) as error:
        raise StainglassError(path, f"not a readable table of labels ({error})", "Restore the file") from None
    return table


def _of_table(path: Path, section: PreparedSection) -> tuple[pd.Series[str] | None, list[str]]:
    table = _table(path)
    if "section" in table.columns:
        table = table[table["section"].isin([section.id, section.source_id])]
        if table.empty:
            return None, []
    if "label" not in table.columns or not ({"x", "y"} <= set(table.columns) or "barcode" in table.columns):
        raise StainglassError(
            path, f"has the columns {', '.join(map(str, table.columns))}",
            "Give a column label and either barcode, or x and y of the array",
        )  # fmt: skip
    named = table["label"].fillna("").str.strip()
    table = table[~named.str.lower().isin(NO_LABEL)].assign(label=named)
    barcodes = _barcodes(table, path)
    spots = section.spots
    row = pd.Index(spots.obs_names.astype(str)).get_indexer(pd.Index(barcodes))
    matched = row >= 0
    if not matched.any():
        raise StainglassError(
            path,
            f"none of its {len(table)} labels (spot {barcodes[0] if barcodes else 'none'}) matches a spot of section "
            f"{section.id} (such as {spots.obs_names[0]})",
            "Check that labels and section belong together, and how the spots are named",
        )
    told = [] if matched.all() else [f"{int((~matched).sum())} of {len(table)} labels match no spot"]
    if {"pixel_x", "pixel_y"} <= set(table.columns):
        told += _check_places(path, section, table[matched], row[matched])
    labels = pd.Series(
        table["label"].to_numpy()[matched], index=pd.Index(np.array(barcodes)[matched]), dtype=str
    )
    twice = labels.index.duplicated(keep=False)
    if twice.any():
        # Two different words for one spot are no label.
        same = labels.groupby(level=0).nunique() == 1
        kept = labels[~labels.index.duplicated()]
        labels = kept[same.loc[kept.index]]
        told.append(f"{int((~same).sum())} spots have two different labels and are left out")
    return labels, told


def _barcodes(table: pd.DataFrame, path: Path) -> list[str]:
    if "barcode" in table.columns:
        return [str(name) for name in table["barcode"]]
    places = table[["x", "y"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(places).all():
        raise StainglassError(path, "x or y is no number in some rows", "Mend or delete these rows")
    return [f"{x:.0f}x{y:.0f}" for x, y in places.round()]


def _check_places(
    path: Path, section: PreparedSection, table: pd.DataFrame, row: NDArray[np.integer]
) -> list[str]:
    """Positions in px, where the table has them, must follow from those of the spots: array positions match anywhere.

    HER2ST's own labels were drawn on a smaller, mirrored picture, so any affine map is followed and told; on the same
    picture (a map without turn, mirror or stretch) the positions must coincide.
    """
    stated = table[["pixel_x", "pixel_y"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    known = np.asarray(section.spots.obsm["spatial"], np.float64)[row]
    finite = np.isfinite(stated).all(axis=1)
    stated, known, limit = (
        stated[finite],
        known[finite],
        section.spots.obs["diameter_um"].to_numpy()[row][finite],
    )
    if not len(stated):
        return []
    design = np.column_stack([stated - stated.mean(axis=0), np.ones(len(stated))])
    plane = len(stated) > 3 and np.linalg.matrix_rank(design) == 3
    solution = (
        np.linalg.lstsq(design, known, rcond=None)[0] if plane else np.vstack([np.eye(2), known.mean(axis=0)])
    )
    same_picture = bool(np.abs(solution[:2] - np.eye(2)).max() < SAME_PICTURE)
    expected = stated if same_picture else design @ solution
    away_um = np.hypot(*(expected - known).T) * full_resolution_mpp(section)
    far = int((away_um > limit).sum())
    if far > len(known) / 2:
        raise StainglassError(
            path,
            f"{far} of its {len(known)} labels lie {np.median(away_um):.0f} µm (median) from the spots they are named after",
            f"Check that the labels are of section {section.id} and of its full-resolution slide",
        )
    if same_picture:
        return []
    mirrored = ", mirrored" if np.linalg.det(solution[:2]) < 0 else ""
    scale = float(np.sqrt(abs(np.linalg.det(solution[:2]))))
    return [f"its pixels are of another picture ({1 / scale:.2f} ×{mirrored}); joined by array position"]


def _of_regions(path: Path, section: PreparedSection) -> tuple[pd.Series[str], list[str]]:
    regions, passed_over = read_geojson(path)
    spots_yx = np.asarray(section.spots.obsm["spatial"], np.float64)[:, ::-1]
    told = [f"{passed_over} features without a class or a polygon are passed over"] if passed_over else []
    names = np.full(len(spots_yx), "", dtype=object)
    # The smaller region was drawn inside the larger: it is the more exact, whatever the file's order.
    for name, polygons in sorted(regions, key=lambda region: -area_of(region[1])):
        names[contains(polygons, spots_yx)] = "" if name.lower() in NO_LABEL else name
    inside = names != ""
    if not inside.any():
        everything = np.concatenate(
            [ring for _, polygons in regions for polygon in polygons for ring in polygon]
        )
        low, high = everything.min(axis=0), everything.max(axis=0)
        raise StainglassError(
            path,
            f"no spot of section {section.id} lies in its regions (x {low[1]:.0f} to {high[1]:.0f}, y {low[0]:.0f} to "
            f"{high[0]:.0f} px; spots x {spots_yx[:, 1].min():.0f} to {spots_yx[:, 1].max():.0f}, y {spots_yx[:, 0].min():.0f} "
            f"to {spots_yx[:, 0].max():.0f} px)",
            "Draw the regions on the full-resolution slide the spots refer to",
        )
    return pd.Series(names[inside], index=section.spots.obs_names.astype(str)[inside], dtype=str), told
