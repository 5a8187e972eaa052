"""CLIP's linear part: what it finds, and that it sees sections relative to themselves."""

from __future__ import annotations

import numpy as np
import torch

from stainglass.models.linear_clip import LinearPart, canonical_maps, relative, spot_profiles

RNG = np.random.default_rng(0)
PER, GENES, FEATURES, HIDDEN = 120, 40, 30, 3


def paired(section: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features and counts that share three hidden causes; ``shift`` is the section's own stain and depth."""
    rng = np.random.default_rng(section)
    maps = np.random.default_rng(99)
    to_features, to_genes = maps.normal(size=(HIDDEN, FEATURES)), maps.normal(size=(HIDDEN, GENES)) / 2
    cause = rng.normal(size=(PER, HIDDEN))
    features = cause @ to_features + rng.normal(size=(PER, FEATURES)) + shift
    counts = rng.poisson(np.exp(1.5 + cause @ to_genes + shift / 4))
    return features.astype(np.float32), counts.astype(np.float32)[:, None]


def fitted(shifts: tuple[float, ...] = (0.0, 3.0)) -> LinearPart:
    torch.manual_seed(0)
    parts = [paired(i, shift) for i, shift in enumerate(shifts)]
    linear = LinearPart(FEATURES, GENES, 3)
    features, counts = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
    linear.fit(features, counts, np.ones(counts.shape[:2], bool), np.repeat(np.arange(len(parts)), PER))
    return linear


def recall(images: np.ndarray, genes: np.ndarray) -> float:
    return float(((images @ genes.T).argmax(1) == np.arange(len(images))).mean())


def test_partners_of_an_unseen_section_find_each_other_whatever_its_stain() -> None:
    linear = fitted()
    features, counts = paired(7, shift=8.0)
    present, one = np.ones((PER, 1), bool), np.zeros(PER, np.int64)
    images, genes = linear.images(features, one), linear.genes(counts, present, one)
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    assert recall(images, genes) > 20 / PER
    shuffled = linear.genes(counts[::-1], present, one)
    assert recall(images, shuffled) < 5 / PER
    alone = linear.images(features, None), linear.genes(counts, present, None)
    assert recall(*alone) < recall(images, genes)


def test_a_section_is_seen_relative_to_itself_and_a_few_rows_are_not() -> None:
    values = RNG.normal(5, 2, size=(60, 4))
    groups = np.repeat([0, 1], [50, 10])
    found = relative(values, groups, np.full(4, 5.0), np.full(4, 2.0), 0.1)
    assert np.allclose(found[:50].mean(0), 0)
    assert np.allclose(found[50:], (values[50:] - 5) / 2)
    moved = relative(values + 100, groups, np.full(4, 5.0), np.full(4, 2.0), 0.1)
    assert np.allclose(moved[:50], found[:50])


def test_canonical_maps_find_the_shared_direction() -> None:
    shared = RNG.normal(size=(500, 1))
    a = np.concatenate([RNG.normal(size=(500, 5)) * 2, shared + 0.3 * RNG.normal(size=(500, 1))], 1)
    b = np.concatenate([shared + 0.3 * RNG.normal(size=(500, 1)), RNG.normal(size=(500, 5)) * 2], 1)
    a, b = a - a.mean(0), b - b.mean(0)
    to_a, to_b = canonical_maps(a, b, 2)
    assert abs(to_a[5, 0]) > 3 * np.abs(to_a[:5, 0]).max()
    assert abs(to_b[0, 0]) > 3 * np.abs(to_b[1:, 0]).max()
    assert np.corrcoef((a @ to_a)[:, 0], (b @ to_b)[:, 0])[0, 1] > 0.7


def test_absent_spots_add_nothing_to_a_neighbourhood() -> None:
    counts = RNG.poisson(4.0, (6, 3, GENES)).astype(np.float32)
    present = np.array([[True, True, False]] * 6)
    own, around = spot_profiles(counts, present)
    other = counts.copy()
    other[:, 2] = 999
    again = spot_profiles(other, present)
    assert np.array_equal(own, again[0])
    assert np.array_equal(around, again[1])
    assert np.allclose(spot_profiles(counts[:, :1], present[:, :1])[1], own)
