"""What users pass as sources, as what the rest works with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .local_source import FaissSource, VectorSource
from .source import Searchable, Source


def searchables(sources: Any) -> list[Searchable]:
    """Searchables of a sequence, or of {name: searchable, float array (n, d), or index}.

    Raises TypeError for what cannot be searched, ValueError for names that are not unique.
    """
    out = [_named(n, s) for n, s in sources.items()] if isinstance(sources, Mapping) else list(sources)
    for i, s in enumerate(out):
        if not callable(getattr(s, "search", None)) or not callable(getattr(s, "describe", None)):
            raise TypeError(f"sources[{i}]: expected search(Q, k) and describe(), got {type(s).__name__}")
    _unique([s.name for s in out])
    return out


def described(sources: Any) -> list[Source]:
    """What is known of sources: a sequence of `Source` or searchable, or {name: either, a float array, or an index}.

    Raises TypeError, ValueError where there is none or names are not unique.
    """
    if isinstance(sources, Mapping):
        out = [
            dataclasses.replace(s if isinstance(s, Source) else _named(name, s).describe(), name=name)
            for name, s in sources.items()
        ]
    else:
        given: list[Any] = list(sources)
        for i, s in enumerate(given):
            if not isinstance(s, Source) and not callable(getattr(s, "describe", None)):
                raise TypeError(f"sources[{i}]: expected a Source or a searchable, got {type(s).__name__}")
        out = [s if isinstance(s, Source) else s.describe() for s in given]
    if not out:
        raise ValueError("sources: expected at least one, got none")
    _unique([s.name for s in out])
    return out


class _Renamed:
    """A searchable under the name its user gives it."""

    def __init__(self, source: Searchable, name: str) -> None:
        self._source, self.name = source, name

    def describe(self) -> Source:
        return dataclasses.replace(self._source.describe(), name=self.name)

    def search(self, Q: Any, k: int) -> tuple[Any, Any]:
        return self._source.search(Q, k)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._source, attribute)


def _named(name: str, value: Any) -> Searchable:
    if callable(getattr(value, "describe", None)):
        found: Searchable = value
        return found if getattr(value, "name", None) == name else _Renamed(value, name)
    if callable(getattr(value, "search", None)) or hasattr(value, "knn_query"):
        return FaissSource(value, name=name)
    return VectorSource(value, name=name)


def _unique(names: list[str]) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"sources: expected unique names, got {', '.join(map(repr, twice))} more than once")
