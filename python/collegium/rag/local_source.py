"""Data sources in this process: an array of vectors, or an index of FAISS, hnswlib or usearch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from .._check import choice, integer
from .adapters import adapt, count, dimension
from .arrays import asarray, matrix
from .seam import Floats, Ids
from .source import METRICS, Source
from .stats import Statistics, reconstructs, source_stats


class _Passages:
    """Passages by id: a mapping from ids, or a sequence in the order of the rows."""

    def __init__(self, passages: Any, count: int | None = None, rows: dict[int, int] | None = None) -> None:
        if passages is not None and not isinstance(passages, Mapping):
            if not isinstance(passages, Sequence) or isinstance(passages, (str, bytes)):
                raise TypeError(f"passages: expected a sequence or a mapping, got {type(passages).__name__}")
            if count is not None and len(passages) != count:
                raise ValueError(f"passages: expected {count}, one a vector, got {len(passages)}")
        self.passages, self.rows = passages, rows

    def get(self, i: int) -> Any:
        if i < 0 or self.passages is None:
            return None
        key: Any = i
        try:
            if isinstance(self.passages, Mapping):
                return self.passages[key if key in self.passages else str(key)]  # keys of a JSON object are text
            return self.passages[key if self.rows is None else self.rows[key]]
        except (KeyError, IndexError):
            raise KeyError(f"ids: no passage with id {i}") from None


class VectorSource:
    """A data source over vectors in memory, searched exactly by the core.

    vectors: float (n, d); float32 in C order is used in place (and must not change), anything else copied once.
    name: unique among the sources. passages: None, or n of them (text, dictionaries, ...), or {id: passage}.
    metric: "ip" (inner product, larger is better), "l2" (squared L2, smaller is better) or "cosine".
    encoder, version, cost: see `Source`. ids: int64 (n,), unique and not negative; row numbers by default.
    Raises TypeError, ValueError (NaN and infinity among others). Building reads the vectors once, for their lengths and
    statistics.
    """

    def __init__(
        self,
        vectors: Any,
        *,
        name: str,
        passages: Any = None,
        metric: str = "ip",
        encoder: str = "",
        version: str | None = None,
        cost: float = 1.0,
        ids: Any = None,
    ) -> None:
        choice(metric, "metric", METRICS)
        self._vectors = matrix(vectors, "vectors")
        stats = Statistics(self._vectors.shape[1])
        self._norms = stats.add(self._vectors)
        self._source = stats.source(name, metric=metric, encoder=encoder, version=version or "", cost=cost)
        self._metric = METRICS.index(metric)
        self._ids = None if ids is None else _unique_ids(ids, len(self._vectors))
        self._rows = None if self._ids is None else {int(i): row for row, i in enumerate(self._ids)}
        self._passages = _Passages(passages, len(self._vectors), self._rows)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        n, d = self._vectors.shape
        return f"VectorSource({self.name!r}, {n} x {d}, metric={self._source.metric!r})"

    def describe(self) -> Source:
        """Its statistics."""
        return self._source

    def search(self, Q: Any, k: int) -> tuple[Floats, Ids]:
        """The best k: (D, I), float32 and int64 (B, k), exact; beyond the last, the worst infinity and -1.

        Q: float (B, d) or (d,). Of equal scores the lower row comes first. A score depends on its row and query only,
        not on the batch or on threads. Raises ValueError for another width, NaN and infinity.
        """
        queries = asarray(Q, "Q")
        queries = matrix(queries[None] if queries.ndim == 1 else queries, "Q", self._vectors.shape[1])
        if not np.isfinite(queries).all():
            raise ValueError("Q: expected finite values, got NaN or infinity")
        if self._source.metric == "cosine":
            queries = _unit(queries)
        k = integer(k, "k", 1)
        D, I = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        _core.search_flat(self._metric, self._vectors, self._norms, queries, D, I)
        return D, I if self._ids is None or not len(self._ids) else np.where(I < 0, I, self._ids[I])

    def vectors(self, ids: Any) -> Floats:
        """float32 (m, d): the stored vectors. Raises KeyError for an id that is not there."""
        wanted = np.atleast_1d(asarray(ids, "ids")).astype(np.int64)
        try:
            rows = wanted if self._rows is None else np.array([self._rows[int(i)] for i in wanted], np.int64)
        except KeyError as e:
            raise KeyError(f"ids: no vector with id {e.args[0]}") from None
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self._vectors)):
            raise KeyError(f"ids: expected 0 to {len(self._vectors) - 1}, got {rows.min()} to {rows.max()}")
        return self._vectors[rows]

    def sample(self, size: int, seed: int = 0) -> Floats:
        """float32 (<= size, d): as many of the vectors, drawn at random without repetition; all if there are fewer."""
        return self._vectors[_drawn(len(self._vectors), size, seed)]

    def passages(self, ids: Any) -> list[Any]:
        """A passage an id; None for id -1 and without passages. Raises KeyError for an id that is not there."""
        return [self._passages.get(int(i)) for i in np.atleast_1d(ids)]


def _drawn(n: int, size: int, seed: int) -> Ids:
    size, seed = integer(size, "size", 1), integer(seed, "seed", 0)
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False, shuffle=False))


def _unit(x: Floats) -> Floats:
    norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return (x / np.where(norm > 0, norm, 1)).astype(np.float32)


def _unique_ids(ids: Any, n: int) -> Ids:
    out = asarray(ids, "ids")
    if out.dtype.kind not in "iu" or out.shape != (n,):
        raise ValueError(f"ids: expected integers of shape ({n},), got dtype {out.dtype}, shape {out.shape}")
    out = out.astype(np.int64)
    if n and (out.min() < 0 or len(np.unique(out)) < n):
        raise ValueError("ids: expected unique values of at least 0")
    return out


# From an adapter's unit to the source's metric, and a score from one to the other.
_SCORES: dict[str, tuple[str, Any]] = {
    "l2sq": ("l2", lambda d: d),
    "l2": ("l2", lambda d: d * d),
    "ip": ("ip", lambda d: d),
    "1-ip": ("ip", lambda d: 1 - d),
    "cosine": ("cosine", lambda d: 1 - d),
}


class FaissSource:
    """A data source over an index that is there already: FAISS, hnswlib, usearch, or any object with search(x, k).

    index: see `collegium.rag.adapters.adapt`, which finds out how it words its distances; unit overrules it. Scores are
    those of `Source`: "l2" squared, smaller is better; "ip" and "cosine" larger is better.
    name: unique among the sources. passages: {id: passage}, or a sequence by id. vectors: function(ids) -> (m, d), or
    an array by id, where the index cannot give its vectors back. encoder, version, cost: see `Source`.
    source: statistics that are known, under this name and with what else is given here; else `describe` computes them
    on its first call, by one pass over the index where it can reconstruct its vectors, and leaves the centroid out
    where it cannot.
    """

    def __init__(
        self,
        index: Any,
        *,
        name: str,
        passages: Any = None,
        vectors: Any = None,
        unit: str | None = None,
        encoder: str = "",
        version: str | None = None,
        cost: float | None = None,
        source: Source | None = None,
    ) -> None:
        self._adapter = adapt(index, unit, vectors)
        metric, self._score = _SCORES[self._adapter.unit]
        self._bare = Source(
            name, metric=metric, encoder=encoder, version=version or "", cost=1.0 if cost is None else cost
        )
        self._source: Source | None = None
        if source is not None:
            if source.metric != metric:
                raise ValueError(f"source: expected metric {metric!r}, the index's, got {source.metric!r}")
            self._source = replace(
                source,
                name=name,
                encoder=encoder or source.encoder,
                version=version or source.version,
                cost=source.cost if cost is None else cost,
            )
        self._passages = _Passages(passages)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._bare.name

    @property
    def index(self) -> Any:
        """The index it was made from."""
        return self._adapter.index

    def __repr__(self) -> str:
        return f"FaissSource({self.name!r}, {type(self.index).__name__}, metric={self._bare.metric!r})"

    def describe(self) -> Source:
        """Its statistics; centroid, density and normalised are None where the index cannot give its vectors back."""
        if self._source is None:
            known = {f: getattr(self._bare, f) for f in ("name", "metric", "encoder", "version", "cost")}
            if reconstructs(self.index):
                self._source = source_stats(self.index, **known)
            elif self._adapter.ids is not None and self._adapter.vectors is not None and count(self.index):
                self._source = source_stats(self._listed(self._adapter.ids()), **known)
            else:
                self._source = Source(**known, count=count(self.index), dim=dimension(self.index))
        return self._source

    def _listed(self, ids: Ids, chunk: int = 65536) -> Iterator[Floats]:
        for start in range(0, len(ids), chunk):
            yield self.vectors(ids[start : start + chunk])

    def search(self, Q: Any, k: int) -> tuple[Floats, Ids]:
        """The best k by the index: (D, I), float32 and int64 (B, k), best first, id -1 for "no more"."""
        queries = asarray(Q, "Q")
        queries = matrix(queries[None] if queries.ndim == 1 else queries, "Q", dimension(self.index))
        if not np.isfinite(queries).all():
            raise ValueError("Q: expected finite values, got NaN or infinity")
        d, ids = self._adapter.search(queries, integer(k, "k", 1))
        with np.errstate(over="ignore", invalid="ignore"):  # FAISS fills up with the largest floats
            scores = self._score(np.asarray(d, np.float32))
        return np.ascontiguousarray(scores, np.float32), np.ascontiguousarray(ids, np.int64)

    def vectors(self, ids: Any) -> Floats:
        """float32 (m, d): the stored vectors. Raises TypeError where the index cannot give them."""
        if self._adapter.vectors is None:
            raise TypeError(f"vectors: {self!r} cannot give its vectors back; pass vectors= to FaissSource")
        wanted = np.atleast_1d(asarray(ids, "ids")).astype(np.int64)
        if len(wanted) and wanted.min() < 0:
            raise KeyError(f"ids: expected at least 0, got {wanted.min()}")
        return matrix(self._adapter.vectors(wanted), "vectors")

    def sample(self, size: int, seed: int = 0) -> Floats:
        """float32 (<= size, d): as many of the vectors, drawn at random without repetition; all if there are fewer.
        For indexes that list their ids (hnswlib, usearch), or whose ids are 0, 1, ...; see `vectors`."""
        if self._adapter.ids is not None:
            there = self._adapter.ids()
            return self.vectors(there[_drawn(len(there), size, seed)])
        n = count(self.index)
        if n is None:
            raise TypeError(f"sample: {self!r} does not say how many vectors it has")
        return self.vectors(_drawn(n, size, seed))

    def passages(self, ids: Any) -> list[Any]:
        """A passage an id; None for id -1 and without passages. Raises KeyError for an id that is not there."""
        return [self._passages.get(int(i)) for i in np.atleast_1d(ids)]


@contextlib.contextmanager
def single_threaded_faiss() -> Iterator[None]:
    """One OpenMP thread for FAISS searches of this Python thread inside the block; nothing where FAISS is not loaded.

    Several sources searched at once in one process would else start a team of threads each and fight for the same
    processors: eight flat indexes by eight threads on two cores take four times as long as one after the other.
    OpenMP keeps this number for each thread: enter the block in the thread that searches. A new thread starts with the
    process's number.
    """
    faiss = sys.modules.get("faiss")
    if faiss is None or not hasattr(faiss, "omp_set_num_threads"):
        yield
        return
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
