"""The page's pictures: rows of windows of the same places, grids, pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stainglass.report.images import tile
from stainglass.report.words import SUBJECTS

SHOWN = (
    *("generated", "shuffled", "other_patient_genes", "bulk", "unconditional", "from_image"),
    *("reconstruction", "retrieval"),
)
"""Rows below the real one: what the painter makes of the same place and noise, then what needs no painter."""


@dataclass(frozen=True)
class Strip:
    """A row of pictures with its name and one sentence about it."""

    name: str
    about: str
    tiles: tuple[str, ...]
    captions: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Gallery:
    """All pictures of one part of the split."""

    split: str
    strips: tuple[Strip, ...]
    uncurated: tuple[str, ...]
    worst: tuple[Strip, ...]
    neighbours: tuple[Strip, ...]


def galleries(pictures: Mapping[str, NDArray[Any]]) -> tuple[Gallery, ...]:
    """One gallery a split, in the archive's order."""
    return tuple(_gallery(pictures, str(split)) for split in pictures.get("splits", ()))


def _gallery(pictures: Mapping[str, NDArray[Any]], split: str) -> Gallery:
    def strip(key: str, name: str, about: str, captions: str, kind: str = "") -> tuple[Strip, ...]:
        images = pictures.get(f"{split}/{key}")
        if images is None:
            return ()
        words = tuple(str(text) for text in pictures.get(f"{split}/{captions}", ()))
        return (Strip(name, about, tuple(tile(image) for image in images), words, kind),)

    rows = strip("real", "real", "The H&E of the spot.", "captions", "real")
    for name in SHOWN:
        rows += strip(name, SUBJECTS[name].title, SUBJECTS[name].meaning, "captions", name)
    worst = strip("worst", "generated", "", "worst_captions", "generated")
    worst += strip("worst_real", "real", "", "worst_captions", "real")
    near = strip("neighbours_generated", "generated", "", "neighbours_captions", "generated")
    near += strip("neighbours_train", "nearest in training", "", "neighbours_captions")
    uncurated = pictures.get(f"{split}/uncurated", ())
    return Gallery(split, rows, tuple(tile(image, 192) for image in uncurated), worst, near)
