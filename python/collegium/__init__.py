"""Collaborative and distributed machine learning on a C/CUDA core.

``collegium.dl``: decentralized learning. ``collegium.rag``: retrieval. ``collegium.data``: data sets and partitions.
``collegium.show_config()`` prints what is on, off and why. Submodules are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._core import CudaError, PeerLost, Timeout, set_num_threads
from ._core import num_threads as get_num_threads
from ._version import __version__
from .errors import Diverged

if TYPE_CHECKING:
    from . import cuda, data, dl, engine, plot, rag
    from .config import show_config
    from .history import History

__all__ = [
    "CudaError",
    "Diverged",
    "History",
    "PeerLost",
    "Timeout",
    "__version__",
    "cuda",
    "data",
    "dl",
    "engine",
    "get_num_threads",
    "isa",
    "plot",
    "rag",
    "set_num_threads",
    "show_config",
]

_SUBMODULES = ("cuda", "data", "dl", "engine", "plot", "rag")
_LAZY = {"show_config": "config", "History": "history"}


def isa(name: str | None = None) -> str:
    """The instruction set the kernels run on: ``"base"``, ``"avx2"`` or ``"avx512"``.

    name: switch to this one first (not while kernels are running). Raises ValueError for one this machine cannot run.
    The environment variable ``COLLEGIUM_ISA`` sets it at start.
    """
    from . import _core

    if name is not None:
        _core.force_isa(name)
    return _core.isa()


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
