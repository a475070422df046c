"""The one data set the package carries."""

from __future__ import annotations

from importlib import resources

import numpy as np

from .._check import integer
from .datasets import Dataset, shuffled


def digits(test: int = 360, seed: int = 0) -> Dataset:
    """1,797 handwritten digits, 8x8 grey values scaled to 0 ... 1: x (N, 64) float32, y (N,) in 0 ... 9.

    test: how many of them, drawn with `seed`, make the test set.
    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI machine learning repository,
    1998 (the test part, CC BY 4.0), as shipped with scikit-learn.
    """
    test = integer(test, "test", 1, 1796)
    with resources.files(__package__).joinpath("digits.npz").open("rb") as f, np.load(f) as z:
        x, y = z["x"].astype(np.float32) / 16, z["y"].astype(np.int64)
    order = shuffled(len(y), seed)
    out, kept = order[:test], order[test:]
    return Dataset(x[kept], y[kept], x[out], y[out])
