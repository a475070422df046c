"""Where data sets lie, and the sentence for those that lie nowhere."""

from __future__ import annotations

import os
from pathlib import Path


class MissingData(FileNotFoundError):
    """A data set is not on this machine; the message says where it was looked for and how to get it."""


def folders() -> list[Path]:
    """The folders that are searched, in order: ``$COLLEGIUM_DATA`` if set, then ``~/.cache/collegium``."""
    named = os.environ.get("COLLEGIUM_DATA")
    return [*([Path(named).expanduser().absolute()] if named else []), _home()]


def cache_folder() -> Path:
    """Where decoded arrays are kept: ``$COLLEGIUM_CACHE``, else ``~/.cache/collegium/decoded``."""
    named = os.environ.get("COLLEGIUM_CACHE")
    return Path(named).expanduser().absolute() if named else _home() / "decoded"


def find(*paths: str) -> Path | None:
    """The first of `paths` (relative to a data folder) that is there, in the first folder that has one; else None."""
    return next((folder / p for folder in folders() for p in paths if (folder / p).exists()), None)


def locate(name: str, *paths: str) -> Path:
    """`find`, or MissingData in the name of the data set `name`."""
    found = find(*paths)
    if found is None:
        looked = " or ".join(str(f / paths[0]) for f in folders())
        raise MissingData(f"{name}: not found as {looked}: get it with `collegium data fetch {name}`")
    return found


def _home() -> Path:
    return Path.home() / ".cache" / "collegium"
