"""A section twice: real patches and generated ones on the same spots, painted once and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.windows import Conditions, Window
from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.genes.axis import GeneAxis
from stainglass.models.sampler import SamplerSettings
from stainglass.spread import spread
from stainglass.synthesis.generator import Generator
from stainglass.synthesis.spots import conditions_of


@dataclass(frozen=True)
class PaintedSection:
    """Real and generated patches of one section, row by row the same spots.

    Attributes
    ----------
    section, patient
        Which section, and whose.
    mpp
        µm per px of the patches.
    windows
        One a spot.
    real, generated
        uint8 (N, size, size, 3).
    counts
        float32 (N, G) raw counts of the centre spots on ``axis``, the model's gene axis.
    centres_um_yx
        (N, 2) centres of the windows in µm.
    """

    section: str
    patient: str
    mpp: float
    windows: tuple[Window, ...]
    real: UInt8[np.ndarray, "n size size 3"]
    generated: UInt8[np.ndarray, "n size size 3"]
    counts: Float32[np.ndarray, "n g"]
    axis: GeneAxis
    centres_um_yx: Float64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.windows)


def painted_section(
    run: Path,
    cohort: Cohort,
    section: str,
    generator: Generator,
    settings: SamplerSettings,
    *,
    seed: int = 0,
    most: int | None = None,
    batch: int = 16,
) -> PaintedSection:
    """Real and generated patches of a section's spots; painted pixels are kept in ``RUN/analysis/painted``.

    Parameters
    ----------
    section
        Id of a section of the cohort.
    settings, seed
        How to paint; other settings, another seed or another generator paint anew.
    most
        At most this many spots, spread evenly; None takes all.

    Raises
    ------
    StainglassError
        When there is no such section, or no spot on its tissue.
    """
    if section not in cohort.sections:
        raise StainglassError(
            cohort.path, f"has no section {section!r}", f"Choose one of {', '.join(cohort.sections)}"
        )
    facts = generator.facts
    windows = cohort.patches([section], facts.window_px)
    if not windows:
        raise StainglassError(cohort.path, f"no spot on the tissue of {section}", "Look at its proof image")
    windows = [windows[i] for i in spread(len(windows), most)]
    key = _key(run, windows, conditions_of(cohort, windows, facts), settings, seed)
    path = run / "analysis" / "painted" / f"{section}.npz"
    generated = _kept(path, key)
    if generated is None:
        generated = generator.paint_windows(cohort, windows, seed=seed, settings=settings, batch=batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, generated=generated, key=np.array(key))
    return PaintedSection(
        section=section,
        patient=cohort.patients[section],
        mpp=cohort.mpp,
        windows=tuple(windows),
        real=cohort.pixels(windows),
        generated=generated,
        counts=cohort.measured(windows, facts.axis),
        axis=facts.axis,
        centres_um_yx=np.stack([w.centre_um_yx(cohort.mpp) for w in windows]),
    )


def _key(run: Path, windows: list[Window], told: Conditions, settings: SamplerSettings, seed: int) -> str:
    """What the painted pixels depend on."""
    weights = sorted((run / "generator").rglob("*.safetensors"))
    about = {
        "settings": asdict(settings),
        "seed": seed,
        "windows": [asdict(window) for window in windows],
        "told": told.digest(),
        "weights": [(str(p.relative_to(run)), p.stat().st_size, p.stat().st_mtime_ns) for p in weights],
    }
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _kept(path: Path, key: str) -> UInt8[np.ndarray, "n size size 3"] | None:
    """Pixels painted before with the same key; a file that cannot be read is painted anew."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive["generated"]) if str(archive["key"]) == key else None
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
