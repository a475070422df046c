"""Documents by number, for libraries whose retrievers return documents and not ids: the cache stores int64."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .request import Answer
from .seam import CacheLike, Ids

T = TypeVar("T")
# More than any retriever returns: how many documents there are is the base retriever's choice.
MOST = 1 << 16


def number(text: str) -> int:
    """A number below 2**63 for a document, from its content: the same document in two answers is one id."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Payloads(Generic[T]):
    """The documents that entries of a cache name. Those that no entry names any more are dropped now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[int, T] = {}
        self._sweep_at = 1024

    def put(self, cache: CacheLike, numbers: Sequence[int], items: Sequence[T]) -> Ids:
        """int64 (n,): what to store for these documents."""
        with self._lock:
            self._items.update(zip(numbers, items))
            grown = len(self._items) >= self._sweep_at
        if grown:
            self._sweep(cache, set(numbers))
        return np.array(numbers, np.int64)

    def _sweep(self, cache: CacheLike, just_put: set[int]) -> None:
        # A document of an answer that is not stored yet may go too: get() then asks once more.
        named = just_put.union(*(e.ids.tolist() for e in cache.entries()))
        with self._lock:
            self._items = {n: item for n, item in self._items.items() if n in named}
            self._sweep_at = max(1024, 2 * len(self._items))

    def get(self, cache: CacheLike, ids: Ids) -> list[T] | None:
        """The documents, or None if one is not here (a cache from a file, or shared): its entries are dropped."""
        with self._lock:
            found = [self._items[n] for n in ids.tolist() if n in self._items]
        if len(found) == len(ids):
            return found
        cache.remove_ids(ids)
        return None

    def ask(self, cache: CacheLike, answer: Callable[[], Answer]) -> tuple[list[T], Answer]:
        """(documents, answer) of `answer`, asked again while its documents are not here."""
        while True:
            a = answer()
            found = self.get(cache, a.ids)
            if found is not None:
                return found, a

    async def aask(self, cache: CacheLike, answer: Callable[[], Awaitable[Answer]]) -> tuple[list[T], Answer]:
        """As ask(), for asyncio."""
        while True:
            a = await answer()
            found = self.get(cache, a.ids)
            if found is not None:
                return found, a


def needs(package: str, module: str, error: ImportError) -> ImportError:
    """The sentence that says how to get an optional library."""
    return ImportError(f"collegium.rag.{module} needs {package}: pip install {package} ({error})")


def check_cache(cache: Any) -> CacheLike:
    """`cache` if it looks like one. Raises TypeError."""
    if not hasattr(cache, "lookup") or not hasattr(cache, "dim"):
        raise TypeError(f"cache: expected a ProximityCache, got {type(cache).__name__}")
    checked: CacheLike = cache
    return checked
