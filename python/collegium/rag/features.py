"""What the router's network sees of a query and a source, and how its first layer folds.

A row (query, source) is [query | centroid | one-hot | dot | count | density], each part where `features` names it.
Widths are those of the widest encoder; shorter vectors are padded with zeros. No row is ever built: the columns split
into those of the query, those of the source ("statics") and the one of both ("dot"), and each part is multiplied once.
Source: RAGRoute (arXiv 2502.19280), the network's input and its variants in the reference implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .seam import Floats, Ids
from .source import Queries, Source

FEATURES = ("query", "centroid", "onehot", "dot", "count", "density")
Doubles = NDArray[np.float64]


def checked_features(features: Any) -> tuple[str, ...]:
    """The features in the order of their columns. Raises ValueError for unknown ones, or none that sees the query."""
    given = {features} if isinstance(features, str) else set(features)
    unknown = given - set(FEATURES)
    if unknown or not given & {"query", "dot"}:
        raise ValueError(f"features: expected some of {FEATURES}, 'query' or 'dot' among them, got {features!r}")
    return tuple(f for f in FEATURES if f in given)


@dataclass(frozen=True)
class Layout:
    """The columns of a row. Our kernels want them as [query | statics | dot]; `plain` order has dot before count.

    features: as of `checked_features`. trained: names of the sources, in the order of the one-hot columns.
    dims: width of each encoder's queries.
    """

    features: tuple[str, ...]
    trained: tuple[str, ...]
    dims: dict[str, int]

    @property
    def dim(self) -> int:
        """Columns of a padded query or centroid."""
        return max(self.dims.values())

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Columns of the query, of the source, of both."""
        has = self.features.__contains__
        statics = self.dim * has("centroid") + len(self.trained) * has("onehot") + has("count") + has("density")
        return self.dim * has("query"), int(statics), int(has("dot"))

    @property
    def width(self) -> int:
        return sum(self.sizes)

    @property
    def order(self) -> NDArray[np.intp]:
        """Our columns as indices of plain ones: ours = plain[:, order]."""
        index = np.arange(self.width)
        if "dot" in self.features:
            dot = self.width - 1 - ("count" in self.features) - ("density" in self.features)
            index = np.append(np.delete(index, dot), dot)
        return index

    def encoders(self, sources: Sequence[Source]) -> Ids:
        """Index of each source's encoder, int64 (N,)."""
        at = {name: i for i, name in enumerate(self.dims)}
        return np.array([at[s.encoder] for s in sources], np.int64)

    def centroids(self, sources: Sequence[Source]) -> Floats:
        """Padded centroids, float32 (N, dim). Raises ValueError for a source without one."""
        out = np.zeros((len(sources), self.dim), np.float32)
        for row, s in zip(out, sources, strict=True):
            if s.centroid is None:
                raise ValueError(
                    f"sources: expected a centroid of {s.name!r} for features {self.features}, got none (its index "
                    "does not give its vectors: pass rag.Source(..., centroid=), or leave 'centroid' out of features=)"
                )
            row[: len(s.centroid)] = s.centroid
        return out

    def statics(self, sources: Sequence[Source]) -> Doubles:
        """The columns of the sources, float64 (N, sizes[1]). A source without a one-hot column of its own has zeros."""
        parts: list[Any] = [np.zeros((len(sources), 0))]
        if "centroid" in self.features:
            parts.append(self.centroids(sources))
        if "onehot" in self.features:
            parts.append(np.array([[name == s.name for name in self.trained] for s in sources], np.float64))
        for feature in ("count", "density"):
            if feature in self.features:
                values = [getattr(s, feature) for s in sources]
                if None in values:
                    name = sources[values.index(None)].name
                    raise ValueError(f"sources: expected a {feature} of {name!r} for the feature {feature!r}, got none")
                parts.append(np.array(values, np.float64)[:, None])
        return np.concatenate(parts, axis=1, dtype=np.float64)

    def dots(self, Q: Queries, sources: Sequence[Source]) -> Doubles:
        """query . centroid, float64 (n, N), no columns where it is no feature."""
        if "dot" not in self.features:
            return np.zeros((len(next(iter(Q.values()))), 0))
        columns = [Q[s.encoder] @ c[: self.dims[s.encoder]] for s, c in zip(sources, self.centroids(sources))]
        return np.stack(columns, axis=1).astype(np.float64)


class Scaler(NamedTuple):
    """Mean and scale of every column, float64 (width,), in our order."""

    mean: Doubles
    scale: Doubles


def identity(layout: Layout) -> Scaler:
    return Scaler(np.zeros(layout.width), np.ones(layout.width))


def measure(layout: Layout, Q: Queries, sources: Sequence[Source]) -> Scaler:
    """Mean and population deviation of every column over the rows (query, source); constant columns keep scale 1."""
    d, _, x = layout.sizes
    mean, scale = identity(layout)
    if d:
        mean[:d], scale[:d] = _of_queries(layout, Q, sources)
    statics = layout.statics(sources)
    stop = layout.width - x
    mean[d:stop] = statics.mean(axis=0)
    scale[d:stop] = np.where(np.ptp(statics, axis=0) > 0, statics.std(axis=0), 1.0)
    if x:
        dots = layout.dots(Q, sources)
        mean[-1], scale[-1] = dots.mean(), dots.std() if np.ptp(dots) > 0 else 1.0
    return Scaler(mean, scale)


def _of_queries(layout: Layout, Q: Queries, sources: Sequence[Source]) -> tuple[Doubles, Doubles]:
    """A source's rows are its encoder's queries, padded with zeros."""
    share = {e: sum(s.encoder == e for s in sources) / len(sources) for e in layout.dims}
    mean, square = np.zeros(layout.dim), np.zeros(layout.dim)
    low, high = np.full(layout.dim, np.inf), np.full(layout.dim, -np.inf)
    for e, width in layout.dims.items():
        mean[:width] += share[e] * Q[e].mean(axis=0, dtype=np.float64)
    for e, width in layout.dims.items():
        square[:width] += share[e] * np.square(Q[e] - mean[:width]).mean(axis=0)
        square[width:] += share[e] * np.square(mean[width:])
        low[:width], high[:width] = np.minimum(low[:width], Q[e].min(0)), np.maximum(high[:width], Q[e].max(0))
        low[width:], high[width:] = np.minimum(low[width:], 0.0), np.maximum(high[width:], 0.0)
    return mean, np.where(high > low, np.sqrt(square), 1.0)


class Rows(NamedTuple):
    """Standardised inputs of the trainer. queries: float32 (M, n, d); encoder: int64 (N,); statics: float32 (N, F);
    crosses: float32 (n, N) or None."""

    queries: Floats
    encoder: Ids
    statics: Floats
    crosses: Floats | None


def standardised(layout: Layout, Q: Queries, sources: Sequence[Source], scaler: Scaler) -> Rows:
    """The parts of the rows as the network sees them."""
    d, _, x = layout.sizes
    stop = layout.width - x
    n = len(next(iter(Q.values())))
    queries = np.zeros((len(layout.dims), n, d), np.float32)
    for out, (encoder, width) in zip(queries, layout.dims.items(), strict=True):
        if d:
            out[:, :width] = Q[encoder]
            out -= scaler.mean[:d].astype(np.float32)
            out /= scaler.scale[:d].astype(np.float32)
    statics = (layout.statics(sources) - scaler.mean[d:stop]) / scaler.scale[d:stop]
    crosses = ((layout.dots(Q, sources) - scaler.mean[-1]) / scaler.scale[-1]).astype(np.float32) if x else None
    return Rows(queries, layout.encoders(sources), statics.astype(np.float32), crosses)


def fold(layout: Layout, sources: Sequence[Source], scaler: Scaler, plain: Floats, hidden: tuple[int, int]) -> object:
    """The packed router of `folded`."""
    return _core.router_pack(*folded(layout, sources, scaler, plain, hidden))


def folded(
    layout: Layout, sources: Sequence[Source], scaler: Scaler, plain: Floats, hidden: tuple[int, int]
) -> tuple[Ids, Ids, Floats, Floats, Floats | None, Floats | None, Floats, int]:
    """Parameters `plain` (torch's order, our columns) with the standardisation folded into them: the arguments of
    `_core.router_pack` and of `cuda.RouterForward`.

    z1(q, s) = (Wq / sigma) q + T_s + (wx / sigma) q . c_s, T_s = Ws (f_s - mu) / sigma + b1 - Wq mu / sigma
    - wx mu / sigma; in float64, sums in an order of their own (no BLAS), so that equal parameters give equal bits.
    """
    d, f, x = layout.sizes
    h1 = hidden[0]
    W = plain[: h1 * layout.width].reshape(h1, layout.width).astype(np.float64) / scaler.scale
    b1 = plain[h1 * layout.width :][:h1].astype(np.float64)
    base = b1 - np.einsum("hi,i->h", W, scaler.mean)
    shift = [base + np.einsum("hi,i->h", W[:, d : d + f], row) for row in layout.statics(sources)]
    wq = W[:, :d] if d else np.zeros((h1, layout.dim))
    return (
        np.array(list(layout.dims.values()), np.int64),
        layout.encoders(sources),
        np.ascontiguousarray(wq, np.float32),
        np.array(shift, np.float32),
        W[:, -1].astype(np.float32) if x else None,
        layout.centroids(sources) if x else None,
        plain[h1 * (layout.width + 1) :],
        hidden[1],
    )
