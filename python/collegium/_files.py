"""Files that appear whole or not at all, and safetensors files that know their checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Path_ = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: Path_) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; after the block it is flushed to the disk and takes the name.

    An exception, or a process that dies, leaves the old file (or none) as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.touch()  # a folder that is not there is a FileNotFoundError now
    try:
        yield temporary
        with open(temporary, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name too
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path_, kind: str, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Writes C-contiguous arrays and JSON values as one safetensors file, with a SHA-256 of both in its metadata."""
    from safetensors.numpy import save_file

    text = json.dumps(meta)
    with replacing(path) as temporary:
        save_file(
            dict(tensors), temporary, {"format": f"collegium.{kind}", "meta": text, "sha256": _digest(tensors, text)}
        )


def load_tensors(path: Path_, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads a file of `save_tensors`. Raises ValueError for any other file, a damaged one, or a wrong checksum."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "np") as f:
            metadata = f.metadata() or {}
            if metadata.get("format") != f"collegium.{kind}":
                raise ValueError(f"{path}: not a {kind} file")
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (no mapping)
        text, wanted = metadata["meta"], metadata["sha256"]
        meta = json.loads(text)
    except (SafetensorError, KeyError, json.JSONDecodeError) as e:
        raise ValueError(f"{path}: not a {kind} file, or a damaged one ({e})") from e
    if _digest(tensors, text) != wanted:
        raise ValueError(f"{path}: the checksum does not match, the file is damaged")
    return tensors, dict(meta)


def _digest(tensors: Mapping[str, NDArray[Any]], text: str) -> str:
    h = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        a = tensors[name]
        h.update(json.dumps([name, str(a.dtype), a.shape]).encode())
        h.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
    return h.hexdigest()
