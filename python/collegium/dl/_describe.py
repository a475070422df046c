"""Words for what a run is made of, the same in every process: what a checkpoint compares."""

from __future__ import annotations

import hashlib
import re
from types import CodeType
from typing import Any

import numpy as np


def describe(thing: Any) -> str:
    """repr(thing) where its class wrote one; for functions their name and a digest of their code and of what they hold;
    for other objects their class and their attributes. Never an address in memory."""
    if thing is None or isinstance(thing, (int, float, str, bytes, bool)):
        return repr(thing)
    if isinstance(thing, np.ndarray):
        return f"array {thing.dtype} {thing.shape} {hashlib.sha256(np.ascontiguousarray(thing).data).hexdigest()[:16]}"
    if isinstance(thing, (list, tuple)):
        return f"{type(thing).__name__}({', '.join(map(describe, thing))})"
    if isinstance(thing, dict):
        return f"dict({', '.join(f'{k!r}: {describe(v)}' for k, v in thing.items())})"
    code = getattr(thing, "__code__", None)
    if isinstance(code, CodeType):
        held = [c.cell_contents for c in getattr(thing, "__closure__", None) or ()]
        parts = [_code(code), *map(_shallow, held), *map(_shallow, getattr(thing, "__defaults__", None) or ())]
        return f"{thing.__module__}.{thing.__qualname__} {hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"
    if hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    if hasattr(thing, "func") and hasattr(thing, "keywords"):  # functools.partial
        return f"partial({describe(thing.func)}, {describe(thing.args)}, {describe(thing.keywords)})"
    if _writes_itself(thing):
        return _no_address(repr(thing))
    attributes = ", ".join(f"{k}={_shallow(v)}" for k, v in sorted(getattr(thing, "__dict__", {}).items()))
    return f"{type(thing).__module__}.{type(thing).__qualname__}({attributes})"


def digest(graph: Any) -> str:
    """SHA-256 of a Topology, a MixingMatrix, or the first rounds of a Dynamic."""
    h = hashlib.sha256()
    rounds = [graph.matrix(t) for t in range(min(graph.period or 4, 64))] if hasattr(graph, "matrix") else [graph]
    for g in rounds:
        for name in ("indptr", "indices", "weights"):
            h.update(getattr(g, name, b""))
    return h.hexdigest()


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


def _shallow(thing: Any) -> str:
    """What an object holds is described; what those things hold is not: it may be the whole program."""
    if isinstance(thing, (int, float, str, bytes, bool, np.ndarray, list, tuple, dict)) or thing is None:
        return describe(thing)
    if _writes_itself(thing) and not callable(thing):
        return _no_address(repr(thing))
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _writes_itself(thing: Any) -> bool:
    return getattr(type(thing), "__repr__", None) is not object.__repr__


def _no_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
