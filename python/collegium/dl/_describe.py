"""Words for a slot, the same in every process: what a checkpoint compares."""

from __future__ import annotations

import hashlib
import re
from typing import Any


def describe(thing: Any) -> str:
    """repr(thing) where its class wrote one; else the name of the function or class, never an address in memory."""
    if thing is None or isinstance(thing, (int, float, str, bool)):
        return repr(thing)
    own = getattr(type(thing), "__repr__", None) is not object.__repr__
    if own and not hasattr(thing, "__qualname__"):
        return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def digest(graph: Any) -> str:
    """SHA-256 of a Topology, a MixingMatrix, or the first rounds of a Dynamic."""
    h = hashlib.sha256()
    rounds = [graph.matrix(t) for t in range(min(graph.period or 4, 64))] if hasattr(graph, "matrix") else [graph]
    for g in rounds:
        for name in ("indptr", "indices", "weights"):
            h.update(getattr(g, name, b""))
    return h.hexdigest()
