"""A collegium._cuda whose device is the CPU (tests/c/cuda_host.c), and arrays that say they lie on it.

The bindings are those of cuda/, the kernels' bodies too; only launches and memory are the host's. With it the whole way
from a public function to the last index is tested where there is no GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def build(place: Path) -> ModuleType:
    """Compiles the bindings against the host's device and loads them as collegium._cuda (not into sys.modules)."""
    files = [*sorted(ROOT.glob("cuda/*.c")), ROOT / "tests/c/cuda_host.c", ROOT / "csrc/base/err.c"]
    include = sysconfig.get_path("include")
    flags = "-std=c11 -O2 -g -fPIC -shared -pthread -ffp-contract=off -fno-math-errno".split()
    limited = [] if sysconfig.get_config_var("Py_GIL_DISABLED") else ["-DPy_LIMITED_API=0x030A0000"]
    made = place / "_cuda.so"
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        *flags,
        *limited,
        "-isystem",
        include,
        *map(str, files),
        "-lm",
        "-o",
        made,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loader = ExtensionFileLoader("collegium._cuda", str(made))
    spec = importlib.util.spec_from_file_location("collegium._cuda", made, loader=loader)
    assert spec
    before = sys.modules.pop("collegium._cuda", None)
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    finally:
        if before is not None:
            sys.modules["collegium._cuda"] = before
    return module


class InterfaceArray:
    """An array with a CUDA array interface; its memory is a NumPy array's. Change `said` to make it lie."""

    def __init__(self, values: np.ndarray, *, stream: int | None = None, **said: Any) -> None:
        self.values = values
        self.said = {
            "version": 3,
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (values.ctypes.data, not values.flags.writeable),
            "strides": values.strides,
            "stream": stream,
            **said,
        }

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.said

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


DELETER = _Managed.deleter.offset  # bytes from a tensor's address to that of its deleter
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


class DlpackArray:
    """An array that hands out DLPack capsules of type CUDA; its memory is a NumPy array's.

    deleted counts the capsules given back, streams lists those it was asked for.
    """

    def __init__(
        self,
        values: np.ndarray,
        *,
        versioned: bool = False,
        name: bytes | None = None,
        device: tuple[int, int] = (2, 0),
        version: tuple[int, int] = (1, 0),
        flags: int = 0,
        offset: int = 0,
        contiguous: bool = False,
        **tensor: Any,
    ) -> None:
        self.values, self.device, self.deleted, self.streams = values, device, 0, list[int]()
        self.name = name or (b"dltensor_versioned" if versioned else b"dltensor")
        ndim = values.ndim
        self._shape = (ctypes.c_int64 * max(ndim, 1))(*values.shape)
        self._strides = (ctypes.c_int64 * max(ndim, 1))(*(s // values.itemsize for s in values.strides))
        t = _Tensor(
            values.ctypes.data - offset, *device, ndim, _CODES[values.dtype.kind], 8 * values.itemsize, 1,
            self._shape, None if contiguous else self._strides, offset,
        )  # fmt: skip
        for field, value in tensor.items():
            setattr(t, field, value)
        self._deleter = _DELETER(self._given_back)
        pointer = ctypes.cast(self._deleter, ctypes.c_void_p)
        self._managed = _Versioned(*version, None, pointer, flags, t) if versioned else _Managed(t, None, pointer)

    def _given_back(self, _: int) -> None:
        self.deleted += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.streams.append(-1 if stream is None else stream)
        return _new_capsule(ctypes.addressof(self._managed), self.name, None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim
