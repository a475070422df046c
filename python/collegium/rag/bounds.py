"""Exact-sample-size bounds on a mean loss in [0, 1]: Clopper-Pearson for yes-or-no losses, Hoeffding-Bentkus for all.

Sources: C. Clopper, E. Pearson, Biometrika 1934; S. Bates et al., "Distribution-free, risk-controlling prediction
sets", JACM 2021, theorem 2 (Hoeffding-Bentkus), after W. Hoeffding, JASA 1963, V. Bentkus, Annals of Probability 2004.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


@functools.lru_cache(maxsize=256)
def _log_choose(n: int) -> NDArray[np.float64]:
    """log of n over 0 ... n."""
    f = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return np.asarray(f[n] - f - f[::-1])


def binomial_cdf(x: int, n: int, p: float) -> float:
    """P(X <= x) for X binomial with n trials of probability p. O(n), relative error about 1e-12."""
    if x >= n or p <= 0:
        return 1.0
    if x < 0 or p >= 1:
        return 0.0
    i = np.arange(x + 1)
    return min(1.0, float(np.exp(_log_choose(n)[: x + 1] + i * math.log(p) + (n - i) * math.log1p(-p)).sum()))


def clopper_pearson_p(mean: float, n: int, limit: float) -> float:
    """p-value of "the probability is at least `limit`" when a share `mean` of n yes-or-no losses was yes."""
    return binomial_cdf(round(mean * n), n, limit)


def hoeffding_bentkus_p(mean: float, n: int, limit: float) -> float:
    """p-value of "the expected loss is at least `limit`" when n independent losses in [0, 1] averaged `mean`."""
    if mean >= limit:
        return 1.0
    # h1: relative entropy of coins with these probabilities
    h1 = (1 - mean) * math.log((1 - mean) / (1 - limit))
    if mean > 0:
        h1 += mean * math.log(mean / limit)
    # A sum a hair above a whole number, from rounding, is that number.
    bentkus = math.e * binomial_cdf(math.ceil(mean * n - 1e-9), n, limit)
    return min(1.0, math.exp(-n * h1), bentkus)


def _upper(p_value: Callable[[float, int, float], float], mean: float, n: int, delta: float) -> float:
    """The largest limit that is not rejected at level delta, by bisection, rounded up by at most 1e-9."""
    if n == 0:
        return 1.0
    low, high = mean, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if p_value(mean, n, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def clopper_pearson_upper(mean: float, n: int, delta: float) -> float:
    """The probability is below this with confidence 1 - delta; `mean`: share of yes among n. n = 0: 1."""
    return _upper(clopper_pearson_p, mean, n, delta)


def hoeffding_bentkus_upper(mean: float, n: int, delta: float) -> float:
    """The expected loss is below this with confidence 1 - delta; `mean` of n losses in [0, 1]. n = 0: 1."""
    return _upper(hoeffding_bentkus_p, mean, n, delta)
