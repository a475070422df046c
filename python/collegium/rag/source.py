"""What is known of a data source (`Source`), and what can be searched as one (`Searchable`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .._check import choice, integer, real
from .arrays import asarray
from .seam import Floats, Ids

METRICS = ("ip", "l2", "cosine")


@dataclass(frozen=True, eq=False)
class Source:
    """Statistics of a data source, as a router needs them. All but the name may be unknown.

    name: unique within a router; sources are matched by it.
    centroid: float32 (d,), the arithmetic mean of the documents' embeddings. The mean of unit vectors is shorter than
      one: a product with it is no cosine (`direction` is the unit vector).
    count: documents. density: mean cosine of the documents to the centroid, -1 to 1.
    metric: of the source's scores: "ip" (inner product, larger is better), "l2" (squared L2 as FAISS gives it, smaller
      is better) or "cosine" (similarity, larger is better).
    normalised: whether the stored vectors have unit length. encoder: name of the embedding model; sources with equal
      names share a query's embedding. version: tag that changes with the documents. cost: of one query, in the user's
      unit. dim: d, by itself where there is no centroid.
    """

    name: str
    centroid: Floats | None = None
    count: int | None = None
    density: float | None = None
    metric: str = "ip"
    normalised: bool | None = None
    encoder: str = ""
    version: str = ""
    cost: float = 1.0
    dim: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name: expected a non-empty string, got {self.name!r}")
        choice(self.metric, "metric", METRICS)
        object.__setattr__(self, "cost", real(self.cost, "cost", 0.0))
        for field in ("count", "dim"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, integer(getattr(self, field), field, 0))
        if self.centroid is not None:
            c = np.ascontiguousarray(asarray(self.centroid, "centroid"), np.float32)
            if c.ndim != 1 or not len(c) or not np.isfinite(c).all():
                raise ValueError(
                    f"centroid: expected finite floats of shape (d,), got shape {c.shape} of {self.name!r}"
                )
            if self.dim not in (None, len(c)):
                raise ValueError(f"dim: expected {len(c)}, the centroid's, got {self.dim}")
            object.__setattr__(self, "centroid", c)
            object.__setattr__(self, "dim", len(c))

    @property
    def direction(self) -> Floats | None:
        """The centroid at unit length, float32 (d,); None where it is unknown or zero."""
        if self.centroid is None:
            return None
        length = float(np.linalg.norm(self.centroid.astype(np.float64)))
        return (self.centroid / length).astype(np.float32) if length > 0 else None

    @property
    def larger_is_better(self) -> bool:
        """The direction of the source's scores."""
        return self.metric != "l2"


class Searchable(Protocol):
    """A data source that answers: in this process, FAISS, or behind HTTP."""

    @property
    def name(self) -> str: ...
    def search(self, Q: Any, k: int) -> tuple[Floats, Ids]:
        """(D, I), float32 and int64 (B, k), best first, in the unit of `describe().metric`; id -1 for "no more"."""

    def describe(self) -> Source:
        """Its statistics; those that cost a pass over the documents may be None."""


Queries = Mapping[str, Floats]  # encoder -> float32 (B, d of that encoder)


def queries(Q: Any, sources: Sequence[Source], name: str = "Q") -> Queries:
    """Checked queries by encoder. Q: float32 (B, d), for all encoders, or {encoder: float32 (B, d)}.

    Raises ValueError naming the encoder (or a source) for a missing encoder, another width, NaN or infinity, and
    unequal numbers of rows.
    """
    encoders = list(dict.fromkeys(s.encoder for s in sources))
    if not isinstance(Q, Mapping):
        if len(encoders) > 1:
            raise ValueError(f"{name}: expected a mapping with an array for each encoder {encoders}, got one array")
        Q = {encoders[0]: Q}
    out: dict[str, Floats] = {}
    for encoder in encoders:
        if encoder not in Q:
            raise ValueError(f"{name}: expected queries of encoder {encoder!r}, got those of {sorted(Q)}")
        array = asarray(Q[encoder], name)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{name}: expected floats, got dtype {array.dtype}")
        array = np.ascontiguousarray(array[None] if array.ndim == 1 else array, np.float32)
        of = next(s for s in sources if s.encoder == encoder)
        dim = next((s.dim for s in sources if s.encoder == encoder and s.dim is not None), None)
        if array.ndim != 2 or (dim is not None and array.shape[1] != dim):
            raise ValueError(
                f"{name}: expected shape (B, {dim or 'd'}) for encoder {encoder!r} (source {of.name!r}), "
                f"got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite values for encoder {encoder!r} (source {of.name!r})")
        out[encoder] = array
    rows = {len(a) for a in out.values()}
    if len(rows) > 1:
        raise ValueError(f"{name}: expected as many rows for every encoder, got {sorted(rows)}")
    return out
