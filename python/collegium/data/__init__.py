"""Data sets and partitioners."""

from __future__ import annotations

from .datasets import Dataset, Parts, as_parts
from .digits import digits
from .partition import partition

__all__ = ["Dataset", "Parts", "as_parts", "digits", "partition"]
