"""Named arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


class Arrays(dict[str, NDArray[Any]]):
    """A dict of arrays whose keys can be read as attributes: ``a.queries`` is ``a["queries"]``."""

    def __getattr__(self, name: str) -> NDArray[Any]:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no array {name!r}: there are {', '.join(self)}") from None

    def __repr__(self) -> str:
        return f"Arrays({', '.join(f'{k}: {a.dtype} {a.shape}' for k, a in self.items())})"
