"""Per-entry curves: how likely an entry's list is right at a distance, and how often to check.

Many entries at once, since each has few observations. Source: L. Schroeder et al., "vCache", arXiv 2502.03771, from its
mathematics; here in distances, with a weak prior in place of its variance table.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]

# Confidence levels tried for the midpoint; each gives a valid probability to check, so the smallest may be taken.
_EPSILON = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
_QUANTILE = np.array([NormalDist().inv_cdf(1 - e) for e in _EPSILON])
# The prior at distances scaled to [0, 1]: intercept N(0, 6^2), slope N(-8, 3^2), a curve that falls. It keeps a curve
# finite whose observations are all right or all wrong, as those of most entries are, and gives way to some twenty.
_MEAN = np.array([0.0, -8.0])
_PRECISION = 1 / np.array([6.0, 3.0]) ** 2


class Curves(NamedTuple):
    """P(right at distance d) = sigmoid(slope * (midpoint - d)) of each entry; deviation: of the midpoint. (E,) each."""

    midpoint: Real
    slope: Real
    deviation: Real


def fit(distance: Real, right: Real, weight: Real, steps: int = 25) -> Curves:
    """Fits the curves of E entries at once by Newton's method.

    distance, right (0 or 1), weight (1 observed, 0 padding): float64 (E, n). An entry whose curve does not fall with
    distance says nothing: its midpoint is NaN. O(E n steps).
    """
    scale = np.maximum(np.max(distance * weight, axis=1), 1e-12)
    x = distance / scale[:, None]
    b = np.tile(_MEAN, (len(x), 1))  # logit = b0 + b1 x
    h00 = h01 = h11 = np.ones(len(x))
    for _ in range(steps):
        p = _sigmoid(b[:, :1] + b[:, 1:] * x)
        g0 = ((right - p) * weight).sum(1) - _PRECISION[0] * (b[:, 0] - _MEAN[0])
        g1 = ((right - p) * weight * x).sum(1) - _PRECISION[1] * (b[:, 1] - _MEAN[1])
        v = p * (1 - p) * weight
        h00, h01, h11 = v.sum(1) + _PRECISION[0], (v * x).sum(1), (v * x * x).sum(1) + _PRECISION[1]
        det = h00 * h11 - h01 * h01
        step = np.stack([(h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det], axis=1)
        # A full step from far away overshoots where the curve is flat.
        b += step / np.maximum(1.0, np.abs(step).max(1, keepdims=True) / 4)
    det = h00 * h11 - h01 * h01
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(b[:, 1] < 0, -b[:, 0] / b[:, 1], np.nan)
        # Delta method: t = -b0 / b1 has gradient (-1/b1, b0/b1^2).
        d0, d1 = -1 / b[:, 1], b[:, 0] / b[:, 1] ** 2
        variance = (h11 * d0 * d0 - 2 * h01 * d0 * d1 + h00 * d1 * d1) / det
    return Curves(t * scale, -b[:, 1] / scale, np.sqrt(variance) * scale)


def explore_probability(curves: Curves, distance: Real, limit: float) -> Real:
    """float64 (E,): with which probability to ask the database, so that at most `limit` of all answers are wrong.

    An answer is wrong if it is served (probability 1 - e) and the list is not right (at most 1 - a), so 1 - limit /
    (1 - a) is enough, with a = (1 - eps) sigmoid(slope (lower eps-quantile of the midpoint - d)): least over eps.
    1 where the curve says nothing.
    """
    midpoint = curves.midpoint[:, None] - curves.deviation[:, None] * _QUANTILE
    a = (1 - _EPSILON) * _sigmoid(curves.slope[:, None] * (midpoint - distance[:, None]))
    e = 1 - limit / np.maximum(1 - a, 1e-300)
    out: Real = np.clip(np.where(np.isnan(e), 1.0, e).min(axis=1), 0.0, 1.0)
    return out


def _sigmoid(z: Real) -> Real:
    out: Real = 0.5 * (1 + np.tanh(0.5 * z))  # no overflow at either end
    return out
