"""What was made last, kept for the next call."""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The `most` values used last, by key. Threads may share it; two that miss at once both make one.

    Keys may hold the id() of objects: `held` keeps those alive, so that no other object gets the same one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[Any, T]] = OrderedDict()
        self._lock = threading.RLock()  # giving memory back may run other code of this thread
        atexit.register(self.clear)  # while the device can still take it back

    def get(self, key: Hashable, held: Any, make: Callable[[], T]) -> T:
        """The value of `key`, made if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        value = make()
        with self._lock:
            self._kept[key] = held, value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def clear(self) -> None:
        """Keeps nothing."""
        with self._lock:
            self._kept.clear()
