"""Partitioners: who holds which sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import choice, integer, real

KINDS = ("iid", "shards", "dirichlet", "groups")


def partition(
    labels: ArrayLike,
    n: int,
    kind: str = "iid",
    *,
    seed: int = 0,
    shards: int = 2,
    alpha: float = 0.3,
    groups: ArrayLike | None = None,
) -> list[NDArray[np.int64]]:
    """Splits samples 0 ... N-1 among n nodes; every sample is in exactly one part.

    labels: (N,) integers.  kind:
      "iid": shuffled, sizes differ by at most one.
      "shards": sorted by label and cut into n * shards runs of (nearly) equal length, `shards` random ones a node
        (McMahan et al., AISTATS 2017; two a node in SkipTrain).
      "dirichlet": each class is divided in proportions drawn from Dirichlet(alpha) (Hsu et al., 2019); small alpha is
        more skew. No node stays empty: the largest gives up a sample.
      "groups": whole groups (writers, users) go to one node, shuffled, then each to the node with fewest samples.
        groups: (N,) group of each sample.
    seed: same seed, same parts, on every machine ("dirichlet": also the same NumPy).
    Returns n ascending int64 arrays. Raises TypeError or ValueError naming the argument.
    """
    y = np.asarray(labels)
    if y.ndim != 1 or (y.size and y.dtype.kind not in "iu"):
        raise TypeError(f"labels: expected a 1-D integer array, got {y.dtype} {y.shape}")
    n = integer(n, "n", 1)
    seed = integer(seed, "seed", 0)
    choice(kind, "kind", KINDS)
    if n > len(y):
        raise ValueError(f"n: expected at most one node a sample ({len(y)}), got {n}")
    if kind == "iid":
        parts = [_permutation(seed, len(y))[i::n] for i in range(n)]
    elif kind == "shards":
        parts = _shards(y, n, integer(shards, "shards", 1), seed)
    elif kind == "dirichlet":
        parts = _dirichlet(y, n, real(alpha, "alpha", positive=True), seed)
    else:
        parts = _groups(y, n, groups, seed)
    return [np.sort(p).astype(np.int64) for p in parts]


def _permutation(seed: int, n: int, stream: int = 0) -> NDArray[np.int32]:
    return _core.random_permutation(seed, _core.FOR_PARTITION, 0, stream, n)


def _shards(y: NDArray[Any], n: int, shards: int, seed: int) -> list[NDArray[np.int64]]:
    count = n * shards
    if count > len(y):
        raise ValueError(f"shards: expected n * shards of at most {len(y)} samples, got {n} * {shards}")
    order = np.argsort(y, kind="stable")
    edges = np.arange(count + 1) * len(y) // count
    dealt = _permutation(seed, count)
    return [np.concatenate([order[edges[s] : edges[s + 1]] for s in dealt[i::n]]) for i in range(n)]


def _dirichlet(y: NDArray[Any], n: int, alpha: float, seed: int) -> list[NDArray[np.int64]]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(n)]
    for k, c in enumerate(np.unique(y)):
        samples = np.flatnonzero(y == c)
        samples = samples[_permutation(seed, len(samples), 1 + k)]
        share = np.cumsum(rng.dirichlet(np.full(n, alpha)))[:-1]
        # A tiny alpha can underflow to 0/0: then one node takes the class.
        cut = np.floor(share * len(samples)).astype(np.int64) if np.isfinite(share).all() else np.zeros(n - 1, np.int64)
        for part, piece in zip(parts, np.split(samples, np.minimum(cut, len(samples)))):
            part.append(piece)
    out = [np.concatenate(p) for p in parts]
    for i in range(n):
        if not len(out[i]):
            rich = max(range(n), key=lambda j: len(out[j]))
            out[i], out[rich] = out[rich][-1:], out[rich][:-1]
    return out


def _groups(y: NDArray[Any], n: int, groups: ArrayLike | None, seed: int) -> list[NDArray[np.int64]]:
    if groups is None:
        raise ValueError("groups: kind='groups' needs the group of each sample")
    g = np.asarray(groups)
    if g.shape != y.shape:
        raise ValueError(f"groups: expected shape {y.shape}, got {g.shape}")
    _, member, sizes = np.unique(g, return_inverse=True, return_counts=True)
    if n > len(sizes):
        raise ValueError(f"n: expected at most one node a group ({len(sizes)}), got {n}")
    node_of = np.empty(len(sizes), np.int64)
    load = np.zeros(n, np.int64)
    for k, group in enumerate(_permutation(seed, len(sizes))):
        # The first n groups give every node one, whatever their sizes.
        node_of[group] = node = k if k < n else int(load.argmin())
        load[node] += sizes[group]
    return [np.flatnonzero(node_of[member] == i) for i in range(n)]
