"""Retrieval: an approximate cache in front of a vector database.

``ProximityCache`` remembers query embeddings with the documents the database gave, and answers queries that lie within
a tolerance of one of them. Source: "Leveraging Approximate Caching for Faster Retrieval-Augmented Generation"
(EuroMLSys 2025, arXiv 2503.05530).
"""

from __future__ import annotations

from .cache import Hit, ProximityCache

__all__ = ["Hit", "ProximityCache"]
