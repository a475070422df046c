"""A cache as arrays: what entries() shows, what save() writes, what load() reads."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._files import load_tensors, save_tensors

if TYPE_CHECKING:
    from .cache import ProximityCache

KIND, VERSION = "proximity-cache", 1
NEVER = np.iinfo(np.int64).max  # `left` of an entry without an expiry
ARGUMENTS = (
    "dim", "capacity", "metric", "eviction", "index", "n_bits", "bucket_capacity", "probes", "seed", "ttl", "on_nan",
    "cache_empty", "model",
)  # fmt: skip


class Entry(NamedTuple):
    """One stored query, without its vector (see keys())."""

    slot: int
    ids: NDArray[np.int64]
    distances: NDArray[np.float32] | None
    k: int  # documents asked for
    age: float  # seconds
    expires_in: float | None  # seconds
    tolerance: float | None  # its own, in the metric's unit (metric "ip": minus the least product)
    namespace: Hashable
    filter: Hashable


def entries(cache: ProximityCache) -> list[Entry]:
    """The entries in the order of insertion."""
    c = cache._export(False)
    spaces: dict[int, tuple[Hashable, Hashable]] = {0: (None, None)}
    spaces.update((number, key) for key, number in list(cache._spaces.items()))
    end = np.cumsum(c["count"])
    start = end - c["count"]
    out = []
    for i in np.argsort(c["seq"]):
        lists = slice(int(start[i]), int(end[i]))
        out.append(
            Entry(
                slot=int(c["slot"][i]),
                ids=c["ids"][lists].copy(),
                distances=c["distances"][lists].copy() if c["measured"][i] else None,
                k=int(c["k"][i]),
                age=float(c["age"][i]) * 1e-9,
                expires_in=None if c["left"][i] == NEVER else float(c["left"][i]) * 1e-9,
                tolerance=_tolerance(cache.metric, float(c["bound"][i])),
                namespace=spaces[int(c["space"][i])][0],
                filter=spaces[int(c["space"][i])][1],
            )
        )
    return out


def _tolerance(metric: str, bound: float) -> float | None:
    """The greatest distance that a bound of the core allows."""
    if np.isnan(bound):
        return None
    return float(np.sqrt(bound)) if metric == "l2" else bound / 2 if metric == "cosine" else bound


def save(cache: ProximityCache, path: str | os.PathLike[str]) -> None:
    """See ProximityCache.save."""
    spaces = [[*key, number] for key, number in list(cache._spaces.items())]
    for space in spaces:
        for value, name in zip(space, ("namespace", "filter")):
            if not isinstance(value, (str, int, float, type(None))):
                raise ValueError(f"{name}: only JSON values (str, int, float, bool, None) can be saved, got {value!r}")
    columns = cache._export(True)
    now = time.time_ns()
    del columns["slot"]
    left = columns.pop("left")
    columns["born"] = now - columns.pop("age")  # absolute, so that time goes on while the cache is a file
    columns["expires"] = np.where(left == NEVER, NEVER, now + np.minimum(left, NEVER - now))
    if cache._planes is not None:
        columns["planes"] = cache._planes
    dynamic = hasattr(cache.tolerance, "threshold")
    meta = {
        "version": VERSION,
        "spaces": spaces,
        "tolerance": None if dynamic else cache.tolerance,
        **{name: getattr(cache, name) for name in ARGUMENTS},
        "capacity": cache.capacity if cache._limited else None,
    }
    save_tensors(path, KIND, columns, meta)


def load(
    cls: type[ProximityCache], path: str | os.PathLike[str], expect: Mapping[str, Any], tolerance: Any
) -> ProximityCache:
    """See ProximityCache.load."""
    columns, meta = load_tensors(path, KIND)
    if meta.get("version") != VERSION:
        raise ValueError(f"{path}: expected version {VERSION} of the file, got {meta.get('version')!r}")
    for name, wanted in expect.items():
        if name not in (*ARGUMENTS, "tolerance"):
            raise ValueError(f"expect: {name!r} is not an argument of ProximityCache that a file keeps")
        if meta.get(name) != wanted:
            raise ValueError(f"{path}: expected {name} {wanted!r}, got {meta.get(name)!r}")
    if tolerance is None and meta.get("tolerance") is None:
        raise ValueError(f"{path}: the saved tolerance was an object, give tolerance=")
    try:
        return _restored(cls, columns, meta, meta["tolerance"] if tolerance is None else tolerance)
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{path}: not a cache that this version can read ({e})") from e


def _restored(
    cls: type[ProximityCache], columns: dict[str, NDArray[Any]], meta: Mapping[str, Any], tolerance: Any
) -> ProximityCache:
    arguments = {name: meta[name] for name in ARGUMENTS}
    if meta["metric"] == "ip" and not hasattr(tolerance, "threshold"):
        arguments["min_similarity"] = -tolerance
    else:
        arguments["tolerance"] = tolerance
    if meta["index"] == "lsh":
        arguments["seed"] = columns.pop("planes")
    cache = cls(**arguments)
    cache.seed = meta["seed"]
    cache._add_spaces(((namespace, filter), number) for namespace, filter, number in meta["spaces"])
    now = time.time_ns()
    born, expires = columns.pop("born"), columns.pop("expires")
    columns["age"] = np.maximum(now - born, 0)
    # Where the clock was set back in between, an entry still lives no longer than it was meant to.
    columns["left"] = np.where(expires == NEVER, NEVER, np.minimum(expires - now, expires - born))
    columns["slot"] = np.zeros(expires.size, np.uint64)
    cache._restore(columns)
    return cache
