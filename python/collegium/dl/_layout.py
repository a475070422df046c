"""Where to draw the nodes of a graph. The same graph always gets the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .graph import Topology

_RELAX_NODES = 400  # the relaxation costs 60 n^2 steps: 0.4 s here
_RELAX_STEPS = 60


def positions(graph: Topology) -> NDArray[np.float64]:
    """(n, 2) in [-1, 1]: a circle for ring-like graphs, else springs."""
    n = graph.n
    angle = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return circle if _ring_like(graph) else _fitted(_springs(graph, circle))


def _ring_like(graph: Topology) -> bool:
    """The ring 0, 1, ..., n - 1, 0 is part of the graph, or most edges are those of a ring lattice of its degree."""
    n = graph.n
    length = np.abs(np.diff(graph.edges, axis=1))
    length = np.minimum(length, n - length)
    lattice = int((length <= max(1.0, len(graph.edges) / n)).sum())
    return n <= 3 or int((length == 1).sum()) == n or 2 * lattice > len(graph.edges)


def _springs(graph: Topology, circle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges pull, all nodes push each other away (Fruchterman and Reingold, 1991), from a spectral start: the
    eigenvectors of the two smallest non-zero eigenvalues of the Laplacian. Large graphs stay where they start."""
    n = graph.n
    adjacency = np.zeros((n, n))
    adjacency[graph.edges[:, 0], graph.edges[:, 1]] = 1.0
    adjacency += adjacency.T
    _, vectors = np.linalg.eigh(np.diag(adjacency.sum(axis=1)) - adjacency)
    at = _fitted(vectors[:, 1:3] * np.sign(vectors[0, 1:3] + 1e-300))
    if n > _RELAX_NODES:
        return at
    at = at + 0.1 * circle  # nodes that look alike to the spectrum would sit on each other
    rest = 1.0 / np.sqrt(n)
    for step in range(_RELAX_STEPS):
        apart = at[:, None] - at[None]
        distance = np.maximum(np.sqrt((apart**2).sum(axis=2)), 1e-3)
        force = rest**2 / distance**2 - adjacency * distance / rest
        move = (apart * force[:, :, None]).sum(axis=1) - at * rest  # the middle pulls too, or components fly apart
        length = np.maximum(np.sqrt((move**2).sum(axis=1, keepdims=True)), 1e-12)
        at = at + move / length * np.minimum(length, 0.2 * (1.0 - step / _RELAX_STEPS))
    return at


def _fitted(at: NDArray[np.float64]) -> NDArray[np.float64]:
    at = at - at.mean(axis=0)
    return at / max(float(np.abs(at).max()), 1e-12)
