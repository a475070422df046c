"""Retrieval: an approximate cache in front of a vector database.

``ProximityCache`` remembers query embeddings with the documents the database gave, and answers queries that lie within
a tolerance of one of them. ``CachedIndex`` puts it before an index as the index itself; ``calibrate_tolerance`` and
``GuaranteedTolerance`` choose the tolerance. Source: "Leveraging Approximate Caching for Faster Retrieval-Augmented
Generation" (EuroMLSys 2025, arXiv 2503.05530).
"""

from __future__ import annotations

import importlib
from types import ModuleType

from .batch import BatchAnswer, get_or_retrieve_batch, warm
from .cache import Entry, Hit, ProximityCache
from .calibrate import Calibration, calibrate_tolerance, tolerance_from_cosine
from .guarantee import GuaranteedTolerance, GuaranteeReport
from .index import CachedIndex, SearchResult
from .measure import Measured, Report, evaluate

__all__ = [
    "ProximityCache",
    "Hit",
    "Entry",
    "CachedIndex",
    "SearchResult",
    "get_or_retrieve_batch",
    "BatchAnswer",
    "warm",
    "calibrate_tolerance",
    "Calibration",
    "tolerance_from_cosine",
    "GuaranteedTolerance",
    "GuaranteeReport",
    "evaluate",
    "Measured",
    "Report",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("langchain", "llamaindex"):  # each needs its own library
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
