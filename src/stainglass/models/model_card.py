"""The model card a generator writes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainglass.models.facts import Facts

BEFORE = "before, "
"""Stands before the keys of what a generator was gone on from, once for each training that came after."""

_CARD = """---
library_name: stainglass
pipeline_tag: image-generation
tags: [histology, spatial-transcriptomics, diffusion]
---
# {name}

Paints H&E windows of {window_px} × {window_px} px at {mpp:g} µm/px ({field:.0f} µm) from the expression of the
spots within {reach:g} µm. **Every picture is synthetic. Not for diagnosis.**

## Use
```python
import stainglass

generator = stainglass.Generator.from_pretrained("FOLDER")
painted = generator.generate(adata, n=16)
```

## Data
Trained on {sections} section(s) ({trained_on}) of {n_patients} patient(s) ({patients}). {data}

## What it expects
Raw counts with Ensembl ids or symbols; it reads {genes} genes, of which {first} come first.

## Size and training
{parts}

{training}

## Limits
It knows the tissue, stain and scanner of its training sections and no other. A convincing picture is no evidence that
the expression led to it: read the evaluation card, which puts shuffled, bulk and unconditional controls beside
every figure.
"""


def write_model_card(folder: Path, facts: Facts, parameters: dict[str, int]) -> None:
    """Write ``README.md`` into a saved generator."""
    parts = "\n".join(f"- {name}: {count / 1e6:.2f} million parameters" for name, count in parameters.items())
    text = _CARD.format(
        name=facts.name,
        window_px=facts.window_px,
        mpp=facts.mpp,
        field=facts.window_px * facts.mpp,
        reach=facts.reach_um,
        sections=len(facts.trained_on),
        trained_on=", ".join(facts.trained_on) or "not recorded",
        n_patients=len(facts.patients),
        patients=", ".join(facts.patients) or "not recorded",
        data=facts.data,
        genes=len(facts.gene_ids),
        first=", ".join(facts.gene_symbols[:8]),
        parts=parts,
        training=_history(facts.training),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _history(training: Mapping[str, Any]) -> str:
    """A paragraph for each training, from the first to the last."""
    trainings: dict[int, list[str]] = {}
    for key, value in training.items():
        since = key.count(BEFORE)
        trainings.setdefault(since, []).append(f"{key.replace(BEFORE, '')}: {_told(value)}")
    if not trainings:
        return "- not recorded"
    first_to_last = [trainings[since] for since in sorted(trainings, reverse=True)]
    if len(first_to_last) == 1:
        return "\n".join(f"- {fact}" for fact in first_to_last[0])
    return "\n".join(f"{number}. {'; '.join(facts)}" for number, facts in enumerate(first_to_last, 1))


def _told(value: Any) -> str:
    """A fact as text; of several seconds, those that were any."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {number}" for name, number in value.items() if number) or "none"
