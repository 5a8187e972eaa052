"""Sets on the Hugging Face hub: resuming, checking and logging in are huggingface_hub's own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stainglass.errors import StainglassError
from stainglass.fetch.catalogue import Hub


def fetch_hub(
    hub: Hub, page: str, out: Path, only: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Bring the named sections of a dataset; (what was fetched, rows of a manifest).

    Raises
    ------
    StainglassError
        When no section is named, the terms were not accepted, a section is not there, or the hub is not reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if not only:
        raise StainglassError(hub.repository, "is too large to fetch whole", "Name sections with --only")
    patterns = [p.replace("{id}", name) for p in hub.patterns for name in (only if "{id}" in p else ("",))]
    try:
        commit = HfApi().dataset_info(hub.repository, revision=hub.revision).sha
        snapshot_download(
            hub.repository,
            repo_type="dataset",
            revision=commit,
            local_dir=out,
            allow_patterns=patterns,
        )
    except (GatedRepoError, RepositoryNotFoundError):
        raise StainglassError(
            hub.repository, "the hub wants its terms accepted", f"Accept them on {page}, then 'hf auth login'"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        line = str(error).strip().splitlines()
        raise StainglassError(
            hub.repository,
            f"the hub was not reached ({line[0] if line else type(error).__name__})",
            "Check the connection and run the same command again: it goes on where it stopped",
        ) from None
    missing = [name for name in only if not (out / "st" / f"{name}.h5ad").is_file()]
    if missing:
        raise StainglassError(
            hub.repository, f"has no section {', '.join(missing)}", f"Choose among the ids on {page}"
        )
    return {**hub.__dict__, "patterns": patterns, "commit": commit}, _rows(out)


def _rows(out: Path) -> list[dict[str, str]]:
    """Every section in the folder that has an image, with patient and organ where HEST's own table tells them."""
    told: dict[str, dict[str, str]] = {}
    for table in sorted(out.glob("HEST_v1_*.csv")):
        with table.open(newline="", encoding="utf-8-sig") as handle:
            told |= {row["id"]: row for row in csv.DictReader(handle) if row.get("id")}
    rows = []
    for counts in sorted((out / "st").glob("*.h5ad")):
        name = counts.stem
        slide = out / "wsis" / f"{name}.tif"
        facts = told.get(name, {})
        # HEST numbers patients within a dataset, so the dataset's name is part of the patient's.
        patient = (
            f"{facts.get('dataset_title', '')} {facts['patient']}".strip() if facts.get("patient") else name
        )
        row = {"id": name, "patient": patient, "path": f"st/{counts.name}"}
        rows.append(
            row | {"slide": f"wsis/{slide.name}" if slide.is_file() else "", "site": facts.get("organ", "")}
        )
    return rows
