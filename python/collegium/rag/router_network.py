"""A fitted network at work: probabilities, selections, and sources that change, come and go."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._where import on_device
from .arrays import asarray
from .features import Layout, Scaler, fold, folded
from .given import described
from .routing import Mask, Router
from .seam import Floats
from .source import Queries, Source

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..cuda import RouterForward


class NetworkRouter(Router):
    """What `SourceRouter` is once it is fitted; see there.

    layout, scaler, plain: columns, standardisation and parameters of the network (torch's order of parameters, our
    order of columns), None before. k, template: of the labels and of the embedded text. prior: each source's rate of
    relevance, float32 (N,).
    """

    features: tuple[str, ...] = ()
    hidden: tuple[int, int] = (256, 128)
    dropout: float = 0.4

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.layout: Layout | None = None
        self.scaler: Scaler | None = None
        self.plain: Floats | None = None
        self.prior: Floats | None = None
        self.k: int | None = None
        self.template = ""
        self._pack: object = None
        self._devices: dict[int, RouterForward] = {}  # the weights on each device that queries came from
        self._threshold: Any = 0.5
        self._limits: Floats | None = None  # the threshold, one a source
        self._held: dict[str, NDArray[Any]] = {}

    # ---- the threshold ----

    @property
    def threshold(self) -> Any:
        """Of `select`: a number, or one a source, (N,)."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: Any) -> None:
        array = np.asarray(value, np.float64)
        if array.ndim > 1 or np.isnan(array).any():
            raise ValueError(f"threshold: expected a number or one a source, got {value!r}")
        self._threshold = float(array) if array.ndim == 0 else array.astype(np.float32)
        self._limits = None

    def _thresholds(self) -> Floats:
        if self._limits is None:
            N = len(self.sources)
            if np.shape(self._threshold) not in ((), (N,)):
                raise ValueError(f"threshold: expected a number or shape ({N},), got {np.shape(self._threshold)}")
            self._limits = np.full(N, self._threshold, np.float32)
        return self._limits

    def _repack(self) -> None:
        layout, scaler, plain = self._fitted()
        self._pack = fold(layout, self.sources, scaler, plain, self.hidden)
        self._devices = {}
        self._limits = None

    def _fitted(self) -> tuple[Layout, Scaler, Floats]:
        if self.layout is None or self.scaler is None or self.plain is None:
            raise RuntimeError("SourceRouter: not fitted; call fit, load or from_torch first")
        return self.layout, self.scaler, self.plain

    # ---- use ----

    def _arrays(self, Q: Any) -> tuple[Any, ...] | None:
        """The query arrays as `_core` wants them, unchecked; None where that cannot be."""
        if self.layout is None:
            self._fitted()
        elif not isinstance(Q, Mapping):
            return (Q,)
        elif all(e in Q for e in self.layout.dims):
            return tuple(Q[e] for e in self.layout.dims)
        return None

    def _scores(self, Q: Queries) -> Floats:
        layout, _, _ = self._fitted()
        for encoder, width in layout.dims.items():
            if encoder in Q and Q[encoder].shape[1] != width:
                raise ValueError(f"Q: expected shape (B, {width}) for encoder {encoder!r}, got {Q[encoder].shape}")
        rows = len(next(iter(Q.values())))
        # An encoder whose sources were all removed has no queries; its columns are read by nobody.
        return _core.router_forward(
            self._pack, tuple(Q[e] if e in Q else np.zeros((rows, w), np.float32) for e, w in layout.dims.items())
        )

    def predict_proba(self, Q: Any) -> Any:
        """The probability that each source is relevant, float32 (B, N). Q: float32 (B, d) or (d,), or {encoder: ...}.

        A query's row has the same bits in any batch. Queries on a CUDA device, float32, stay there, and so does the
        result, an array of their kind within 1e-5 of the CPU's; worth it for thousands at once, see docs/cuda.md. NaN
        and infinity are not looked for there: they give NaN.
        Raises ValueError naming encoder and source; TypeError, ValueError naming Q for queries on a device.
        """
        arrays = self._arrays(Q)
        if arrays is not None:
            try:
                return _core.router_forward(self._pack, arrays)
            except (TypeError, ValueError):  # to be converted, or refused in words
                pass
            if all(on_device(a) for a in arrays):
                return self._on_device(arrays, isinstance(Q, Mapping))
        return super().predict_proba(Q)

    def _on_device(self, arrays: tuple[Any, ...], by_encoder: bool) -> Any:
        """Probabilities from the weights on the queries' device, copied there once."""
        from ..cuda import RouterForward
        from ..cuda.door import device_of

        layout, scaler, plain = self._fitted()
        device = device_of(arrays[0])
        if device not in self._devices:
            weights = folded(layout, self.sources, scaler, plain, self.hidden)
            self._devices[device] = RouterForward(*weights, device=device)
        names = [f"Q[{e!r}]" for e in layout.dims] if by_encoder else ["Q"]
        return self._devices[device](arrays, names=names)

    def select(self, Q: Any, **policy: Any) -> Mask:
        """The sources to ask, bool (B, N). policy: threshold, on_empty, min_sources, max_sources, budget, for this
        call only. Raises as `predict_proba`; NaN and infinity in queries on a device too."""
        arrays = self._arrays(Q)
        if arrays is not None and not policy and self.budget is None:
            most = len(self.sources) if self.max_sources is None else self.max_sources
            try:
                return _core.router_select(
                    self._pack, arrays, self._thresholds(), self.min_sources, most, self.on_empty
                )
            except (TypeError, ValueError):
                pass
        if "threshold" not in policy:
            policy["threshold"] = self._thresholds()
        P = asarray(self.predict_proba(Q), "Q")
        bad = np.flatnonzero(np.isnan(P).any(axis=0))
        if len(bad):
            s = self.sources[bad[0]]
            raise ValueError(f"Q: expected finite values for encoder {s.encoder!r} (source {s.name!r})")
        return self.choose(P, **policy)

    # ---- sources come and go ----

    def check(self, sources: Any, *, k: int | None = None, template: str | None = None) -> None:
        """Warns of what differs from fit: k, template, a source's encoder, version, count or centroid. Sources are
        matched by name. Raises ValueError for an unknown name or another dimension."""
        if k is not None and self.k is not None and k != self.k:
            warnings.warn(f"k: labels were made for k={self.k}, got {k}: more sources matter for larger k",
                          stacklevel=2)  # fmt: skip
        if template is not None and template != self.template:
            warnings.warn(f"template: trained on {self.template!r}, got {template!r}", stacklevel=2)
        for new, old in self._matched(sources):
            if new.encoder != old.encoder:
                warnings.warn(f"source {new.name!r}: encoder {old.encoder!r} became {new.encoder!r}", stacklevel=2)
            changed = [
                what for what in ("version", "count") if getattr(new, what) not in (None, "", getattr(old, what))
            ]
            if new.centroid is not None and old.centroid is not None and not np.allclose(
                new.centroid, old.centroid, rtol=1e-4, atol=1e-6
            ):  # fmt: skip
                changed.append("centroid")
            if changed:
                warnings.warn(f"source {new.name!r}: {', '.join(changed)} changed since fit; refresh_centroids() or "
                              "fit again", stacklevel=2)  # fmt: skip

    def _matched(self, sources: Any) -> list[tuple[Source, Source]]:
        mine = {s.name: s for s in self.sources}
        out = []
        for s in described(sources):
            if s.name not in mine:
                raise ValueError(f"sources: expected names among {sorted(mine)}, got {s.name!r}")
            if None not in (s.dim, mine[s.name].dim) and s.dim != mine[s.name].dim:
                raise ValueError(f"sources: expected dimension {mine[s.name].dim} of {s.name!r}, got {s.dim}")
            out.append((s, mine[s.name]))
        return out

    def refresh_centroids(self, sources: Any) -> Self:
        """Takes new centroids, counts, densities and versions of the sources of these names. Returns self."""
        new = {
            s.name: dataclasses.replace(
                old, **{f: getattr(s, f) for f in ("centroid", "count", "density", "version") if getattr(s, f)
                        is not None}
            )
            for s, old in self._matched(sources)
        }  # fmt: skip
        return self._with([new.get(s.name, s) for s in self.sources])

    def add_source(self, source: Any) -> Self:
        """One more source, the last column, with its centroid; a one-hot part has no column for it. Returns self."""
        layout, _, _ = self._fitted()
        new = described([source])[0]
        if new.name in self.names:
            raise ValueError(f"source: expected a new name, {new.name!r} is taken")
        if new.encoder not in layout.dims or new.dim not in (None, layout.dims[new.encoder]):
            raise ValueError(f"source: expected an encoder of {layout.dims} (name: dimension), got {new.encoder!r} of "
                             f"dimension {new.dim}")  # fmt: skip
        if "onehot" in self.features and new.name not in layout.trained:
            warnings.warn(f"source {new.name!r}: its one-hot columns are 0, the network never saw it; fit again for a "
                          "prediction to rely on", stacklevel=2)  # fmt: skip
        return self._with([*self.sources, new])

    def remove_source(self, name: str) -> Self:
        """Without the source of this name; the others' probabilities stay as they are. Returns self."""
        if name not in self.names:
            raise ValueError(f"name: expected one of {self.names}, got {name!r}")
        if len(self.sources) == 1:
            raise ValueError(f"name: {name!r} is the only source")
        return self._with([s for s in self.sources if s.name != name])

    def _with(self, sources: list[Source]) -> Self:
        """Other sources under the same network; thresholds and rates go by name, a new source has their mean."""
        layout, scaler, plain = self._fitted()
        pack = fold(layout, sources, scaler, plain, self.hidden)  # raises before anything has changed
        if tuple(s.name for s in sources) != self.names:
            self._held = {}  # its columns are those of the old sources
            if np.ndim(self._threshold):
                self._threshold = _by_name(self._threshold, self.names, sources)
            if self.prior is not None:
                self.prior = _by_name(self.prior, self.names, sources)
        self.sources, self._pack, self._limits, self._devices = sources, pack, None, {}
        return self

    def to_torch(self) -> Any:
        """The network as an nn.Module in evaluation mode, logits of standardised rows (..., width); its state has the
        reference's keys. The rows' mean and scale: `mean` and `scale` of `router_file.tensors(router)`."""
        from .router_file import tensors
        from .torch_router import NAMES, module

        layout, _, _ = self._fitted()
        all_ = tensors(self)
        return module(layout.width, self.hidden, self.dropout, {name: all_[name] for name in NAMES})


def _by_name(values: Floats, names: tuple[str, ...], sources: list[Source]) -> Floats:
    of = dict(zip(names, values.tolist(), strict=True))
    return np.array([of.get(s.name, float(np.mean(values))) for s in sources], np.float32)
