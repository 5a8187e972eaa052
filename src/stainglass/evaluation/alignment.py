"""Do pictures and genes meet in CLIP's space? Recall and cosines, each beside what chance and colour give.

The CLIP was trained on this run's training sections and the generator begins with its gene trunk: it is no judge
of realism. Here it is itself examined, on held-out sections, and no cosine stands without its mismatched partner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from stainglass.analysis.block_draws import codes
from stainglass.evaluation.card import Row
from stainglass.evaluation.resampling import Estimate, Resampling, derange_as_far_as_possible
from stainglass.evaluation.settings import BLOCK_UM
from stainglass.evaluation.stage import Stage
from stainglass.evaluation.tissue import Tissue
from stainglass.files import write_json
from stainglass.models.clip import TissueCLIP
from stainglass.models.linear_clip import relative

CLIP, COLOUR, CHANCE = "CLIP", "colour only", "chance"
WAYS, DRAWS = 100, 20
KS = (1, 5, 10)
DIRECTIONS = ("image_to_gene", "gene_to_image")
FORMAT = 1
ALPHAS = np.logspace(-1, 5, 13)

Vectors = Float32[np.ndarray, "n d"]


def gene_vectors(clip: TissueCLIP, tissue: Tissue) -> Vectors:
    """Unit vectors of the spots the windows are centred on, each seen relative to its section."""
    return clip.embed_genes(tissue.conditions, codes(tissue.sections))


def colour_numbers(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, "n 6"]:
    """Mean and deviation of each channel's optical density: all that hue and darkness tell, no structure."""
    found = np.empty((len(pixels), 6))
    for i, picture in enumerate(pixels):
        density = -np.log10((picture.reshape(-1, 3).astype(np.float32) + 1) / 256)
        found[i] = np.concatenate([density.mean(0), density.std(0)])
    return found


def colour_baseline(clip: TissueCLIP, train: Tissue) -> Callable[[Tissue], Float32[np.ndarray, "n d"]]:
    """The best linear guess of a gene vector from six colour numbers, fitted on training windows.

    The numbers are relative to the section, as CLIP's linear part sees pictures: the baseline lacks structure only.
    """

    def seen(tissue: Tissue) -> Float64[np.ndarray, "n 6"]:
        numbers = colour_numbers(tissue.pixels)
        return relative(numbers, codes(tissue.sections), mean, std, 1e-3)

    raw = colour_numbers(train.pixels)
    mean, std = raw.mean(0), raw.std(0)
    model = RidgeCV(alphas=ALPHAS).fit(seen(train), gene_vectors(clip, train))
    return lambda tissue: np.asarray(model.predict(seen(tissue)), np.float32)


def recall_hits(
    queries: Vectors, keys: Vectors, groups: Int64[np.ndarray, n], rng: np.random.Generator
) -> dict[int, Float64[np.ndarray, n]]:
    """How often the own key is among the k nearest of 100 candidates of the same section, each query.

    Candidates are the own key and 99 others drawn without repeats, 20 times over; a section with fewer spots gives
    all it has. A tie counts half.

    Parameters
    ----------
    queries, keys
        Row i of both belong together; compared by cosine.
    groups
        Section of each.
    """
    near = _unit(queries) @ _unit(keys).T
    hits = {k: np.zeros(len(queries)) for k in KS}
    for i in range(len(queries)):
        others = np.flatnonzero(groups == groups[i])
        others = others[others != i]
        drawn = (
            [others]
            if len(others) < WAYS
            else [rng.choice(others, WAYS - 1, replace=False) for _ in range(DRAWS)]
        )
        for some in drawn:
            above = (near[i, some] > near[i, i]).sum() + 0.5 * (near[i, some] == near[i, i]).sum()
            for k in KS:
                hits[k][i] += above < k
        for k in KS:
            hits[k][i] /= len(drawn)
    return hits


def chance_hits(groups: Int64[np.ndarray, n]) -> dict[int, Float64[np.ndarray, n]]:
    """What guessing gives each query."""
    sizes = np.bincount(groups)[groups]
    return {k: np.minimum(k / np.minimum(sizes, WAYS), 1.0) for k in KS}


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9), np.float32)


def _cosines(one: Vectors, other: Vectors) -> Float64[np.ndarray, n]:
    return np.einsum("nd,nd->n", _unit(one), _unit(other)).astype(np.float64)


@dataclass(frozen=True)
class _Place:
    """What the rows of one subject share."""

    split: str
    subject: str
    n: int
    seeds: int
    resampling: Resampling

    def row(self, metric: str, features: str, on: str, values: Float64[np.ndarray, n]) -> Row:
        found: Estimate = self.resampling.mean(values)
        return Row(
            metric=metric, features=features, on=on, split=self.split, subject=self.subject, value=found.value,
            low=found.low, high=found.high, interval=found.label, n=self.n, seeds=self.seeds, better="higher",
        )  # fmt: skip


def recall_rows(
    place: _Place, lookups: Mapping[str, Vectors], genes: Vectors, groups: Int64[np.ndarray, n], on: str
) -> Iterator[Row]:
    """Recall@1/5/10 in both directions, for every way of placing pictures in the space, and by chance."""
    ways = int(np.minimum(np.bincount(groups), WAYS).max())
    about = f"{on}; {ways}-way within a section"
    for direction in DIRECTIONS:
        found = {}
        for name, images in lookups.items():
            pair = (images, genes) if direction == "image_to_gene" else (genes, images)
            found[name] = recall_hits(*pair, groups, np.random.default_rng(0))
        found[CHANCE] = chance_hits(groups)
        for k in KS:
            for name, hits in found.items():
                yield place.row(f"recall_at_{k}_{direction}", name, about, hits[k])


def cosine_rows(
    place: _Place,
    metric: str,
    pairs: list[tuple[Vectors, Vectors, Int64[np.ndarray, n]]],
    on: str,
) -> Iterator[Row]:
    """Matched and mismatched cosine and their paired gap; never one without the others.

    Parameters
    ----------
    pairs
        One a noise seed: vectors, their partners, and the derangement that mismatches them.
    """
    matched = np.mean([_cosines(a, b) for a, b, _ in pairs], axis=0)
    mismatched = np.mean([_cosines(a, b[swap]) for a, b, swap in pairs], axis=0)
    yield place.row(metric, CLIP, on, matched)
    yield place.row(f"{metric}_mismatched", CLIP, f"{on}, partners exchanged", mismatched)
    yield place.row(f"{metric}_gap", CLIP, f"{on}, matched minus exchanged, paired", matched - mismatched)


def real_rows(
    clip: TissueCLIP,
    real: Tissue,
    train: Tissue,
    split: str,
    resampling: Resampling,
    partners: NDArray[np.int64],
) -> list[Row]:
    """The CLIP itself, on real held-out windows: recall in both directions and image–gene cosine."""
    images, genes = clip.embed_images(real.pixels, codes(real.sections)), gene_vectors(clip, real)
    place = _Place(split, "floor", len(real), 0, resampling)
    lookups = {CLIP: images, COLOUR: colour_baseline(clip, train)(real)}
    rows = list(recall_rows(place, lookups, genes, codes(real.sections), "real windows"))
    on = "CLIP embedding of the real window with that of its spot's genes"
    return rows + list(cosine_rows(place, "clip_gene", [(images, genes, partners)], on))


def alignment_rows(stage: Stage, clip: TissueCLIP, train: Tissue) -> list[Row]:
    """Every aligned subject's pictures in CLIP's space: with the measured genes, and with the real window."""
    real = stage.subjects["floor"].sets[0].clip
    if real is None:
        return []
    genes, groups = gene_vectors(clip, stage.real), codes(stage.real.sections)
    first = stage.partners[min(stage.partners)]
    rows = real_rows(clip, stage.real, train, stage.split, stage.resampling, first)
    for subject in stage.subjects.values():
        if not subject.sets or not subject.aligned or subject.name == "floor":
            continue
        place = _Place(stage.split, subject.name, len(stage.real), len(subject.seeds), subject.resampling)
        swaps = [stage.partners.get(seed, first) for seed in (subject.seeds or (min(stage.partners),))]
        if subject.name == "shuffled":  # exchanged by what they were shuffled by they would be right again
            swaps = [swap[swap] for swap in swaps]
        seen = [measured.clip for measured in subject.sets if measured.clip is not None]
        with_genes = [(images, genes, swap) for images, swap in zip(seen, swaps)]
        with_real = [(images, real, swap) for images, swap in zip(seen, swaps)]
        rows += cosine_rows(place, "clip_gene", with_genes, f"{subject.on}, with the genes measured there")
        rows += cosine_rows(place, "clip_real", with_real, f"{subject.on}, with the real window there")
        if subject.name in ("generated", "from_image"):
            rows += recall_rows(place, {CLIP: seen[0]}, genes, groups, f"{subject.on} (first noise seed)")
    return rows


def write_alignment(
    path: Path,
    clip: TissueCLIP,
    held_out: Tissue,
    train: Tissue,
    split: str,
    derange_um: float,
    seed: int = 0,
) -> list[Row]:
    """Examine a CLIP on windows of held-out sections, before there is a generator; writes ``alignment.json``."""
    rng = np.random.default_rng(seed)
    resampling = Resampling.of(held_out.centres_um_yx, held_out.sections, BLOCK_UM, 1000, rng)
    partners, distance = derange_as_far_as_possible(
        held_out.centres_um_yx, held_out.sections, derange_um, rng
    )
    rows = real_rows(clip, held_out, train, split, resampling, partners)
    write_json(
        path,
        {
            "format": FORMAT,
            "mismatched_at_least_um": distance,
            "rows": [row.model_dump(mode="json") for row in rows],
        },
    )
    return rows
