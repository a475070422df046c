"""The folder of a long run: its last checkpoint and its history.

checkpoint.safetensors holds X, what the learner and the exchange keep beside it, and in its metadata the ledger, the
length of the history and the fingerprint of the configuration. history.jsonl is appended to line by line. Both survive
`kill -9` at any moment: a checkpoint appears whole or not at all, and lines behind it are cut off on resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import Path_, load_tensors, save_tensors

State = dict[str, Any]


class RunFolder:
    """path/checkpoint.safetensors and path/history.jsonl."""

    def __init__(self, path: Path_) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.history = self.path / "history.jsonl"

    @property
    def exists(self) -> bool:
        """Is there a run to go on with?"""
        return self.checkpoint.exists()

    def save(self, parts: Mapping[str, State], meta: Mapping[str, Any]) -> None:
        """parts: "learner" -> its state_dict and so on; arrays become tensors, anything else JSON."""
        tensors: dict[str, NDArray[Any]] = {}
        plain: dict[str, State] = {}
        for part, state in parts.items():
            plain[part] = {}
            for name, value in state.items():
                if isinstance(value, np.ndarray):
                    tensors[f"{part}/{name}"] = np.ascontiguousarray(value)
                else:
                    plain[part][name] = value
        save_tensors(self.checkpoint, "checkpoint", tensors, {**meta, "plain": plain})

    def load(self) -> tuple[dict[str, State], dict[str, Any]]:
        """What `save` was given. Raises ValueError for a damaged file."""
        tensors, meta = load_tensors(self.checkpoint, "checkpoint")
        parts: dict[str, State] = {part: dict(state) for part, state in meta.pop("plain").items()}
        for name, value in tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = value
        return parts, meta


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences for what is not the same in two fingerprints; None counts as unknown."""
    out = []
    for key in sorted(saved.keys() | now.keys()):
        a, b = saved.get(key), now.get(key)
        if a is not None and b is not None and a != b:
            shown = [f"{v[:12]}..." if isinstance(v, str) and len(v) > 60 else repr(v) for v in (a, b)]
            out.append(f"{key} was {shown[0]}, is {shown[1]}")
    return out
