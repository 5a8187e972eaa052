"""Toy tissue whose colour follows three gene programmes, and painters that do or do not know it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from stainglass.cohort.windows import Conditions, gather_conditions, patch_windows
from stainglass.evaluation.settings import EvaluationSettings
from stainglass.evaluation.tissue import Tissue
from stainglass.genes.classes import UNASSIGNED
from stainglass.genes.normalise import log_normalised

MPP, SIDE, GENES, PROGRAMMES = 2.0, 64, 30, 3
PITCH_UM = 200.0
CLASSES = ("red", "green", "blue")


def toy_tissue(name: str, seed: int, rows: int = 8, columns: int = 8, sections: int = 1) -> Tissue:
    """Sections of rows × columns spots; each third of the genes follows one smooth field plus noise."""
    rng = np.random.default_rng(seed)
    parts = [_section(f"{name}-{s}", rng, rows, columns) for s in range(sections)]
    windows = tuple(w for part in parts for w in part[0])
    told = [part[3] for part in parts]
    conditions = Conditions(
        np.concatenate([c.counts for c in told]),
        np.concatenate([c.offsets_um_yx for c in told]),
        np.concatenate([c.diameters_um for c in told]),
        np.concatenate([c.present for c in told]),
        tuple(b for c in told for b in c.barcodes),
    )
    counts = np.concatenate([part[1] for part in parts])
    return Tissue(
        name=name,
        windows=windows,
        pixels=picture(programmes(counts), [w.spot for w in windows], seed),
        counts=counts,
        symbols=tuple(f"GENE{g}" for g in range(GENES)),
        centres_um_yx=np.concatenate([part[2] for part in parts]),
        sections=tuple(w.section for w in windows),
        patients=tuple(name for _ in windows),
        conditions=conditions,
    )


def _section(name, rng, rows, columns):
    y, x = (a.ravel() * PITCH_UM + 200.0 for a in np.mgrid[:rows, :columns])
    centres = np.column_stack([y, x])
    barcodes = [f"{name}-{i}" for i in range(len(y))]
    fields = np.stack([np.sin(y / (300 + 150 * k) + rng.uniform(0, 6)) for k in range(PROGRAMMES)], 1)
    fields = fields + rng.normal(0, 0.7, fields.shape)
    level = np.repeat(fields, GENES // PROGRAMMES, axis=1)
    counts = rng.poisson(40 * np.exp(0.6 * level)).astype(np.float32)
    windows = patch_windows(name, centres, barcodes, MPP, SIDE)
    told = gather_conditions(centres, centres, counts, np.full(len(y), 55.0), barcodes, 150.0, 2)
    return windows, counts, centres, told


def programmes(counts: np.ndarray) -> np.ndarray:
    """Mean log expression of each third of the genes, (N, 3)."""
    return log_normalised(counts).reshape(len(counts), PROGRAMMES, -1).mean(2)


def labelled(tissue: Tissue, patients: int = 1) -> Tissue:
    """Classes are what leads; where nothing leads by much there is no label. Patients take turns by section."""
    score = programmes(tissue.counts)
    lead = np.sort(score, axis=1)
    names = [
        CLASSES[k] if sure else UNASSIGNED
        for k, sure in zip(score.argmax(axis=1), lead[:, -1] - lead[:, -2] > 0.1)
    ]
    sections = sorted(set(tissue.sections))
    return replace(
        tissue,
        classes=tuple(names),
        patients=tuple(f"{tissue.name}-{sections.index(s) % patients}" for s in tissue.sections),
        groups=tuple({"site": "left" if i % 2 else "right"} for i in range(len(tissue))),
    )


def picture(programme: np.ndarray, names, seed: int) -> np.ndarray:
    """Colour from the programmes, speckle from the name and seed."""
    colour = 150 + 45 * (programme - 5.75)
    found = []
    for shade, name in zip(colour, names, strict=True):
        rng = np.random.default_rng([seed, *str(name).encode()])
        found.append(shade + rng.normal(0, 18, (SIDE, SIDE, 3)))
    return np.clip(found, 0, 255).astype(np.uint8)


@dataclass
class ToyJudge:
    """Mean and deviation of colour over a 4 × 4 grid: quick, and sees what the toy paints."""

    name: str = "toy"

    def features(self, pixels, advance=None):
        n = len(pixels)
        cells = pixels.reshape(n, 4, SIDE // 4, 4, SIDE // 4, 3).astype(np.float32)
        if advance is not None:
            advance(n)
        return np.concatenate([cells.mean((2, 4)).reshape(n, -1), cells.std((2, 4)).reshape(n, -1)], 1)


@dataclass
class FaithfulPainter:
    """Paints the colour of the nearest spot's programmes; grey when told nothing."""

    calls: list[tuple[int, int]] = field(default_factory=list)

    def paint(self, windows, conditions, seed):
        self.calls.append((len(windows), seed))
        told = conditions.counts[:, 0]
        grey = np.full((len(windows), PROGRAMMES), 5.75)
        programme = np.where(conditions.present[:, :1], programmes(told), grey)
        return picture(programme, [w.spot for w in windows], seed + 1000)

    def reconstruct(self, pixels):
        return pixels


class BlindPainter(FaithfulPainter):
    """Paints colours of its own choice, whatever it is told."""

    def paint(self, windows, conditions, seed):
        rng = np.random.default_rng(seed)
        return picture(rng.normal(5.75, 0.3, (len(windows), PROGRAMMES)), [w.spot for w in windows], seed)


SETTINGS = EvaluationSettings(
    mpp=MPP,
    n=36,
    seeds=(0, 1),
    judges=(ToyJudge(), "Inception-2015"),
    bootstrap=60,
    derange_um=500,
    block_um=400,
    trained_on="toy",
    notes=("noise seeds instead of training seeds",),
)
