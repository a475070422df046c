"""Mixing matrices: who listens to whom, and how much."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ._check import frozen, int32, integer

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["MixingMatrix"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MixingMatrix:
    """W of a gossip step x_i <- sum_j w_ij x_j, as CSR over closed neighbourhoods. Immutable.

    n: number of nodes.  indptr: int32 (n+1,).  indices: int32 (nnz,), ascending in each row, the diagonal always among
    them (it may be 0).  weights: float32 (nnz,), finite, of any sign. The arrays are kept as read-only copies.
    Raises TypeError (dtype), ValueError (shape, structure, NaN) naming the bad entry. That the rows sum to 1 is not
    asked here but by `check`. Other forms of W: `MixingMatrix.from_any`; from a graph: `Topology.mixing`.
    """

    n: int
    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    _memo: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        n = integer(self.n, "n", 0)
        _core.check_mixing(self.indptr, self.indices, self.weights, False, False)
        if len(self.indptr) != n + 1:
            raise ValueError(f"indptr: expected shape ({n + 1},), got {self.indptr.shape}")
        on_diagonal = self._rows() == self.indices
        if int(on_diagonal.sum()) != n:
            missing = np.setdiff1d(np.arange(n), self.indices[on_diagonal])[0]
            raise ValueError(f"indices: expected the diagonal in every row, got none in row {missing}")
        for name in ("indptr", "indices", "weights"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __repr__(self) -> str:
        return f"MixingMatrix(n={self.n}, nnz={len(self.indices)})"

    def _rows(self) -> npt.NDArray[np.int32]:
        """The row of every entry."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int32), np.diff(self.indptr))

    def toarray(self, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """The matrix as a dense (n, n) array, float64 unless told otherwise."""
        dense = np.zeros((self.n, self.n), dtype=dtype)
        dense[self._rows(), self.indices] = self.weights
        return dense

    def to_scipy(self) -> scipy.sparse.csr_matrix:
        """The matrix as scipy.sparse.csr_matrix, float32, on copies of the arrays. Needs SciPy."""
        try:
            import scipy.sparse
        except ImportError as error:
            raise ImportError("MixingMatrix.to_scipy needs SciPy: pip install scipy") from error
        arrays = self.weights.copy(), self.indices.copy(), self.indptr.copy()
        return scipy.sparse.csr_matrix(arrays, shape=(self.n, self.n))

    @property
    def T(self) -> MixingMatrix:
        """The transpose: what every node sends instead of what it hears."""
        order = np.argsort(self.indices, kind="stable")
        return _from_entries(self.n, self.indices[order], self._rows()[order], self.weights[order])

    @property
    def is_symmetric(self) -> bool:
        """|w_ij - w_ji| <= 1e-6 everywhere."""
        try:
            _core.check_mixing(self.indptr, self.indices, self.weights, False, True)
        except ValueError:
            return False
        return True

    def check(self, symmetric: bool = True) -> None:
        """ValueError unless every row sums to 1 within 1e-6 (it names the worst row and its sum) and, if asked, W is
        symmetric within 1e-6 (it names the worst pair of entries)."""
        _core.check_mixing(self.indptr, self.indices, self.weights, True, symmetric)

    @property
    def messages(self) -> int:
        """Directed edges that carry something: entries off the diagonal that are not 0."""
        return int(((self._rows() != self.indices) & (self.weights != 0)).sum())

    def mask_edges(self, alive: npt.ArrayLike) -> MixingMatrix:
        """The matrix of a round in which some edges are dead: their weight returns to both ends' diagonals.

        alive: bool (nnz,), in the order of `indices`; an edge is dead if either direction is. The pattern of W must be
        symmetric. Rows still sum to what they did, and a symmetric W stays so.
        """
        given: npt.NDArray[Any] = np.asarray(alive)
        if given.dtype != np.bool_:
            raise TypeError(f"alive: expected booleans, got dtype {given.dtype}")
        if given.shape != self.indices.shape:
            raise ValueError(f"alive: expected shape {self.indices.shape}, got {given.shape}")
        weights = _core.mask_edges(self.indptr, self.indices, self.weights, given.astype(np.uint8))
        return MixingMatrix(self.n, self.indptr, self.indices, weights)

    def mask_nodes(self, dead: npt.ArrayLike) -> MixingMatrix:
        """The matrix of a round without the nodes `dead` (integers): all their edges are dead, they keep their model."""
        gone = np.zeros(self.n, bool)
        gone[[integer(i, "dead", 0, self.n - 1) for i in np.atleast_1d(np.asarray(dead))]] = True
        rows = self._rows()
        return self.mask_edges((rows == self.indices) | ~(gone[rows] | gone[self.indices]))

    @property
    def lambda2(self) -> float:
        """Second largest modulus of the eigenvalues: each mixing step shrinks disagreement at least by this factor.

        Computed once (Lanczos in float64 on the float32 weights), then kept. 0 for n = 1, 1 for a disconnected graph.
        ValueError unless W passes `check(symmetric=True)`; RuntimeWarning where it could not be found to 1e-6.
        """
        if "lambda2" not in self._memo:
            value, residual, steps = _core.lambda2(self.indptr, self.indices, self.weights)
            if residual > 1e-6:
                warnings.warn(
                    f"lambda2 = {value:.6g} is only known to {residual:.1e} after {steps} steps",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._memo["lambda2"] = value
        return self._memo["lambda2"]

    @classmethod
    def from_any(cls, obj: Any) -> MixingMatrix:
        """A MixingMatrix from a MixingMatrix (itself), a dense (n, n) array or nested lists, a scipy.sparse matrix, or
        a tuple (indptr, indices, weights) of CSR arrays with ascending columns.

        Weights become float32; entries that are 0 are dropped from dense arrays; a missing diagonal is added as 0.
        TypeError for anything else and for complex or boolean weights; ValueError naming the entry for NaN and Inf, the
        shape where it is not square. Rows need not sum to 1: that is `check`.
        """
        if isinstance(obj, cls):
            return obj
        if hasattr(obj, "mixing"):
            raise TypeError(f"W: expected a mixing matrix, got {obj!r}: use its .mixing()")
        if isinstance(obj, tuple):
            if len(obj) != 3:
                raise ValueError(f"W: expected a tuple (indptr, indices, weights), got {len(obj)} elements")
            indptr, indices, weights = int32(obj[0], "indptr"), int32(obj[1], "indices"), _float32(obj[2])
            _core.check_mixing(indptr, indices, weights, False, False)
            n = len(indptr) - 1
            rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(indptr))
            return _from_entries(n, rows, indices, weights)
        if hasattr(obj, "tocsr"):
            _square(obj.shape)
            csr = obj.tocsr().copy()
            csr.sum_duplicates()
            csr.sort_indices()
            return cls.from_any((csr.indptr, csr.indices, csr.data))
        try:
            dense = np.asarray(obj)
        except ValueError as error:  # ragged lists
            raise ValueError(f"W: expected shape (n, n): {error}") from error
        if dense.dtype.kind == "O":
            raise TypeError(f"W: expected a matrix, got {type(obj).__name__}")
        _square(dense.shape)
        dense = _float32(dense)
        at, to = np.nonzero(dense)
        return _from_entries(len(dense), at.astype(np.int32), to.astype(np.int32), dense[at, to])


def _square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"W: expected shape (n, n), got {tuple(shape)}")


def _float32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"weights: expected real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused by name afterwards
        return np.ascontiguousarray(array, dtype=np.float32)


def _from_entries(
    n: int, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
) -> MixingMatrix:
    """From valid entries in row order, columns ascending in each row; missing diagonal entries become 0."""
    missing = np.setdiff1d(np.arange(n, dtype=np.int32), rows[rows == columns])
    if missing.size:
        rows, columns = np.concatenate([rows, missing]), np.concatenate([columns, missing])
        weights = np.concatenate([weights, np.zeros(len(missing), np.float32)])
        order = np.lexsort((columns, rows))
        rows, columns, weights = rows[order], columns[order], weights[order]
    indptr = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return MixingMatrix(n, indptr, np.ascontiguousarray(columns), np.ascontiguousarray(weights))
