"""The door: what is there, and arrays of others checked on their way in.

Every check comes before the first call to CUDA, so that a wrong array is told of in the same words on every machine.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .._check import integer
from .._where import DLPACK_CUDA, library_of

LEGACY = 1  # the legacy default stream, as DLPack and the CUDA runtime name it
_CODES = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}  # DLPack's type codes that NumPy has
DLPACK_CODES = {kind: code for code, kind in _CODES.items()}
_HOSTS = (1, 3)  # kDLCPU, kDLCUDAHost
_stream: ContextVar[int | None] = ContextVar("collegium_cuda_stream", default=None)


@functools.cache
def status() -> tuple[ModuleType | None, str]:
    """(the loaded back end, "") or (None, the reason in words). Never raises."""
    try:
        from .. import _cuda
    except ImportError as e:  # not built, or a shared library is missing: e says which
        return None, f"CUDA back end not available: {e}"
    count, code, text = _cuda.device_count()
    return (_cuda, "") if count else (None, f"no usable CUDA device: {text or 'none found'} (CUDA error {code})")


def need() -> Any:
    """The back end, `collegium._cuda`. Raises RuntimeError with the reason of `status` where there is none."""
    module, reason = status()
    if module is None:
        raise RuntimeError(reason)
    return module


def device_number(device: Any, name: str = "device") -> int | None:
    """ "cuda" -> 0, "cuda:1" -> 1, "cpu" -> None; "auto" -> 0 where a device can be used, else None.

    Raises ValueError for anything else and for a device there is not, RuntimeError (the reason) where CUDA is off.
    """
    text = str(device)
    kind, _, number = text.partition(":")
    if kind not in ("cpu", "cuda", "auto") or (number and kind != "cuda") or (":" in text and not number.isdecimal()):
        raise ValueError(f"{name}: expected 'cpu', 'cuda', 'cuda:N' or 'auto', got {device!r}")
    if kind == "cpu" or (kind == "auto" and status()[0] is None):
        return None
    count = need().device_count()[0]
    if int(number or 0) >= count:
        raise ValueError(f"{name}: expected 'cuda:0' to 'cuda:{count - 1}', got {device!r}")
    return int(number or 0)


def ordinal(device: int | str) -> int:
    """A device's number: itself, or that of "cuda", "cuda:N" and "auto". Raises as `device_number`; "cpu" is none."""
    if isinstance(device, int) and not isinstance(device, bool):
        return device
    number = device_number(device)
    if number is None:
        need()  # "auto" where CUDA is off: says why
        raise ValueError(f"device: expected a CUDA device, got {device!r}")
    return number


@contextlib.contextmanager
def stream(handle: int) -> Iterator[None]:
    """Within it, work goes on this stream (a cudaStream_t as an integer; 0 and 1: the legacy default stream)."""
    token = _stream.set(integer(handle, "handle", 0) or LEGACY)
    try:
        yield
    finally:
        _stream.reset(token)


def current_stream(*arrays: Any) -> int:
    """The stream that work on these arrays goes on: the one of `stream`, else the current one of the library that the
    first torch or CuPy array is of, else the one that an array names itself, else the legacy default stream."""
    chosen = _stream.get()
    if chosen is not None:
        return chosen
    for x in arrays:
        library = library_of(x)
        if library == "torch" and x.device.type == "cuda":  # one on the CPU is refused later, in our words
            return int(sys.modules["torch"].cuda.current_stream(x.device).cuda_stream) or LEGACY
        if library == "cupy":
            with x.device:  # which need not be the current one
                return int(sys.modules["cupy"].cuda.get_current_stream().ptr) or LEGACY
    for x in arrays:
        named = getattr(x, "__cuda_array_interface__", {}).get("stream")
        if isinstance(named, int) and named > 0:
            return named
    return LEGACY


class View(NamedTuple):
    """An array in a device's memory, as its owner describes it. The memory lives as long as `owner`."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    dtype: np.dtype[Any]
    device: int | None  # None: not said
    readonly: bool
    wait_for: int | None  # the stream on which the values come to be, where it is not ours already
    owner: Any

    @property
    def span(self) -> tuple[int, int]:
        """The bytes it covers: first address, and the one past the last."""
        if 0 in self.shape:
            return self.address, self.address
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        return self.address, self.address + (last + 1) * self.dtype.itemsize


def view(x: Any, name: str, dtype: Any, ndim: int, *, stream: int = LEGACY, write: bool = False) -> View:
    """An array of another library, checked: in a device's memory, of `dtype`, of `ndim` dimensions, aligned, the last
    one contiguous and rows that do not overlap.

    stream: the one that will work on it; values still being written on another are waited for by `ordered`.
    Raises TypeError (no device array, dtype), ValueError (shape, strides, stream, read-only), naming the argument.
    Sources: DLPack's Python specification; the CUDA array interface, versions 2 and 3.
    """
    v = _open(x, name, stream)
    return _checked(v, name, np.dtype(dtype), ndim, write)


def view_any(x: Any, name: str, *, stream: int = LEGACY) -> View:
    """As `view`, of whatever dtype and number of dimensions the array has."""
    v = _open(x, name, stream)
    return _checked(v, name, v.dtype, len(v.shape), False)


@contextlib.contextmanager
def ordered(module: Any, device: int, stream: int, *views: View) -> Iterator[None]:
    """Around work on `stream` with these arrays. Before it, the stream waits on the device for values that come to be
    on other streams. After it, those streams wait for the work: in their order the memory is given back, and whoever
    looks for values that were written here waits for them."""
    others = {v.wait_for for v in views if v.wait_for is not None and v.wait_for != stream}
    for other in others:
        module.stream_wait(device, stream, other)
    try:
        yield
    finally:  # a part of the work may have been put on the stream
        for other in others:
            module.stream_wait(device, other, stream)


def device_of(x: Any) -> int:
    """The number of the device an array says it is on, 0 where it does not say."""
    return int(x.__dlpack_device__()[1]) if hasattr(x, "__dlpack_device__") else _number(x) or 0


def one_device(**views: View) -> int:
    """The device they are all on. Raises ValueError if they are not on one."""
    known = {name: v.device for name, v in views.items() if v.device is not None}
    if len(set(known.values())) > 1:
        (first, a), (other, b) = next((p, q) for p in known.items() for q in known.items() if p[1] != q[1])
        raise ValueError(f"{other}: expected an array on cuda:{a}, where {first} is, got one on cuda:{b}")
    return next(iter(known.values()), 0)


def _open(x: Any, name: str, stream: int) -> View:
    own = getattr(type(x), "_as_view", None)  # an array of ours, without the way through dictionaries
    if own is not None:
        return own(x)  # type: ignore[no-any-return]
    # torch's interface does not name its stream, and is refused to tensors that want gradients: DLPack comes first.
    speaks = hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")
    if speaks and (library_of(x) == "torch" or not hasattr(x, "__cuda_array_interface__")):
        return _from_dlpack(x, name, stream)
    if hasattr(x, "__cuda_array_interface__"):
        return _from_interface(x, name)
    raise TypeError(f"{name}: expected an array on a CUDA device, got {type(x).__name__}")


def _from_dlpack(x: Any, name: str, stream: int) -> View:
    kind, number = (int(v) for v in x.__dlpack_device__())
    if kind not in DLPACK_CUDA:
        where = "the CPU" if kind in _HOSTS else f"a device of DLPack type {kind}"
        raise TypeError(f"{name}: expected an array on a CUDA device, got one on {where}")
    from .. import _cuda  # opening a capsule needs no device

    try:
        capsule = x.__dlpack__(stream=stream)  # from here on its owner makes our stream wait for the values
        opened = _cuda.dlpack_open(capsule)
    except (BufferError, TypeError, ValueError) as e:
        raise type(e)(f"{name}: {e}") from e
    address, kind, device, code, bits, lanes, shape, strides, readonly, owner = opened
    if kind not in DLPACK_CUDA or device != number:
        raise ValueError(f"{name}: expected a capsule of the device it names, {number}, got type {kind}, {device}")
    if code not in _CODES or bits % 8 or lanes != 1:
        raise TypeError(f"{name}: expected a plain dtype, got DLPack type {code} of {bits} bits, {lanes} lane(s)")
    dtype = np.dtype(f"{_CODES[code]}{bits // 8}")
    return View(address, shape, strides or _contiguous(shape), dtype, device, readonly, None, owner)


def _from_interface(x: Any, name: str) -> View:
    said = x.__cuda_array_interface__
    try:
        version, shape = int(said["version"]), tuple(int(n) for n in said["shape"])
        address, readonly = int(said["data"][0]), bool(said["data"][1])
        dtype = np.dtype(said["typestr"])
        strides = said.get("strides")
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise ValueError(f"{name}: its __cuda_array_interface__ is not one: {e!r}") from e
    if version < 2:
        raise ValueError(f"{name}: expected version 2 or later of the CUDA array interface, got {version}")
    if said.get("mask") is not None:
        raise ValueError(f"{name}: expected an array without a mask")
    wait_for = said.get("stream")
    if wait_for is not None and (isinstance(wait_for, bool) or not isinstance(wait_for, int) or wait_for <= 0):
        raise ValueError(f"{name}: expected a stream of 1 or more in its interface, or None, got {wait_for!r}")
    if strides is None:
        strides = _contiguous(shape)
    elif any(s % dtype.itemsize for s in strides):
        raise ValueError(f"{name}: expected strides of whole elements of {dtype.itemsize} bytes, got {tuple(strides)}")
    else:
        strides = tuple(int(s) // dtype.itemsize for s in strides)
    return View(address, shape, strides, dtype, _number(x), readonly, wait_for, x)


def _number(x: Any) -> int | None:
    """The interface does not say on which device its memory is; libraries do: ours, torch, CuPy."""
    device = getattr(x, "device", None)
    told = (getattr(x, "number", None), getattr(device, "index", None), getattr(device, "id", None))
    return next((n for n in told if isinstance(n, int)), None)


def _checked(v: View, name: str, dtype: np.dtype[Any], ndim: int, write: bool) -> View:
    if v.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {v.dtype}")
    if len(v.shape) != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got {len(v.shape)}")
    if len(v.strides) != ndim or any(n < 0 for n in v.shape):
        raise ValueError(f"{name}: shape {v.shape} and strides {v.strides} do not describe an array")
    if write and v.readonly:
        raise ValueError(f"{name}: is read-only")
    if math.prod(v.shape) == 0:
        return v._replace(strides=_contiguous(v.shape))  # strides of empty arrays mean nothing
    if v.address == 0 or v.address % dtype.itemsize:
        raise ValueError(f"{name}: expected the address of aligned {dtype}, got {v.address:#x}")
    least = 1
    for axis in reversed(range(ndim)):
        n, stride = v.shape[axis], v.strides[axis]
        if n > 1 and (stride < least or (axis == ndim - 1 and stride != 1)):
            raise ValueError(f"{name}: rows must be contiguous and must not overlap, got strides {v.strides}")
        least = stride * n if n > 1 else least
    # A dimension of one element may name any stride: give it one that later arithmetic can use.
    strides = list(v.strides)
    for axis in reversed(range(ndim)):
        if v.shape[axis] == 1:
            strides[axis] = 1 if axis == ndim - 1 else strides[axis + 1] * v.shape[axis + 1]
    return v._replace(strides=tuple(strides))


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
