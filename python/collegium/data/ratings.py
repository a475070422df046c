"""Ratings: users, items, stars."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import choice, real
from .datasets import Dataset, shuffled
from .places import locate
from .store import Named, cached


class Ratings(Dataset):
    """A data set of ratings: x int64 (N, 2) rows (user, item), y float32 (N,), the users as groups.

    users, items: how many there are.  item_ids: (items,) the number each item has in the file.
    """

    def __init__(self, *args: Any, users: int, items: int, item_ids: NDArray[np.int64], **named: Any) -> None:
        super().__init__(*args, **named)
        self.users, self.items, self.item_ids = users, items, item_ids


def movielens(test: float = 0.2, split: str = "user", seed: int = 0) -> Ratings:
    """MovieLens ml-latest-small: 100,836 ratings (0.5 ... 5.0) of 9,724 films by 610 users, all renumbered from 0.

    test: share of the ratings held out for testing, 0 to below 1, drawn with `seed`.  split:
      "user": that share of each user's ratings (every user has at least 20).
      "random": of all ratings alike; a user may end up in one of the two sets only.
    A film may occur in the test set only. Films nobody rated have no number.
    Reads ``ratings/ml-latest-small/ratings.csv.gz`` or ``ratings.csv``. Raises MissingData.
    Source: F. M. Harper and J. A. Konstan, "The MovieLens datasets", ACM TiiS 2015. Research use only.
    """
    test = real(test, "test", 0.0)
    if test >= 1:
        raise ValueError(f"test: expected below 1, got {test}")
    choice(split, "split", ("user", "random"))
    base = "ratings/ml-latest-small/ratings.csv"
    path = locate("movielens", f"{base}.gz", base)
    a = cached("movielens", [path], lambda: _ratings(path))
    x, y, user = a["x"], a["y"], a["x"][:, 0]
    # Ranks in a random order, within the user or over all: the lowest make the test set.
    order = shuffled(len(y), seed)
    if split == "user":
        order = order[np.argsort(user[order], kind="stable")]
    owner = user[order] if split == "user" else np.zeros(len(y), np.int64)
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    rank = np.arange(len(y)) - np.repeat(first, sizes)
    out = np.zeros(len(y), bool)
    out[order] = rank < np.repeat(np.rint(test * sizes), sizes)
    held = (x[out], y[out]) if out.any() else (None, None)
    return Ratings(
        x[~out],
        y[~out],
        *held,
        groups=user[~out],
        groups_test=user[out] if out.any() else None,
        name="movielens",
        users=int(user.max()) + 1,
        items=len(a["item_ids"]),
        item_ids=a["item_ids"],
    )


def _ratings(path: Path) -> Named:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as f:
        rows = csv.reader(f)
        header = next(rows, [])
        if header[:3] != ["userId", "movieId", "rating"]:
            raise ValueError(f"{path}: expected columns userId,movieId,rating, got {','.join(header)}")
        table = np.array([row[:3] for row in rows], np.float64)
    _, user = np.unique(table[:, 0].astype(np.int64), return_inverse=True)
    item_ids, item = np.unique(table[:, 1].astype(np.int64), return_inverse=True)
    return {
        "x": np.stack([user, item], 1).astype(np.int64),
        "y": table[:, 2].astype(np.float32),
        "item_ids": item_ids.astype(np.int64),
    }
