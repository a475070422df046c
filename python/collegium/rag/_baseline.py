"""What the baselines of `collegium.rag.baselines` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import integer
from .arrays import asarray
from .given import described
from .routing import Router
from .source import Source


class Baseline(Router):
    """What the baselines share: the best m, or those above the threshold."""

    def __init__(self, m: int | None = None) -> None:
        if m is not None:
            self.max_sources = integer(m, "m", 1)
            self.threshold = -np.inf

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.sources)} sources, max_sources={self.max_sources})"

    def fit(self, Q: Any, Y: Any, sources: Any) -> Baseline:
        """Takes what it needs of training queries Q float (n, d) or {encoder: (n, d)}, labels Y (n, N) of 0 and 1, and
        N sources (see `described`); Q and Y may be None where they are not needed. Returns self.
        Raises TypeError, ValueError."""
        self.sources = described(sources)
        if self.max_sources is not None:
            integer(self.max_sources, "m", 1, len(self.sources))
        return self


def labels(Y: Any, sources: Sequence[Source], rows: int | None = None) -> NDArray[np.float64]:
    """Y as float64 (n, N) of 0 and 1. Raises ValueError."""
    y = asarray(Y, "Y")
    if y.ndim != 2 or y.shape[1] != len(sources) or len(y) != (len(y) if rows is None else rows) or not len(y):
        wanted = f"({'n' if rows is None else rows}, {len(sources)})"
        raise ValueError(f"Y: expected shape {wanted}, a row a query and a column a source, got {y.shape}")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Y: expected 0 and 1 only")
    return y.astype(np.float64)
