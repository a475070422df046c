"""Decoded arrays on disk: built once, then memory-mapped by every process that asks."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .places import cache_folder

Named = dict[str, NDArray[Any]]


def cached(name: str, sources: Iterable[Path], build: Callable[[], Named], version: int = 1) -> Named:
    """The arrays that build() returns, read-only; memory-mapped from the cache from the second call on.

    sources: the files they are made from; another size or modification time makes another entry.
    version: to be raised when build() changes what it returns.
    An entry is a folder of .npy files and an index.json with their checksums, which is written last. Each file comes
    into being under its name in one step and building is deterministic, so two processes may build at once. Damage
    (a missing or cut file, a wrong CRC-32) means building again; without a writable folder there is no cache, and a
    warning.
    """
    identity = [[p.name, (s := p.stat()).st_size, s.st_mtime_ns] for p in sources]
    key = hashlib.sha256(json.dumps([version, identity]).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name.replace('/', '-')}-{key}"
    found = _read(folder)
    if found is not None:
        return found
    arrays = {k: np.ascontiguousarray(a) for k, a in build().items()}
    try:
        _write(folder, arrays)
    except OSError as e:
        warnings.warn(f"{name}: decoded again each time, the cache cannot be written: {e}", stacklevel=3)
    for a in arrays.values():
        a.flags.writeable = False
    # Read back where possible: pages of a file are shared between processes, and can be given up under pressure.
    return _read(folder) or arrays


def atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """write(file) into a temporary file beside `path`, then to disk, then under its name in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
            os.fchmod(f.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _write(folder: Path, arrays: Named) -> None:
    for name, array in arrays.items():
        atomic(folder / f"{name}.npy", lambda f, a=array: np.save(f, a))  # type: ignore[misc]
    index = {name: _checksum(array) for name, array in arrays.items()}
    atomic(folder / "index.json", lambda f: f.write(json.dumps(index).encode()))


def _read(folder: Path) -> Named | None:
    """The arrays of an entry, or None if there is none or it is damaged."""
    try:
        index: dict[str, int] = json.loads((folder / "index.json").read_text())
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in index}
        return arrays if all(_checksum(a) == index[name] for name, a in arrays.items()) else None
    except (OSError, EOFError, ValueError, AttributeError):  # what NumPy and JSON raise for files of another form
        return None


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)
