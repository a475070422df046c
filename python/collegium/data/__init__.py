"""Data sets and partitioners.

One call a data set: ``cifar10()``, ``movielens()``, ...; ``load(name)`` by name, ``names()`` all, ``available()`` those
here. Sets are looked for in ``$COLLEGIUM_DATA``, then ``~/.cache/collegium``; decoded arrays are kept in
``$COLLEGIUM_CACHE``, else ``~/.cache/collegium/decoded``. ``collegium data list | fetch | verify`` on the command line.
"""

from __future__ import annotations

from . import workloads
from .arrays import Arrays
from .datasets import Dataset, Parts, as_parts
from .digits import digits
from .docstrings import docstrings
from .holdout import holdout
from .images import cifar10, cifar100, femnist, mnist_writers
from .loading import available, load, names
from .partition import partition
from .places import MissingData, find
from .ratings import Ratings, movielens
from .retrieval import (
    SOURCES,
    Corpus,
    Intents,
    Pairs,
    embeddings,
    feb4rag,
    mirage,
    mmlu,
    pairs,
    ragroute,
    text,
)
from .texts import TextDataset, ag_news, sent140
from .traces import traces

__all__ = [
    "Dataset",
    "Parts",
    "as_parts",
    "partition",
    "holdout",
    "workloads",
    "load",
    "names",
    "available",
    "find",
    "MissingData",
    "digits",
    "docstrings",
    "cifar10",
    "cifar100",
    "mnist_writers",
    "femnist",
    "movielens",
    "Ratings",
    "ag_news",
    "sent140",
    "TextDataset",
    "SOURCES",
    "text",
    "Corpus",
    "embeddings",
    "pairs",
    "Pairs",
    "Intents",
    "mirage",
    "mmlu",
    "feb4rag",
    "ragroute",
    "traces",
    "Arrays",
]
