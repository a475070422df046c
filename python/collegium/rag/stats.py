"""Statistics of a source's vectors, in one pass over as many as there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import _core
from .._check import integer
from .arrays import matrix
from .seam import Floats
from .source import Source

_UNIT_LENGTH = 1e-3  # how far from 1 the length of a normalised vector may be


class Statistics:
    """Sums over vectors of dimension `dim`, chunk by chunk; `source` is what they say so far."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum, self._unit = np.zeros(dim), np.zeros(dim)
        self._lengths = (np.inf, -np.inf)

    def add(self, chunk: Floats) -> Floats:
        """Adds float32 (n, dim); returns their lengths, float32 (n,). Raises ValueError at a NaN or an infinity."""
        norms = np.empty(len(chunk), np.float32)
        _core.source_stats(chunk, self._sum, self._unit, norms)
        self.count += len(chunk)
        if len(chunk):
            self._lengths = min(self._lengths[0], float(norms.min())), max(self._lengths[1], float(norms.max()))
        return norms

    def source(self, name: str, **known: Any) -> Source:
        """known: metric, encoder, version, cost."""
        if self.count == 0:
            return Source(name, count=0, dim=len(self._sum), **known)
        centroid = self._sum / self.count
        length = float(np.linalg.norm(centroid))
        density = float(self._unit @ centroid) / (self.count * length) if length > 0 else 0.0
        low, high = self._lengths
        return Source(
            name,
            centroid=centroid.astype(np.float32),
            count=self.count,
            density=min(1.0, max(-1.0, density)),
            normalised=1 - _UNIT_LENGTH <= low and high <= 1 + _UNIT_LENGTH,
            **known,
        )


def source_stats(
    vectors: Any,
    *,
    name: str,
    metric: str = "ip",
    encoder: str = "",
    version: str = "",
    cost: float = 1.0,
    chunk: int = 65536,
) -> Source:
    """Statistics of a source: centroid, density, count, and whether its vectors have unit length.

    vectors: float (n, d); an iterator of such chunks; or an index with reconstruct_n (FAISS), read `chunk` at a time.
    The centroid is the plain mean, summed in float64: shorter than one for unit vectors. The density is the mean cosine
    of the vectors to it, from the same pass: mean(x / |x|) . c / |c|. Others: see `Source`.
    Raises ValueError for NaN or infinity in a row, chunks of several widths, no chunk at all.
    """
    stats: Statistics | None = None
    for part in _chunks(vectors, integer(chunk, "chunk", 1)):
        rows = matrix(part, "vectors", None if stats is None else len(stats._sum))
        if stats is None:
            stats = Statistics(rows.shape[1])
        try:
            stats.add(rows)
        except ValueError as e:
            raise ValueError(f"{e}, of the chunk after {stats.count} rows of {name!r}") from None
    if stats is None:
        raise ValueError(f"vectors: expected at least one chunk, got none for {name!r}")
    return stats.source(name, metric=metric, encoder=encoder, version=version, cost=cost)


def reconstructs(index: Any) -> bool:
    """Whether a FAISS index gives all its vectors back. One vector is tried: for many at once FAISS calls several
    threads, and an exception in one of them ends the process."""
    index = _without_ids(index)
    if not callable(getattr(index, "reconstruct_n", None)) or not getattr(index, "ntotal", 0):
        return False
    try:
        index.reconstruct(0)
        index.reconstruct(index.ntotal - 1)
    except RuntimeError:
        return False
    return True


def _without_ids(index: Any) -> Any:
    """An IndexIDMap looks ids up; the index inside it has the vectors in their order."""
    while type(index).__name__.startswith("IndexIDMap"):
        index = index.index
    return index


def _chunks(vectors: Any, chunk: int) -> Iterable[Any]:
    if callable(getattr(vectors, "reconstruct_n", None)):
        if vectors.ntotal and not reconstructs(vectors):
            raise TypeError(f"vectors: {type(vectors).__name__} cannot give its vectors back; pass the array itself")
        return _reconstructed(_without_ids(vectors), chunk)
    if isinstance(vectors, Iterator):
        return vectors
    return [vectors]


def _reconstructed(index: Any, chunk: int) -> Iterator[Floats]:
    total = int(index.ntotal)
    if not total:
        yield np.empty((0, int(index.d)), np.float32)
    for start in range(0, total, chunk):
        yield index.reconstruct_n(start, min(chunk, total - start))
