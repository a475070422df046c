"""Arrays of our own in a device's memory: what results and populations live in where no other library is asked."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import integer
from .._where import DLPACK_CUDA, library_of
from .door import DLPACK_CODES, LEGACY, View, current_stream, need, one_device, ordered, ordinal, view_any

_LINE = 128  # bytes that a device's memory delivers together


class Array:
    """An array in a device's memory. torch, CuPy and Numba take it without a copy, by DLPack or its
    `__cuda_array_interface__`: `torch.from_dlpack(a)`.

    Made by `empty`, `from_numpy` and the functions that return arrays. The memory is given back, in the order of the
    stream it was made on, when the array and all views of it are gone.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: Any,
        device: int,
        stream: int,
        owner: Any,
    ) -> None:
        self.address, self.shape, self.strides = address, shape, strides
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.number, self.stream, self._owner = device, stream, owner
        self._end = address + (shape[0] * strides[0] if shape else 1) * self.dtype.itemsize  # padding of rows included

    @property
    def device(self) -> str:
        """ "cuda:N"."""
        return f"cuda:{self.number}"

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, padding between rows left out."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": tuple(s * self.dtype.itemsize for s in self.strides),
            "stream": self.stream,
        }

    def _as_view(self) -> View:
        return View(self.address, self.shape, self.strides, self.dtype, self.number, False, self.stream, self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return DLPACK_CUDA[0], self.number

    def __dlpack__(
        self, *, stream: int | None = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """A capsule for `stream`, which waits on the device for ours (-1: it does not; None: the legacy one), without
        a version, whatever `max_version` allows.

        Raises BufferError where a copy or another device is asked for, and for a dtype that DLPack has not.
        """
        here = self.__dlpack_device__()
        if copy:
            raise BufferError("copy: expected None or False, got True: no copies are made on the way out")
        if dl_device is not None and tuple(map(int, dl_device)) != here:
            raise BufferError(f"dl_device: expected {here}, where the memory is, got {dl_device}")
        if self.dtype.kind not in DLPACK_CODES:
            raise BufferError(f"expected a dtype that DLPack has, got {self.dtype}")
        module = need()
        if stream != -1 and (stream or LEGACY) != self.stream:
            module.stream_wait(self.number, stream or LEGACY, self.stream)
        code, bits = DLPACK_CODES[self.dtype.kind], 8 * self.dtype.itemsize
        return module.dlpack_make(self.address, self.number, code, bits, self.shape, self.strides, self._owner)

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise TypeError(f"{self!r} lies on a device: numpy_sync() copies it to the host")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"cuda.Array(shape={self.shape}, dtype={self.dtype}, device={self.device!r})"

    def part(self, first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        """A view of the same memory, from element `first` of it on; strides in elements. Raises ValueError past its
        ends."""
        at = self.address + first * self.dtype.itemsize
        out = Array(at, shape, strides, self.dtype, self.number, self.stream, self._owner)
        if min((first, *shape, *strides)) < 0 or out._as_view().span[1] > self._end:
            room = (self._end - self.address) // self.dtype.itemsize
            raise ValueError(
                f"part: expected one within {room} elements, got shape {shape} with strides {strides} from {first} on"
            )
        out._end = self._end
        return out

    def numpy_sync(self) -> NDArray[Any]:
        """A copy on the host. Waits for the stream."""
        out = np.empty(self.shape, self.dtype)
        rows, width, pitch = self._rows()
        module, now = need(), current_stream(self)
        with ordered(module, self.number, now, self._as_view()):
            module.copy_out_sync(self.number, now, out.ctypes.data, width, self.address, pitch, width, rows)
        return out

    def fill_from(self, values: Any) -> None:
        """Copies an array of the host into it; the values have been read when this returns.

        Raises TypeError (dtype), ValueError (shape).
        """
        if not isinstance(values, np.ndarray) or values.dtype != self.dtype:
            raise TypeError(f"values: expected a NumPy array of {self.dtype}, got {_kind(values)}")
        if values.shape != self.shape:
            raise ValueError(f"values: expected shape {self.shape}, got {values.shape}")
        host = np.ascontiguousarray(values)
        rows, width, pitch = self._rows()
        module, now = need(), current_stream(self)
        with ordered(module, self.number, now, self._as_view()):
            module.copy_in(self.number, now, self.address, pitch, host.ctypes.data, width, width, rows)

    def _rows(self) -> tuple[int, int, int]:
        """Rows, bytes of a row and bytes from one to the next, where all but the first dimension are contiguous."""
        inner = math.prod(self.shape[1:])
        if self.ndim == 0 or 0 in self.shape:
            return 1, self.nbytes, self.nbytes
        expected = tuple(math.prod(self.shape[k + 1 :]) for k in range(1, self.ndim))
        if any(n > 1 and s != e for n, s, e in zip(self.shape[1:], self.strides[1:], expected)):
            raise ValueError(f"expected rows that are contiguous, got strides {self.strides}")
        item = self.dtype.itemsize
        return self.shape[0], inner * item, (self.strides[0] if self.shape[0] > 1 else inner) * item


def empty(shape: tuple[int, ...], dtype: Any = np.float32, *, device: int | str = 0, padded: bool = False) -> Array:
    """A new array on `device` (N, "cuda" or "cuda:N"), its values undefined. padded: rows start on 128-byte lines.

    Raises TypeError, ValueError naming the argument, MemoryError that names the bytes, RuntimeError where CUDA is off,
    CudaError.
    """
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape: expected a tuple of integers, got {shape!r}")
    shape, device = tuple(integer(n, "shape", 0) for n in shape), ordinal(device)
    kind = _plain(np.dtype(dtype), "dtype")
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    if padded and len(shape) == 2:
        whole = _LINE // kind.itemsize
        strides[0] = -(-shape[1] // whole) * whole
    return _new(shape, tuple(strides), kind, device, current_stream())


def from_numpy(values: NDArray[Any], *, device: int | str = 0, padded: bool = False) -> Array:
    """A copy of a NumPy array on `device`; the values have been read when this returns. Raises as `empty`."""
    if not isinstance(values, np.ndarray):
        raise TypeError(f"values: expected a NumPy array, got {type(values).__name__}")
    _plain(values.dtype, "values")
    out = empty(values.shape, values.dtype, device=device, padded=padded)
    out.fill_from(values)
    return out


def zeros_rows(rows: int, columns: int, device: int | str = 0) -> Array:
    """float32 zeros (rows, columns), rows on 128-byte lines, padding zero too. Raises as `empty`."""
    out = empty((rows, columns), device=device, padded=True)
    need().zero(out.number, out.stream, out.address, rows * out.strides[0] * 4)
    return out


def to_host_sync(x: Any, name: str = "x") -> NDArray[Any]:
    """A copy on the host of any array on a device. Waits for its stream.

    Raises TypeError, ValueError naming the argument (rows that are not contiguous), RuntimeError where CUDA is off.
    """
    stream = current_stream(x)
    v = view_any(x.detach() if hasattr(x, "detach") else x, name, stream=stream)
    module, device = need(), one_device(x=v)
    with ordered(module, device, stream, v):
        return Array(v.address, v.shape, v.strides, v.dtype, device, stream, v.owner).numpy_sync()


def like(x: Any, shape: tuple[int, ...], dtype: Any, device: int, stream: int) -> Any:
    """A new array of the library that `x` is of."""
    library = library_of(x)
    if library == "torch":
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, np.dtype(dtype).name), device=x.device)
    if library == "cupy":
        with x.device:  # which need not be the current one
            return sys.modules["cupy"].empty(shape, dtype)
    kind: np.dtype[Any] = np.dtype(dtype)
    strides = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
    return _new(shape, strides, kind, device, stream)


def _new(shape: tuple[int, ...], strides: tuple[int, ...], kind: np.dtype[Any], device: int, stream: int) -> Array:
    size = max((shape[0] * strides[0] if shape else 1) * kind.itemsize, 1)
    if size > sys.maxsize:
        raise MemoryError(f"no memory for {size} bytes on CUDA device {device}")
    address, owner = need().alloc(device, stream, size)
    return Array(address, shape, strides, kind, device, stream, owner)


def _plain(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """The dtype, if a device can hold its elements as they are."""
    if dtype.hasobject or not dtype.isnative:
        raise TypeError(f"{name}: expected a dtype of plain numbers in native byte order, got {dtype}")
    return dtype


def _kind(values: Any) -> str:
    return str(values.dtype) if isinstance(values, np.ndarray) else type(values).__name__
