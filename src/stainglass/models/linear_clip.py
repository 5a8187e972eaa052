"""CLIP's linear part: texture and expression by canonical correlation, each relative to its section.

A Visium section has a few hundred spots, so a cohort has too few pairs for a network to learn what two linear maps
find in closed form: regularised canonical correlation analysis (Hotelling 1936; Vinod 1976). Stain and depth differ
from section to section more than within one; so both sides are standardised within the section where enough of it is
at hand, and by the training sections' values where not (a single patch).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from stainglass.genes.normalise import log_normalised

LEAST_OF_A_SECTION = 16
"""Rows of a section from which its own mean and deviation are taken."""

IMAGE_COMPONENTS, GENE_COMPONENTS = 150, 60
RIDGE = 0.3
"""Share of the mean variance that is added to every component's."""

NEIGHBOURS_WEIGH = 2.0
LEAST_STD = 0.1
"""A gene hardly seen would be blown up by its tiny deviation."""

Groups = Int64[np.ndarray, "n"]


def spot_profiles(
    counts: Float32[np.ndarray, "n s g"], present: Bool[np.ndarray, "n s"]
) -> tuple[Float64[np.ndarray, "n g+1"], Float64[np.ndarray, "n g+1"]]:
    """Log-normalised expression and log depth of the spot in the window's centre, and their mean over all in reach.

    Parameters
    ----------
    counts, present
        Of `stainglass.cohort.windows.Conditions`; slot 0 is the nearest spot.
    """
    n, s, g = counts.shape
    flat = counts.reshape(n * s, g)
    level = np.concatenate([log_normalised(flat), np.log1p(flat.sum(1, keepdims=True))], 1).reshape(
        n, s, g + 1
    )
    told = present[..., None]
    return level[:, 0].astype(np.float64), (level * told).sum(1) / np.maximum(told.sum(1), 1)


def relative(
    values: NDArray[np.floating],
    groups: Groups | None,
    mean: NDArray[np.floating],
    std: NDArray[np.floating],
    least_std: float,
    like: NDArray[np.floating] | None = None,
) -> Float64[np.ndarray, "n d"]:
    """Standardise within sections that have enough rows, by ``mean`` and ``std`` elsewhere.

    Parameters
    ----------
    groups
        Section of each row; None: nowhere.
    like
        Rows whose mean and deviation are taken; by default ``values``.
    """
    like = values if like is None else like
    out = (values - mean) / np.maximum(std, least_std)
    for group in () if groups is None else np.unique(groups):
        at = groups == group
        if at.sum() >= LEAST_OF_A_SECTION:
            out[at] = (values[at] - like[at].mean(0)) / np.maximum(like[at].std(0), least_std)
    return np.asarray(out, np.float64)


def canonical_maps(
    images: Float64[np.ndarray, "n f"], genes: Float64[np.ndarray, "n p"], dim: int
) -> tuple[Float64[np.ndarray, "f d"], Float64[np.ndarray, "p d"]]:
    """Linear maps of two centred tables to where their correlation is greatest, directions weighed by it."""
    first, second = (
        PCA(min(most, *table.shape), svd_solver="full").fit(table)
        for most, table in ((IMAGE_COMPONENTS, images), (GENE_COMPONENTS, genes))
    )
    a, b = first.transform(images), second.transform(genes)
    whiten_a, whiten_b = _inverse_root(a.T @ a / len(a)), _inverse_root(b.T @ b / len(b))
    u, correlation, v = np.linalg.svd(whiten_a @ (a.T @ b / len(a)) @ whiten_b)
    k = min(dim, len(correlation))
    to_images, to_genes = np.zeros((images.shape[1], dim)), np.zeros((genes.shape[1], dim))
    to_images[:, :k] = first.components_.T @ whiten_a @ u[:, :k] * correlation[:k]
    to_genes[:, :k] = second.components_.T @ whiten_b @ v.T[:, :k] * correlation[:k]
    return to_images, to_genes


def _inverse_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    ridge = RIDGE * np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + max(ridge, 1e-9) * np.eye(len(covariance)))
    return np.asarray(vectors * values**-0.5 @ vectors.T, np.float64)


class LinearPart(nn.Module):
    """Two fixed linear maps with the means and deviations they stand on; nothing here is trained by gradient.

    Parameters
    ----------
    features, genes, dim
        Length of the image features, of the gene axis, of the common space.
    """

    image_mean: Tensor
    image_std: Tensor
    gene_mean: Tensor
    gene_std: Tensor
    to_images: Tensor
    to_genes: Tensor

    def __init__(self, features: int, genes: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        for name, shape in (
            ("image_mean", (features,)), ("image_std", (features,)), ("gene_mean", (genes + 1,)),
            ("gene_std", (genes + 1,)), ("to_images", (features, dim)), ("to_genes", (2 * (genes + 1), dim)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))

    def fit(
        self,
        features: Float32[np.ndarray, "n f"],
        counts: Float32[np.ndarray, "n s g"],
        present: Bool[np.ndarray, "n s"],
        groups: Groups,
    ) -> None:
        """Find the maps from patches of the training sections and the spots in reach of them."""
        own, _ = spot_profiles(counts, present)
        _set(self.image_mean, features.mean(0))
        _set(self.image_std, features.std(0))
        _set(self.gene_mean, own.mean(0))
        _set(self.gene_std, own.std(0))
        to_images, to_genes = canonical_maps(
            self._images(features, groups), self._genes(counts, present, groups), self.dim
        )
        _set(self.to_images, to_images)
        _set(self.to_genes, to_genes)

    def images(
        self, features: Float32[np.ndarray, "n f"], groups: Groups | None
    ) -> Float32[np.ndarray, "n d"]:
        """Unit vectors of pictures."""
        return _unit(self._images(features, groups) @ _get(self.to_images))

    def genes(
        self, counts: Float32[np.ndarray, "n s g"], present: Bool[np.ndarray, "n s"], groups: Groups | None
    ) -> Float32[np.ndarray, "n d"]:
        """Unit vectors of spots and what lies in reach of them."""
        return _unit(self._genes(counts, present, groups) @ _get(self.to_genes))

    def _images(self, features: NDArray[np.float32], groups: Groups | None) -> Float64[np.ndarray, "n f"]:
        return relative(features, groups, _get(self.image_mean), _get(self.image_std), 1e-3)

    def _genes(
        self, counts: NDArray[np.float32], present: NDArray[np.bool_], groups: Groups | None
    ) -> Float64[np.ndarray, "n p"]:
        own, around = spot_profiles(counts, present)
        mean, std = _get(self.gene_mean), _get(self.gene_std)
        return np.concatenate(
            [
                relative(own, groups, mean, std, LEAST_STD),
                relative(around, groups, mean, std, LEAST_STD, like=own) * NEIGHBOURS_WEIGH,
            ],
            1,
        )


def _set(buffer: Tensor, values: NDArray[np.floating]) -> None:
    buffer.copy_(torch.from_numpy(np.asarray(values, np.float32)))


def _get(buffer: Tensor) -> NDArray[np.float64]:
    return np.asarray(buffer.cpu().numpy(), np.float64)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9), np.float32)
