"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import images, ratings, retrieval, texts
from .catalogue import CATALOGUE
from .digits import digits
from .traces import traces

_LOADERS: dict[str, Callable[..., Any]] = {
    "digits": digits,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "mnist_writers": images.mnist_writers,
    "femnist": images.femnist,
    "movielens": ratings.movielens,
    "ag_news": texts.ag_news,
    "sent140": texts.sent140,
    "mirage": retrieval.mirage,
    "mmlu": retrieval.mmlu,
    "feb4rag": retrieval.feb4rag,
    "ragroute": retrieval.ragroute,
}
_FAMILIES: dict[str, Callable[[str], Any]] = {
    "text": retrieval.text,
    "pairs": retrieval.pairs,
    "embeddings": retrieval.embeddings,
    "traces": traces,
}


def load(name: str, **options: Any) -> Any:
    """The data set `name`, one of ``names()``: load("cifar10") is cifar10(), load("text/scifact") is text("scifact").

    options: passed on to the loader. Raises ValueError for an unknown name, MissingData for a set that is not here.
    """
    family, _, member = str(name).partition("/")
    if name in _LOADERS:
        return _LOADERS[name](**options)
    if name not in CATALOGUE:
        raise ValueError(f"name: expected one of {', '.join(names())}, got {name!r}")
    return _FAMILIES[family](member, **options)


def names() -> list[str]:
    """Every data set that `load` knows."""
    return ["digits", *CATALOGUE]


def available() -> list[str]:
    """The data sets that are on this machine."""
    return ["digits", *(name for name, entry in CATALOGUE.items() if entry.present())]
