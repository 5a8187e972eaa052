"""Clouds of features that are read a block at a time, so that they may lie on disk, and their first two moments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray

from stainglass.files import atomic_path

BLOCK = 1024
"""Rows read at once: 16 MB of 2,048 features in double precision."""

DENSE = 2000
"""Rows up to which features are kept in memory and compared by whole matrices; more lie on disk and go by blocks."""


@dataclass(frozen=True)
class Cloud:
    """Rows of a matrix (n, d), in memory or memory-mapped; only blocks of it are ever copied.

    Attributes
    ----------
    rows
        The matrix, any float type.
    index
        Which of its rows, in which order; None is all.
    """

    rows: NDArray[np.floating]
    index: Int64[np.ndarray, n] | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.index is None else len(self.index)

    @property
    def width(self) -> int:
        """Features a row."""
        return int(self.rows.shape[1])

    def block(self, at: slice) -> Float64[np.ndarray, "b d"]:
        """Some of the rows, in double precision."""
        found = self.rows[at] if self.index is None else self.rows[self.index[at]]
        return np.asarray(found, np.float64)

    def take(self, index: NDArray[np.int64]) -> Cloud:
        """Some of the rows as a cloud; nothing is read."""
        return Cloud(self.rows, index if self.index is None else self.index[index])


def slices(n: int, size: int) -> Iterator[slice]:
    """0…n in blocks of at most ``size``."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


@dataclass(frozen=True)
class Moments:
    """Mean and covariance (unbiased) of a cloud, accumulated in double precision."""

    n: int
    mean: Float64[np.ndarray, d]
    covariance: Float64[np.ndarray, "d d"]

    @classmethod
    def of(cls, cloud: Cloud, block: int = BLOCK) -> Moments:
        """Two readings of the cloud: the sum of squares about a mean that is known already loses no digits."""
        n = len(cloud)
        mean = sum((cloud.block(at).sum(0) for at in slices(n, block)), np.zeros(cloud.width)) / n
        covariance = np.zeros((cloud.width, cloud.width))
        for at in slices(n, block):
            centred = cloud.block(at) - mean
            covariance += centred.T @ centred
        return cls(n, mean, covariance / (n - 1))


def write_features(
    blocks: Iterable[Float32[np.ndarray, "b d"]], n: int, path: Path
) -> Float32[np.ndarray, "n d"]:
    """Features written to a .npy (float32) as they come, and mapped for reading; the file is whole or not there.

    Parameters
    ----------
    blocks
        What a judge says of one block of pictures after another, n rows in all.
    path
        Name of the file.

    Raises
    ------
    ValueError
        When there are not n rows.
    """
    with atomic_path(path) as temporary:
        start, mapped = 0, None
        for found in blocks:
            if mapped is None:
                mapped = np.lib.format.open_memmap(temporary, "w+", np.float32, (n, found.shape[1]))
            mapped[start : start + len(found)] = found
            start += len(found)
        if mapped is None or start != n:
            raise ValueError(f"{start} rows of features came, {n} were announced")
        mapped.flush()
        del mapped
    return np.load(path, mmap_mode="r")


def on_disk(blocks: Iterable[Float32[np.ndarray, "b d"]], n: int) -> Float32[np.ndarray, "n d"]:
    """`write_features` into the system's temporary folder (TMPDIR), where nothing is left behind.

    The file's name is gone at once, its content with the last array that is mapped onto it, also after a crash.
    """
    with tempfile.TemporaryDirectory(prefix="stainglass-", ignore_cleanup_errors=True) as folder:
        return write_features(blocks, n, Path(folder) / "features.npy")


def joined(a: Float32[np.ndarray, "n d"], b: Float32[np.ndarray, "m d"]) -> Float32[np.ndarray, "k d"]:
    """One cloud behind the other; on disk when either is."""
    if max(len(a), len(b)) <= DENSE:
        return np.concatenate([a, b])
    parts = (part[at] for part in (a, b) for at in slices(len(part), BLOCK))
    return on_disk(parts, len(a) + len(b))
