"""Space Ranger's spot positions, told by their content: the file's name and header changed between
versions.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from stainglass.errors import StainglassError

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")


def is_positions(path: Path) -> bool:
    """Whether a file holds spot positions: by its first line, or a parquet's columns."""
    if path.name.endswith(".parquet"):
        import pyarrow.parquet as pq

        try:
            return set(COLUMNS) <= set(pq.read_schema(path).names)
        except (OSError, ValueError):  # pyarrow's ArrowInvalid is a ValueError
            return False
    if not path.name.endswith((".csv", ".csv.gz")):
        return False
    fields = _first_line(path)
    return set(COLUMNS) <= set(fields) or _is_row(fields)


def _first_line(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as handle:
            return [field.strip().strip('"') for field in handle.readline().strip().split(",")]
    except (OSError, EOFError, UnicodeDecodeError):
        return []


def _is_row(fields: list[str]) -> bool:
    """A row without header: a barcode, 0 or 1, and four numbers."""
    if len(fields) != len(COLUMNS) or fields[1] not in ("0", "1"):
        return False
    try:
        [float(field) for field in fields[2:]]
    except ValueError:
        return False
    return True


def read_positions(path: Path) -> pd.DataFrame:
    """Read positions of any version.

    Returns
    -------
    One row a spot, index barcode: ``x_px``, ``y_px`` (centre, full-resolution px), ``in_tissue``,
    ``array_row``,
    ``array_col``.
    """
    try:
        if path.name.endswith(".parquet"):
            table = pd.read_parquet(path)
        elif set(COLUMNS) <= set(_first_line(path)):
            table = pd.read_csv(path, encoding="utf-8-sig")
        else:
            table = pd.read_csv(path, header=None, names=list(COLUMNS), encoding="utf-8-sig")
        return pd.DataFrame(
            {
                "x_px": table["pxl_col_in_fullres"].to_numpy(),
                "y_px": table["pxl_row_in_fullres"].to_numpy(),
                "in_tissue": table["in_tissue"].astype(int).to_numpy() == 1,
                "array_row": table["array_row"].astype(int).to_numpy(),
                "array_col": table["array_col"].astype(int).to_numpy(),
            },
            index=table["barcode"].astype(str).to_numpy(),
        )
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise StainglassError(
            path, f"not a readable positions file ({error})", "Copy the file again"
        ) from error
