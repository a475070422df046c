"""What the layers above need of a cache: the part of `ProximityCache` they call, as types.

Anything with these methods will do; the tests put a plain Python model in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Vectors = Callable[[Ids], Any]  # ids (m,) -> vectors (m, dim)
Namespace = Hashable | None


class HitLike(Protocol):
    """ids: int64 (k,); key_distance: metric's units; slot; stored: all ids of the entry; stored_distances: or None."""

    @property
    def ids(self) -> Ids: ...
    @property
    def key_distance(self) -> float: ...
    @property
    def slot(self) -> int: ...
    @property
    def stored(self) -> Ids: ...
    @property
    def stored_distances(self) -> Floats | None: ...


class CacheLike(Protocol):
    """See `collegium.rag.ProximityCache`. tolerance: a number, or an object such as `GuaranteedTolerance`."""

    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def tolerance(self) -> Any: ...
    def lookup(
        self, q: Any, k: int | None = None, namespace: Any = None, tolerance: float | None = None
    ) -> HitLike | None: ...
    def nearest(self, q: Any, namespace: Any = None) -> tuple[float, int] | None: ...
    def insert(
        self, q: Any, ids: Any, *, distances: Any = None, k: int | None = None, namespace: Any = None
    ) -> int | None: ...
    def lookup_batch(
        self, Q: Any, k: int, namespace: Any = None
    ) -> tuple[NDArray[np.bool_], Ids, Floats]: ...
    def entries(self) -> Any: ...
    def remove_ids(self, ids: Any) -> int: ...
    def invalidate(self, slot: int) -> Any: ...
    def note(self, name: str, count: int = 1) -> Any: ...
