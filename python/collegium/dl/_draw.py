"""Random graphs, drawn from addressed words: the same edges for the same seed on every machine.

The address is (seed; topology, a number for the kind of graph, draw, index): no floating-point logarithm decides an
edge, only the comparison of a 32-bit word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .. import _core

Pairs = npt.NDArray[np.int64]

_TOPOLOGY = 4  # CG_FOR_TOPOLOGY; its node 0 is the regular graphs'
_COINS, _REWIRED, _ENDS = 1, 2, 3
_WORDS = 2**32


def coin_pairs(n: int, p: float, seed: int, draw: int) -> Pairs:
    """Every pair of n nodes with probability p (to 2^-32), each with its own coin: pair (j, i), j < i, has the coin
    i (i - 1) / 2 + j. O(n^2) coins."""
    below = np.uint64(round(p * _WORDS))
    rows = []
    for i in range(1, n):
        hits = np.flatnonzero(_core.random_u32(seed, _TOPOLOGY, _COINS, draw, i * (i - 1) // 2, i) < below)
        rows.append(np.stack([hits, np.full_like(hits, i)], axis=1))
    return np.concatenate(rows) if rows else np.empty((0, 2), np.int64)


def rewired_pairs(n: int, degree: int, rewire: float, seed: int, draw: int) -> Pairs:
    """Watts and Strogatz: a ring in which every node knows its degree / 2 neighbours on either side; then, side by side
    and node by node, the far end of each edge moves with probability `rewire` to a node not yet linked to the near end
    (an edge of a node linked to all others stays)."""
    near = np.tile(np.arange(n), degree // 2)
    far = (near + np.repeat(np.arange(1, degree // 2 + 1), n)) % n
    linked: list[set[int]] = [set() for _ in range(n)]
    for i, j in zip(near.tolist(), far.tolist()):
        linked[i].add(j)
        linked[j].add(i)
    words = _walk(seed, draw)
    moved = _core.random_u32(seed, _TOPOLOGY, _REWIRED, draw, 0, len(near)) < np.uint64(round(rewire * _WORDS))
    for k in np.flatnonzero(moved).tolist():
        i, j = int(near[k]), int(far[k])
        if len(linked[i]) == n - 1:
            continue
        new = i
        while new == i or new in linked[i]:
            new = _below(words, n)
        linked[i].remove(j)
        linked[j].remove(i)
        linked[i].add(new)
        linked[new].add(i)
        far[k] = new
    return np.stack([near, far], axis=1).astype(np.int64)


def _walk(seed: int, draw: int) -> Iterator[int]:
    first = 0
    while True:
        yield from _core.random_u32(seed, _TOPOLOGY, _ENDS, draw, first, 1024).tolist()
        first += 1024


def _below(words: Iterator[int], bound: int) -> int:
    """Uniform in [0, bound): words beyond the last multiple of bound are passed over."""
    whole = _WORDS - _WORDS % bound
    return next(word for word in words if word < whole) % bound
