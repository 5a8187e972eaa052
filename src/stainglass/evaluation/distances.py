"""Distances between two clouds of features. Pure numpy, float64, no network.

Fréchet (Heusel et al. 2017), also extrapolated to infinite N (Chong & Forsyth 2020), kernel (Bińkowski et al. 2018),
precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020). Kernel distance and the four
shares are computed here from whole matrices, which also give them for any subset; for large clouds see
`stainglass.evaluation.blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from stainglass.evaluation.clouds import Cloud, Moments

Points = NDArray[np.floating] | Cloud

NEIGHBOURS = 5
"""k of precision, recall, density and coverage, as in Naeem et al. 2020."""


CLOSED = 1 + 1e-9
"""Balls are closed: what lies on the rim is inside. They are larger by more than double precision rounds; otherwise the
order of summation would decide wherever a picture stands in both clouds."""

INFINITY_ROWS_A_FEATURE = 4
"""Rows a feature from which `frechet_infinity` is given, so that the smallest subset still has two. On Gaussians of known
distance the answer is off by a few percent there, and by most of its value where rows are no more than features
(`python -m benchmarks.distances`)."""

INFINITY_SUBSETS = 5


def frechet_distance(x: Points, y: Points) -> float:
    """Squared Fréchet distance between Gaussians fitted to two clouds; shapes (n, d) and (m, d).

    ``|μx − μy|² + tr Σx + tr Σy − 2 tr (Σx Σy)^½``. With centred, scaled clouds A and B (Σx = AᵀA) the last
    trace is the sum of the singular values of ABᵀ: exact, symmetric and stable where n ≤ d leaves the
    covariances singular. With n > d the same sum comes from a symmetric eigenproblem of size d, and the clouds are
    read a block at a time; so memory grows with d², never with n.
    """
    x, y = _cloud(x), _cloud(y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a Fréchet distance needs two windows on each side, not {len(x)} and {len(y)}")
    if max(len(x), len(y)) > x.width:
        s, t = Moments.of(x), Moments.of(y)
        cross = _trace_sqrt_product(s.covariance, t.covariance)
        spread = float(s.covariance.trace() + t.covariance.trace())
        return max(0.0, float(((s.mean - t.mean) ** 2).sum()) + spread - 2 * cross)
    p, q = x.block(slice(None)), y.block(slice(None))
    a = (p - p.mean(0)) / np.sqrt(len(p) - 1)
    b = (q - q.mean(0)) / np.sqrt(len(q) - 1)
    cross = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    shift = float(((p.mean(0) - q.mean(0)) ** 2).sum())
    return max(0.0, shift + float((a**2).sum()) + float((b**2).sum()) - 2 * cross)


def frechet_infinity(x: Points, y: Points, rng: np.random.Generator) -> float:
    """Fréchet distance extrapolated to infinitely many windows (Chong & Forsyth 2020); may come out below zero.

    The bias of the distance falls as 1/N. Random subsets of N … N/2 windows, evenly spaced in 1/N, are fitted by a line in
    1/N; its value at zero is the answer. Unlike in the paper both clouds are subsampled, since here the real one is no
    larger than the other and as biased.

    Raises
    ------
    ValueError
        When either cloud has fewer than `infinity_needs` windows: the line is no line there.
    """
    x, y = _cloud(x), _cloud(y)
    n = min(len(x), len(y))
    if n < infinity_needs(x.width):
        raise ValueError(f"extrapolation needs {infinity_needs(x.width)} windows on each side, not {n}")
    return extrapolated(x, y, rng)


def extrapolated(x: Cloud, y: Cloud, rng: np.random.Generator) -> float:
    """`frechet_infinity` without its refusal."""
    n = min(len(x), len(y))
    sizes = np.round(1 / np.linspace(1 / n, 2 / n, INFINITY_SUBSETS)).astype(np.int64)
    found = [
        frechet_distance(
            *(cloud.take(np.sort(rng.permutation(len(cloud))[:size]).astype(np.int64)) for cloud in (x, y))
        )
        for size in sizes
    ]
    return float(np.polyfit(1 / sizes, found, 1)[1])


def infinity_needs(width: int) -> int:
    """Windows that `frechet_infinity` needs for so many features."""
    return INFINITY_ROWS_A_FEATURE * width


def _cloud(x: Points) -> Cloud:
    return x if isinstance(x, Cloud) else Cloud(x)


def _trace_sqrt_product(s: Float64[np.ndarray, "d d"], t: Float64[np.ndarray, "d d"]) -> float:
    """Tr (S T)^½ = tr (S^½ T S^½)^½ for two symmetric positive semi-definite matrices."""
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return float(np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum())


@dataclass(frozen=True)
class Kernels:
    """The three kernel matrices of two clouds, computed once, so that subsets cost nothing.

    The kernel is the cubic polynomial ``(x·y / d + 1)³`` of Bińkowski et al. 2018.
    """

    xx: Float64[np.ndarray, "n n"]
    xy: Float64[np.ndarray, "n m"]
    yy: Float64[np.ndarray, "m m"]

    @classmethod
    def of(cls, x: NDArray[np.floating], y: NDArray[np.floating]) -> Kernels:
        """Kernels of clouds (n, d) and (m, d)."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        return cls(*((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (x, y), (y, y))))

    def distance(self, i: Int64[np.ndarray, a] | None = None, j: Int64[np.ndarray, b] | None = None) -> float:
        """Unbiased squared maximum mean discrepancy of windows ``i`` of x and ``j`` of y (None: all)."""
        rows = np.arange(len(self.xx)) if i is None else i
        columns = np.arange(len(self.yy)) if j is None else j
        cross = self.xy[np.ix_(rows, columns)].mean()
        return float(_mean_off_diagonal(self.xx, rows) + _mean_off_diagonal(self.yy, columns) - 2 * cross)


def _mean_off_diagonal(kernel: Float64[np.ndarray, "n n"], index: NDArray[np.int64]) -> float:
    n = len(index)
    if n < 2:
        raise ValueError("a kernel distance needs two windows on each side")
    return float((kernel[np.ix_(index, index)].sum() - kernel[index, index].sum()) / (n * (n - 1)))


def kernel_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Kernel distance (KID) of two clouds, unbiased, not multiplied by anything; may be below zero."""
    return Kernels.of(x, y).distance()


def euclidean(x: NDArray[np.floating], y: NDArray[np.floating]) -> Float64[np.ndarray, "n m"]:
    """All Euclidean distances between rows of x (n, d) and y (m, d)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(squared.clip(0))


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and coverage (0…1) and density (0…) of a generated cloud."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Neighbourhoods:
    """Distances within and between a real and a generated cloud, computed once."""

    real: Float64[np.ndarray, "n n"]
    generated: Float64[np.ndarray, "m m"]
    across: Float64[np.ndarray, "n m"]

    @classmethod
    def of(cls, real: NDArray[np.floating], generated: NDArray[np.floating]) -> Neighbourhoods:
        """Distances of clouds (n, d) and (m, d)."""
        return cls(euclidean(real, real), euclidean(generated, generated), euclidean(real, generated))

    def overlap(
        self,
        i: Int64[np.ndarray, a] | None = None,
        j: Int64[np.ndarray, b] | None = None,
        k: int = NEIGHBOURS,
    ) -> Overlap:
        """The four figures for the windows ``i`` of the real and ``j`` of the generated cloud.

        A ball round a window reaches to its k-th neighbour within its own cloud (itself not counted).
        """
        rows = np.arange(len(self.real)) if i is None else i
        columns = np.arange(len(self.generated)) if j is None else j
        if min(len(rows), len(columns)) <= k:
            raise ValueError(f"balls to the {k}th neighbour need more than {k} windows on each side")
        real_radius = _radius(self.real[np.ix_(rows, rows)], k)
        generated_radius = _radius(self.generated[np.ix_(columns, columns)], k)
        across = self.across[np.ix_(rows, columns)]
        inside: Bool[np.ndarray, "a b"] = across <= real_radius[:, None]
        return Overlap(
            precision=float(inside.any(0).mean()),
            recall=float((across <= generated_radius[None]).any(1).mean()),
            density=float(inside.sum(0).mean() / k),
            coverage=float((across.min(1) <= real_radius).mean()),
        )


def _radius(distances: Float64[np.ndarray, "n n"], k: int) -> Float64[np.ndarray, n]:
    """Distance of each point to its k-th neighbour; position 0 of the sorted row is the point itself."""
    return np.partition(distances, k, axis=1)[:, k] * CLOSED
