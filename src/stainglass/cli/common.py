"""What several verbs share: settings given as options, provenance, the line that says what comes next."""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stainglass.files import write_json
from stainglass.progress import console
from stainglass.training.processes import is_first

if TYPE_CHECKING:
    from stainglass.cohort.cohort import Cohort
    from stainglass.config import Recipe

Sets = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        help="Override a setting of the recipe, a.b=c; may be given several times.",
        negative="",
        consume_multiple=False,
    ),
]
DryRun = Annotated[
    bool,
    Parameter(name="--dry-run", help="Say what it would take (time, disk, memory) and stop.", negative=""),
]
PACKAGES = (
    "torch",
    "diffusers",
    "accelerate",
    "anndata",
    "zarr",
    "numpy",
    "scikit-learn",
    "tifffile",
    "openslide-python",
)


def say_next(line: str) -> None:
    """Tell the next step."""
    console.print(f"next: [bold]{line}[/bold]", highlight=False, soft_wrap=True)


def print_result(path: Path) -> None:
    """The result's path, alone on stdout's last line."""
    if is_first():
        print(path, flush=True)


def known_sections(cohort: Cohort, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The sections asked for, or all.

    Raises
    ------
    StainglassError
        When one is not of the cohort.
    """
    from stainglass.errors import StainglassError

    for name in asked:
        if name not in cohort.sections:
            known = ", ".join(cohort.sections)
            raise StainglassError(cohort.path, f"has no section {name!r}", f"Choose one of {known}")
    return asked or tuple(cohort.sections)


def write_provenance(run: Path, recipe: Recipe, **extra: Any) -> None:
    """``provenance.json``: versions, seeds, command, machine; enough to do it again."""
    write_json(run / "provenance.json", {**provenance_of(recipe), **extra})


def provenance_of(recipe: Recipe) -> dict[str, Any]:
    """Versions, command, machine and seeds, as ``provenance.json`` has them."""
    return {
        "stainglass": version("stainglass"),
        "command": " ".join(["stainglass", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "seeds": {
            "recipe": recipe.seed,
            "autoencoder": recipe.train_autoencoder.seed,
            "denoiser": recipe.train_denoiser.seed,
            "noise": list(recipe.evaluation.noise_seeds),
        },
    }
