"""A fitted router as tensors and JSON: its file, and torch's checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._files import load_tensors, save_tensors
from .features import Layout, Scaler, checked_features
from .seam import Floats
from .source import Source
from .torch_router import NAMES, shapes

if TYPE_CHECKING:
    from .router import SourceRouter
    from .router_network import NetworkRouter

R = TypeVar("R", bound="SourceRouter")
KIND = "router"
OPTIONS = (
    "features", "hidden", "dropout", "epochs", "batch_size", "lr", "weight_decay", "clip", "pos_weight", "standardise",
    "schedule", "patience", "keep", "validation", "on_empty", "min_sources", "max_sources", "budget", "backend", "seed",
)  # fmt: skip
PLAIN = tuple(f.name for f in dataclasses.fields(Source) if f.name != "centroid")  # of a source, for JSON


def tensors(router: NetworkRouter) -> dict[str, NDArray[Any]]:
    """The network under the reference's keys, and "mean" and "scale" of the rows' columns, all in plain order."""
    layout, scaler, plain = router._fitted()
    out: dict[str, NDArray[Any]] = {}
    at = 0
    for name, shape in shapes(layout.width, router.hidden).items():
        size = int(np.prod(shape))
        out[name] = plain[at : at + size].reshape(shape).copy()
        at += size
    ours = layout.order
    for name, value in (("fc1.weight", out["fc1.weight"]), ("mean", scaler.mean), ("scale", scaler.scale)):
        out[name] = np.empty_like(value)
        out[name][..., ours] = value
    return out


def assemble(layout: Layout, hidden: tuple[int, int], given: Mapping[str, Any]) -> tuple[Floats, Scaler]:
    """The way back from `tensors`. Raises ValueError for a missing tensor, another shape, NaN or a scale of 0."""
    ours, parts = layout.order, []
    for name, shape in shapes(layout.width, hidden).items():
        if name not in given:
            raise ValueError(f"state_dict: expected keys {', '.join(NAMES)}, {name!r} is missing")
        value = np.asarray(given[name], np.float32)
        if value.shape != shape:
            raise ValueError(f"{name}: expected shape {shape} for features {layout.features} (widths {layout.dims}, "
                             f"{len(layout.trained)} sources), got {value.shape}")  # fmt: skip
        if not np.isfinite(value).all():
            raise ValueError(f"{name}: expected finite values")
        parts.append((value[:, ours] if name == "fc1.weight" else value).ravel())
    columns = []
    for name, default in (("mean", 0.0), ("scale", 1.0)):
        one = given.get(name)
        column = np.full(layout.width, default) if one is None else np.asarray(one, np.float64)
        if (
            column.shape != (layout.width,)
            or not np.isfinite(column).all()
            or (name == "scale" and (column == 0).any())
        ):
            raise ValueError(f"{name}: expected finite values of shape ({layout.width},), a scale without zeros, got "
                             f"shape {column.shape}")  # fmt: skip
        columns.append(column[ours])
    return np.concatenate(parts), Scaler(*columns)


def write(router: SourceRouter, path: Any) -> None:
    """See SourceRouter.save."""
    layout, _, _ = router._fitted()
    arrays = tensors(router)
    for i, s in enumerate(router.sources):
        if s.centroid is not None:
            arrays[f"centroid.{i}"] = s.centroid
    arrays |= {f"known.{name}": value for name, value in router._known.items()}
    arrays |= {f"held.{name}": value for name, value in router._held.items()}
    if router.prior is not None:
        arrays["prior"] = router.prior
    meta = {
        "options": {name: getattr(router, name) for name in OPTIONS},
        "rule": router.rule if isinstance(router.rule, str) else None,
        "threshold": np.asarray(router.threshold).tolist(),
        "layout": {"trained": layout.trained, "dims": layout.dims},
        "sources": [{name: getattr(s, name) for name in PLAIN} for s in router.sources],
        "k": router.k,
        "template": router.template,
        "history": router.history,
    }
    save_tensors(path, KIND, {name: np.ascontiguousarray(a) for name, a in arrays.items()}, meta)


def read(cls: type[R], path: Any) -> R:
    """See SourceRouter.load."""
    arrays, meta = load_tensors(path, KIND)
    options = meta["options"]
    for name in ("features", "hidden", "pos_weight"):
        options[name] = tuple(options[name]) if isinstance(options[name], list) else options[name]
    router = cls(**options, threshold=meta["rule"] or meta["threshold"])
    router.layout = Layout(router.features, tuple(meta["layout"]["trained"]), meta["layout"]["dims"])
    router.plain, router.scaler = assemble(router.layout, router.hidden, arrays)
    router.sources = [Source(**s, centroid=arrays.get(f"centroid.{i}")) for i, s in enumerate(meta["sources"])]
    router.k, router.template, router.history = meta["k"], meta["template"], meta["history"]
    router.prior = arrays.get("prior")
    router._known = {name: arrays[f"known.{name}"] for name in router._known}
    router._held = {name.removeprefix("held."): a for name, a in arrays.items() if name.startswith("held.")}
    router._repack()
    router.threshold = meta["threshold"]
    return router


def adopt(
    cls: type[R], state: Mapping[str, Any], sources: list[Source], mean: Any, scale: Any, features: Any,
    dims: Mapping[str, int] | None, options: dict[str, Any],
) -> R:  # fmt: skip
    """See SourceRouter.from_torch."""
    given = {k: v.detach().cpu().numpy() if hasattr(v, "detach") else np.asarray(v) for k, v in state.items()}
    for name in ("fc1.weight", "fc2.weight"):
        if name not in given:
            raise ValueError(f"state_dict: expected keys {', '.join(NAMES)}, {name!r} is missing")
    hidden = given["fc1.weight"].shape[0], given["fc2.weight"].shape[0]
    router = cls(**{"features": features, "hidden": hidden, "threshold": 0.5, **options})
    widths = {s.encoder: s.dim for s in sources} if dims is None else {s.encoder: dims[s.encoder] for s in sources}
    unknown = [e for e, w in widths.items() if w is None]
    if unknown:
        raise ValueError(f"dims: expected the width of the queries of encoders {unknown}, their sources do not know it")
    layout = Layout(checked_features(features), tuple(s.name for s in sources), {e: int(w) for e, w in widths.items()
                                                                                if w is not None})  # fmt: skip
    router.plain, router.scaler = assemble(layout, hidden, {**given, "mean": mean, "scale": scale})
    router.layout, router.sources = layout, sources
    router._repack()
    return router
