"""A fleet of models is one matrix."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import integer
from .._files import load_tensors, save_tensors

Shapes = Mapping[str, tuple[int, ...]]


class Population:
    """The models of n nodes: float32 X of shape (n, P), row i = node i's parameters, flat, in the order of `shapes`.

    Rows start on 64-byte lines and are an odd number of lines apart, so that the columns of neighbouring rows do not
    compete for the same cache sets. Views handed out (`X`, `row`, `parameter`) share the memory: writing to them
    changes the models in place.

    n: number of nodes, at least 1.  shapes: name -> shape of each parameter tensor, as of one model's state_dict.
    device: "cpu"; "cuda" or "cuda:N": the matrix lies in that device's memory, views are `cuda.Array`s, and `numpy`,
      `digest` and `save` copy to the host; "auto": a device where one can be used, else the CPU.
    Raises TypeError or ValueError naming the bad argument, MemoryError, RuntimeError (the reason) for "cuda" where CUDA
    is off.

    >>> population = Population(4, {"weight": (10, 64), "bias": (10,)})
    >>> population.X.shape
    (4, 650)
    """

    def __init__(self, n: int, shapes: Shapes | Iterable[tuple[str, tuple[int, ...]]], *, device: str = "cpu") -> None:
        self.n = integer(n, "n", 1)
        pairs = shapes.items() if isinstance(shapes, Mapping) else shapes
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in pairs:
            if not isinstance(name, str):
                raise TypeError(f"shapes: expected names of parameters, got {name!r}")
            if name in self.shapes:
                raise ValueError(f"shapes: {name!r} is there twice")
            self.shapes[name] = tuple(integer(s, f"shapes[{name!r}]", 0) for s in shape)
        self._start: dict[str, int] = {}
        size = 0
        for name, shape in self.shapes.items():
            self._start[name] = size
            size += math.prod(shape)
        if size == 0:
            raise ValueError("shapes: expected at least one parameter, got none")
        self.size = size
        self._X: Any = _core.zeros_rows(self.n, size) if device == "cpu" else self._on(device)

    def _on(self, device: str) -> Any:
        from .. import cuda

        number = cuda.device_number(device)
        return _core.zeros_rows(self.n, self.size) if number is None else cuda.zeros_rows(self.n, self.size, number)

    @property
    def device(self) -> str:
        """Where the matrix lies: "cpu" or "cuda:N"."""
        return "cpu" if isinstance(self._X, np.ndarray) else str(self._X.device)

    @property
    def X(self) -> Any:
        """(n, P) float32 view of all models: a NumPy array, or a `cuda.Array` on a device."""
        return self._X

    def numpy(self) -> NDArray[np.float32]:
        """The same as `X` on the CPU; of a population on a device a copy, which waits for it."""
        return self._X if isinstance(self._X, np.ndarray) else self._X.numpy_sync()

    def find_nonfinite(self, rows: NDArray[np.int64] | None = None) -> tuple[int, int] | None:
        """(node, column) of the first NaN or infinity among these rows (None: all), or None. Waits for a device."""
        if isinstance(self._X, np.ndarray):
            return _core.find_nonfinite(self._X, rows)
        from .. import cuda

        return cuda.find_nonfinite_sync(self._X, rows)

    @property
    def leading_dimension(self) -> int:
        """Floats from one row to the next."""
        return self._X.strides[0] // 4 if isinstance(self._X, np.ndarray) else int(self._X.strides[0])

    @property
    def memory(self) -> Any:
        """(n, leading_dimension) view of the same memory, padding included: contiguous, as files want it."""
        shape = (self.n, self.leading_dimension)
        if not isinstance(self._X, np.ndarray):
            return self._X.part(0, shape, (shape[1], 1))
        return np.lib.stride_tricks.as_strided(self._X, shape, self._X.strides)

    @property
    def nbytes(self) -> int:
        """Bytes the matrix takes, padding included."""
        return self.n * self.leading_dimension * 4

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"Population(n={self.n}, parameters={self.size}, tensors={len(self.shapes)})"

    def parameter(self, name: str) -> Any:
        """View of one parameter of every node: (n, *shape)."""
        shape, start = self._find(name)
        inner = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        if not isinstance(self._X, np.ndarray):
            return self._X.part(start, (self.n, *shape), (self.leading_dimension, *inner))
        strides = [self._X.strides[0], *(4 * s for s in inner)]
        columns = self._X[:, start : start + math.prod(shape)]
        return np.lib.stride_tricks.as_strided(columns, (self.n, *shape), strides)

    def row(self, i: int) -> dict[str, Any]:
        """Views of node i's parameters, by name."""
        i = integer(i, "i", 0, self.n - 1)
        return {name: self._slice(i, name) for name in self.shapes}

    def memory_to_host(self) -> NDArray[np.float32]:
        """`memory` as a NumPy array: itself on the CPU, a copy of a device's."""
        memory = self.memory
        return memory if isinstance(memory, np.ndarray) else memory.numpy_sync()

    def fill_memory(self, values: NDArray[np.float32]) -> None:
        """Takes over all models, as `memory_to_host` gave them on any device. Raises ValueError (shape)."""
        if values.shape[0] != self.n or values.shape[1] < self.size:
            raise ValueError(f"values: expected shape ({self.n}, {self.size} or more), got {values.shape}")
        own = values[:, : self.size]  # padding is each device's own
        if isinstance(self._X, np.ndarray):
            self._X[...] = own
        else:
            self._X.fill_from(own)

    def load_row(self, i: int, state: Mapping[str, Any]) -> None:
        """Copies a state_dict (arrays or CPU tensors, by name) into node i. Nothing changes if anything is wrong."""
        i = integer(i, "i", 0, self.n - 1)
        missing, unknown = self.shapes.keys() - state.keys(), state.keys() - self.shapes.keys()
        if missing or unknown:
            raise ValueError(f"state: missing {sorted(missing)}, not known here {sorted(unknown)}")
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            arrays = {name: np.asarray(state[name], dtype=np.float32) for name in self.shapes}
        for name, a in arrays.items():
            if a.shape != self.shapes[name]:
                raise ValueError(f"state[{name!r}]: expected shape {self.shapes[name]}, got {a.shape}")
            if not np.isfinite(a).all():
                raise ValueError(
                    f"state[{name!r}]: expected finite numbers of float32's range, got {a[~np.isfinite(a)][0]}"
                )
        for name, a in arrays.items():
            if isinstance(self._X, np.ndarray):
                self._slice(i, name)[...] = a
            else:
                self._slice(i, name).fill_from(a)

    def describe(self, column: int) -> str:
        """Name of the parameter that flat column belongs to."""
        return max((n for n in self.shapes if self._start[n] <= column), key=lambda n: self._start[n])

    def consensus(self) -> tuple[NDArray[np.float32], float]:
        """The mean model (P,) and the consensus distance sqrt(1/n sum_i ||x_i - mean||^2), summed in float64.

        Source: Kong et al., "Consensus control for decentralized deep learning", ICML 2021, eq. (5).
        """
        if isinstance(self._X, np.ndarray):
            mean, squares = _core.consensus(self._X, None)
        else:
            from .. import cuda

            mean, squares = cuda.consensus_sync(self._X)
        return mean.astype(np.float32), math.sqrt(squares / self.n)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a safetensors file: one tensor (n, *shape) a parameter, their order and a SHA-256 in the metadata.

        The file appears whole or not at all (temporary file, fsync, rename).
        """
        host = self._to_host()
        tensors = {name: np.ascontiguousarray(host.parameter(name)) for name in self.shapes}
        save_tensors(path, "population", tensors, {"names": list(self.shapes)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Population:
        """Reads a file of `save`. Raises ValueError for any other file, a damaged one, or a wrong checksum."""
        tensors, meta = load_tensors(path, "population")
        try:
            tensors = {name: tensors[name] for name in meta["names"]}
        except (KeyError, TypeError) as e:
            raise ValueError(f"{path}: not a population file, or a damaged one ({e})") from e
        counts = {t.shape[0] if t.ndim else 0 for t in tensors.values()}
        if len(counts) != 1 or any(t.dtype != np.float32 for t in tensors.values()):
            raise ValueError(f"{path}: expected float32 tensors of one number of nodes")
        population = cls(counts.pop(), {name: t.shape[1:] for name, t in tensors.items()})
        for name, t in tensors.items():
            population.parameter(name)[...] = t
        return population

    def digest(self) -> str:
        """SHA-256 over shapes and values, padding left out."""
        h = hashlib.sha256(json.dumps([self.n, list(self.shapes.items())]).encode())
        host = self.numpy()
        for i in range(self.n):
            h.update(np.ascontiguousarray(host[i]).data)
        return h.hexdigest()

    def _to_host(self) -> Population:
        """This population, or on a device a copy of it on the CPU."""
        if isinstance(self._X, np.ndarray):
            return self
        copy = Population(self.n, self.shapes)
        copy._X[...] = self.numpy()
        return copy

    def _find(self, name: str) -> tuple[tuple[int, ...], int]:
        if name not in self.shapes:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self.shapes)}")
        return self.shapes[name], self._start[name]

    def _slice(self, i: int, name: str) -> Any:
        shape, start = self._find(name)
        if not isinstance(self._X, np.ndarray):
            inner = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
            return self._X.part(i * self.leading_dimension + start, shape, inner)
        return self._X[i, start : start + math.prod(shape)].reshape(shape)
