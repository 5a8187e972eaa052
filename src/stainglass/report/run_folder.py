"""What the report finds in a run's folder; a missing piece is noted, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from stainglass.cohort.of_run import cohort_folder
from stainglass.errors import StainglassError
from stainglass.evaluation.card import Card
from stainglass.files import read_json


@dataclass
class RunFolder:
    """A run on disk, read piece by piece.

    Attributes
    ----------
    path
        ``runs/NAME``.
    missing
        What was looked for and not found, in words, in the order of asking.
    """

    path: Path
    missing: list[str] = field(default_factory=list)

    def card(self) -> Card | None:
        """The evaluation's card."""
        try:
            return Card.read(self.path / "evaluation" / "card.json")
        except StainglassError as error:
            self._note("the evaluation (evaluation/card.json)", error)
            return None

    def pictures(self) -> Mapping[str, NDArray[Any]]:
        """The evaluation's pictures, empty when there are none."""
        path = self.path / "evaluation" / "pictures.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, BadZipFile) as error:
            self._note("the evaluation's pictures (evaluation/pictures.npz)", error)
            return {}

    def genes(self) -> pd.DataFrame | None:
        """Recovery gene by gene."""
        path = self.path / "evaluation" / "genes.parquet"
        try:
            return pd.read_parquet(path) if path.is_file() else None
        except (OSError, ValueError) as error:
            self._note("recovery by gene (evaluation/genes.parquet)", error)
            return None

    def tree(self, name: str | Path, what: str) -> Any:
        """A JSON or YAML file of the run or its cohort, None when it is missing or broken."""
        path = self.path / name
        try:
            if path.suffix == ".json":
                return read_json(path, what)
            return yaml.safe_load(path.read_text(encoding="utf-8"))
        except (StainglassError, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self._note(f"{what} ({name})", error)
            return None

    def cohort(self) -> Path:
        """The folder of its cohort."""
        return cohort_folder(self.path)

    def metrics(self, training: str) -> list[dict[str, object]]:
        """Lines of a training run's ``metrics.jsonl``; a line cut by a crash is skipped."""
        path = self.path / training / "metrics.jsonl"
        if not path.is_file():
            self.missing.append(f"the {training}'s training curve ({training}/metrics.jsonl)")
            return []
        return list(_json_lines(path))

    def files(self, folder: str | Path, what: str) -> list[Path]:
        """PNGs of a folder, in natural order of their numbers."""
        found = sorted((self.path / folder).glob("*.png"), key=lambda p: (len(p.name), p.name))
        if not found:
            self.missing.append(f"{what} ({folder}/)")
        return found

    def _note(self, what: str, error: Exception) -> None:
        gone = isinstance(error, FileNotFoundError) or "no " in getattr(error, "finding", "")[:3]
        self.missing.append(what if gone else f"{what}: {error}")


def _json_lines(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record
