"""Exact labels: which sources hold results of a query, from every source's own results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .._check import integer
from .given import searchables
from .merge import comparable, merge_topk
from .source import Searchable, queries

Labels = NDArray[np.uint8]
Counts = NDArray[np.int32]


@overload
def build_labels(
    sources: Any, Q: Any, k: int, *, batch: int = ..., progress: bool = ..., return_counts: Literal[False] = ...
) -> Labels: ...
@overload
def build_labels(
    sources: Any, Q: Any, k: int, *, batch: int = ..., progress: bool = ..., return_counts: Literal[True]
) -> tuple[Labels, Counts]: ...
def build_labels(
    sources: Any, Q: Any, k: int, *, batch: int = 256, progress: bool = False, return_counts: bool = False
) -> Labels | tuple[Labels, Counts]:
    """Which sources hold one of the k best results over all sources: uint8 (n, N), the target of a router.

    sources: searchables in the order of the columns, or {name: searchable, float array (n, d), or index}. Q: float
    (n, d), or {encoder: (n, d)}. batch: queries a search. progress: show a bar (tqdm). return_counts: also how many of
    the k each source holds, int32 (n, N): what document recall is measured with.
    Exact if the sources are: each gives its own best k, and the best k of those are the best of the union. A source
    with fewer than k vectors is fine. Labels depend on k: a larger k makes more sources relevant.
    Raises ValueError where scores of the sources cannot be compared (other encoder, metric or normalisation).
    Source: arXiv 2502.19280, section 3 (training data).
    """
    asked: Sequence[Searchable] = searchables(sources)
    known = [s.describe() for s in asked]
    if not asked:
        raise ValueError("sources: expected at least one, got none")
    larger, k, batch = comparable(known), integer(k, "k", 1), integer(batch, "batch", 1)
    vectors = queries(Q, known)[known[0].encoder]
    counts = np.zeros((len(vectors), len(asked)), np.int32)
    starts: Any = range(0, len(vectors), batch)
    if progress:
        from tqdm.auto import tqdm

        starts = tqdm(starts, unit="batch")
    for start in starts:
        part = vectors[start : start + batch]
        found = [s.search(part, k) for s in asked]
        merged = merge_topk([d for d, _ in found], [i for _, i in found], larger, k)
        counts[start : start + batch] = merged.counts
    labels = (counts > 0).astype(np.uint8)
    return (labels, counts) if return_counts else labels
