"""Retrieval: an approximate cache in front of a vector database, and a learned router over several of them.

``ProximityCache`` remembers query embeddings with the documents the database gave, and answers queries that lie within
a tolerance of one of them. ``CachedIndex`` puts it before an index as the index itself; ``calibrate_tolerance`` and
``GuaranteedTolerance`` choose the tolerance. Source: "Leveraging Approximate Caching for Faster Retrieval-Augmented
Generation" (EuroMLSys 2025, arXiv 2503.05530).

``SourceRouter`` learns which of several sources are worth asking for a query; ``FederatedRetriever`` asks them, in this
process or behind HTTP (``serve_source``), merges what comes and survives the rest. Source: "Efficient Federated Search
for Retrieval-Augmented Generation using Lightweight Routing" (arXiv 2502.19280).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import baselines
from .batch import BatchAnswer, get_or_retrieve_batch, warm
from .cache import Entry, Hit, ProximityCache
from .calibrate import Calibration, calibrate_tolerance, tolerance_from_cosine
from .evaluation import RouterReport
from .fusion import fuse
from .guarantee import GuaranteedTolerance, GuaranteeReport
from .index import CachedIndex, SearchResult
from .labels import build_labels
from .local_source import FaissSource, VectorSource
from .measure import Measured, Report, evaluate
from .merge import Merged, deduplicate, merge_topk
from .router import SourceRouter
from .routing import Router
from .source import Searchable, Source
from .stats import source_stats
from .tuning import Tuning

if TYPE_CHECKING:
    from .breaker import Breaker
    from .federated import AllSourcesFailed, FederatedResult, FederatedRetriever
    from .http_source import HttpSource, SourceError
    from .server import SourceServer, serve_source

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
    "SourceRouter",
    "Router",
    "RouterReport",
    "Tuning",
    "baselines",
    "Source",
    "Searchable",
    "VectorSource",
    "FaissSource",
    "source_stats",
    "build_labels",
    "merge_topk",
    "Merged",
    "deduplicate",
    "fuse",
    "FederatedRetriever",
    "FederatedResult",
    "AllSourcesFailed",
    "HttpSource",
    "SourceError",
    "Breaker",
    "SourceServer",
    "serve_source",
]


# What needs a library that is not always there (aiohttp, starlette and uvicorn) is loaded when it is asked for.
_LATER = {
    "FederatedRetriever": "federated",
    "FederatedResult": "federated",
    "AllSourcesFailed": "federated",
    "HttpSource": "http_source",
    "SourceError": "http_source",
    "Breaker": "breaker",
    "SourceServer": "server",
    "serve_source": "server",
}


def __getattr__(name: str) -> Any:
    if name in ("langchain", "llamaindex"):  # each needs its own library
        return importlib.import_module(f".{name}", __name__)
    if name in _LATER:
        try:
            value = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
        except ImportError as e:
            raise ImportError(f"collegium.rag.{name} needs the extra: pip install 'collegium[rag]' ({e})") from e
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
