"""A circuit breaker: after repeated failures a source is left alone for a while, then tried with one query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._check import integer, real


class Breaker:
    """closed -> (failures in a row) -> open -> (back-off over) -> half-open, one probe -> closed, or open for longer.

    failures: in a row that open it. backoff: s, of the first opening; each failed probe multiplies it by `factor`, up
    to max_backoff; an answer sets it back. clock: monotonic seconds. Safe for threads. Raises ValueError, TypeError.
    """

    def __init__(
        self,
        failures: int = 3,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        factor: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = integer(failures, "failures", 1)
        self.backoff = real(backoff, "backoff", positive=True)
        self.max_backoff = real(max_backoff, "max_backoff", self.backoff)
        self.factor = real(factor, "factor", 1.0)
        self._clock, self._lock = clock, threading.Lock()
        self._until: float | None = None  # when it may be tried again; None: closed
        self._probing = False
        self._wait = self.backoff
        self.in_a_row = 0
        self.opened = 0
        self.last_failure: str | None = None

    @property
    def state(self) -> str:
        """ "closed", "open" (not asked) or "half-open" (a probe is due, or under way)."""
        with self._lock:
            if self._until is None:
                return "closed"
            return "half-open" if self._probing or self._clock() >= self._until else "open"

    @property
    def retry_after(self) -> float:
        """Seconds until a probe is let through, 0 where one is due or the breaker is closed."""
        with self._lock:
            return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def allow(self) -> bool:
        """Whether to ask now. A half-open breaker says yes once: success(), failure() or release() must follow."""
        with self._lock:
            if self._until is None:
                return True
            if self._probing or self._clock() < self._until:
                return False
            self._probing = True
            return True

    def success(self) -> None:
        """The source answered."""
        with self._lock:
            self._until, self._probing, self._wait, self.in_a_row = None, False, self.backoff, 0

    def failure(self, reason: str = "") -> None:
        """The source did not."""
        with self._lock:
            self.in_a_row += 1
            self.last_failure = reason
            if self._probing:
                self._probing, self._wait = False, min(self._wait * self.factor, self.max_backoff)
            elif self._until is not None or self.in_a_row < self.failures:
                return  # a straggler of before it opened, or not yet enough
            self._until = self._clock() + self._wait
            self.opened += 1

    def release(self) -> None:
        """The question was withdrawn: nothing was learned."""
        with self._lock:
            self._probing = False

    def __repr__(self) -> str:
        again = f", retry_after={self.retry_after:.1f}" if self.state == "open" else ""
        return f"Breaker({self.state}, in_a_row={self.in_a_row}, opened={self.opened}{again})"
