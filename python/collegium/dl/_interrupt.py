"""Ctrl-C as a question: the run ends after the round at hand."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any


class Interrupt:
    """In its block the first Ctrl-C only sets `asked`; a second one raises KeyboardInterrupt at once. Leaving the block
    raises it if it was asked for. Outside the main thread, where signals cannot be handled, it does nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._mine = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interrupt:
        if self._mine:
            self._before = signal.getsignal(signal.SIGINT)
            if self._before is signal.default_int_handler:  # anybody else's handler is none of our business
                signal.signal(signal.SIGINT, self._handle)
            else:
                self._mine = False
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, self._before)
        if self.asked and kind is None:
            raise KeyboardInterrupt("the run was ended after a whole round")
