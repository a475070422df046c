"""Validation samples: a share of each node's own."""

from __future__ import annotations

import numpy as np

from .. import _core
from .._check import integer, real
from .datasets import Parts


def holdout(parts: Parts, fraction: float = 0.1, seed: int = 0) -> tuple[Parts, Parts]:
    """(kept, held): of each node's samples, `fraction` (rounded, drawn with `seed`) is held out, the rest kept.

    fraction: 0 up to, not including, 1. A node that has samples keeps at least one, so a small node may hold out none.
    A node's two parts share nothing and lose nothing. Node i's draw depends on (seed, i, its number of samples) alone.
    """
    if not isinstance(parts, Parts):
        raise TypeError(f"parts: expected Parts, got {type(parts).__name__}")
    fraction = real(fraction, "fraction", 0.0)
    if fraction >= 1:
        raise ValueError(f"fraction: expected below 1, got {fraction}")
    seed = integer(seed, "seed", 0)
    kept, held = [], []
    for i, samples in enumerate(parts.indices):
        out = min(round(fraction * len(samples)), max(len(samples) - 1, 0))
        # Partitions draw at node 0; nodes here are counted from 1.
        order = _core.random_permutation(seed, _core.FOR_PARTITION, i + 1, 0, len(samples))
        held.append(samples[np.sort(order[:out])])
        kept.append(samples[np.sort(order[out:])])
    return Parts(parts.dataset, kept), Parts(parts.dataset, held)
