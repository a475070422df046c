"""The CUDA door: what it says of itself, and arrays of others checked before any call to a device."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cuda_twin import DELETER, DlpackArray, InterfaceArray

import collegium
from collegium import config, cuda, dl
from collegium._where import on_device
from collegium.cuda import door
from collegium.cuda.array import like


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


# ---- what there is ----


def test_status_with_a_device(twin):
    assert door.status() == (twin, "")
    assert cuda.need() is twin
    assert [cuda.device_number(d) for d in ("cpu", "cuda", "cuda:1", "auto")] == [None, 0, 1, 0]


def test_status_without_the_extension(monkeypatch):
    """A machine without the tool chain: nothing was built."""
    monkeypatch.setitem(sys.modules, "collegium._cuda", None)
    monkeypatch.delattr(collegium, "_cuda", raising=False)
    door.status.cache_clear()
    module, reason = door.status()
    assert module is None
    assert reason.startswith("CUDA back end not available: ")
    assert cuda.device_number("auto") is None
    with pytest.raises(RuntimeError, match="CUDA back end not available"):
        cuda.device_number("cuda")
    with pytest.raises(RuntimeError, match="CUDA back end not available"):
        cuda.empty((3,))
    door.status.cache_clear()


def test_status_without_a_driver(twin, monkeypatch):
    """A machine with the tool chain and no driver: the extension loads and says why it is off."""
    monkeypatch.setattr(twin, "device_count", lambda: (0, 35, "cudaErrorInsufficientDriver: no driver"))
    door.status.cache_clear()
    assert door.status() == (None, "no usable CUDA device: cudaErrorInsufficientDriver: no driver (CUDA error 35)")
    assert cuda.device_number("auto") is None
    with pytest.raises(RuntimeError, match="CUDA error 35"):
        cuda.device_number("cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "auto:1", "cuda:-1", 3])
def test_a_device_that_is_none(twin, device):
    with pytest.raises(ValueError, match="device: expected 'cpu', 'cuda', 'cuda:N' or 'auto'"):
        cuda.device_number(device)


def test_a_device_there_is_not(twin):
    with pytest.raises(ValueError, match=r"device: expected 'cuda:0' to 'cuda:1', got 'cuda:2'"):
        cuda.device_number("cuda:2")


def report(monkeypatch: pytest.MonkeyPatch, place: Path, on: bool, text: str) -> dict:
    part = {"on": on, "text": text, "install": "install the CUDA toolkit (nvcc), or set CUDA_HOME"}
    (place / "_build.json").write_text(json.dumps({"parts": {"cuda": part}}))
    monkeypatch.setattr(config, "__file__", str(place / "config.py"))
    return config.config()["cuda"]


def test_show_config_tells_the_truth_on_three_machines(twin, monkeypatch, tmp_path):
    nowhere = report(monkeypatch, tmp_path, False, "nvcc not found")
    assert (nowhere["on"], nowhere["text"]) == (False, "nvcc not found")
    assert "CUDA toolkit" in nowhere["install"]

    on = report(monkeypatch, tmp_path, True, "13.0, sm_90a")
    assert (on["on"], on["text"], on["install"]) == (True, "13.0, sm_90a, 2 device(s)", "")

    monkeypatch.setattr(twin, "device_count", lambda: (0, 35, "cudaErrorInsufficientDriver: old"))
    off = report(monkeypatch, tmp_path, True, "13.0, sm_90a")
    assert not off["on"]
    assert "no usable device: cudaErrorInsufficientDriver: old (CUDA error 35)" in off["text"]
    assert "driver" in off["install"]


def test_a_build_without_a_tool_chain_says_so(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("finders", root / "setup_finders.py")
    finders = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "finders", finders)
    spec.loader.exec_module(finders)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(finders.Missing, match=f"nvcc not found in {tmp_path}"):
        finders.find_cuda()


def test_the_extension_loads_without_the_libraries_it_may_open():
    code = """
import sys, importlib
try:
    importlib.import_module("collegium._cuda")
except ImportError:
    sys.exit(77)
maps = open("/proc/self/maps").read()
print(*[l for l in ("libcublas", "libnccl", "libcuda.so", "libcudart") if l in maps])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("collegium._cuda was not built")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_importing_collegium_loads_no_cuda():
    code = "import sys, collegium.dl; print(*[m for m in sys.modules if 'cuda' in m and 'collegium' in m])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == ""


# ---- where the data is ----


def test_where(X):
    assert not on_device(X)
    assert not on_device([1.0])
    assert on_device(InterfaceArray(X))
    assert on_device(DlpackArray(X))
    assert on_device(DlpackArray(X, device=(13, 0)))
    assert not on_device(DlpackArray(X, device=(1, 0)))


def test_where_torch(need):
    assert not on_device(need("torch").zeros(2))


# ---- CUDA array interface ----


def test_interface(X):
    v = door.view(InterfaceArray(X, stream=7), "x", np.float32, 2)
    assert (v.address, v.shape, v.strides, v.dtype) == (X.ctypes.data, (5, 7), (7, 1), np.float32)
    assert (v.readonly, v.wait_for, v.device) == (False, 7, None)
    assert door.view(InterfaceArray(X, strides=None), "x", np.float32, 2).strides == (7, 1)
    assert door.view(InterfaceArray(X[:, :3]), "x", np.float32, 2).strides == (7, 1)
    assert door.view(InterfaceArray(X[1:2, 2:3]), "x", np.float32, 2).strides == (1, 1)


@pytest.mark.parametrize(
    "said, error, text",
    [
        ({"version": 1}, ValueError, "x: expected version 2 or later of the CUDA array interface, got 1"),
        ({"typestr": "<f8", "strides": None}, TypeError, "x: expected dtype float32, got float64"),
        ({"typestr": "???"}, ValueError, "x: its __cuda_array_interface__ is not one"),
        ({"shape": (35,), "strides": None}, ValueError, r"x: expected 2 dimension\(s\), got 1"),
        ({"strides": (28, 8)}, ValueError, "x: rows must be contiguous and must not overlap"),
        ({"strides": (20, 4)}, ValueError, "x: rows must be contiguous and must not overlap"),
        ({"strides": (-28, 4)}, ValueError, "x: rows must be contiguous and must not overlap"),
        ({"strides": (30, 4)}, ValueError, "x: expected strides of whole elements of 4 bytes"),
        ({"strides": (28,)}, ValueError, "do not describe an array"),
        ({"mask": object()}, ValueError, "x: expected an array without a mask"),
        ({"stream": 0}, ValueError, "x: expected a stream of 1 or more in its interface, or None, got 0"),
        ({"stream": "s"}, ValueError, "x: expected a stream"),
        ({"data": (0, False)}, ValueError, "x: expected the address of aligned float32, got 0x0"),
        ({"data": (4098, False)}, ValueError, "x: expected the address of aligned float32, got 0x1002"),
        ({"data": None}, ValueError, "x: its __cuda_array_interface__ is not one"),
    ],
)
def test_interface_refused(X, said, error, text):
    with pytest.raises(error, match=text):
        door.view(InterfaceArray(X, **said), "x", np.float32, 2)


def test_readonly_and_no_device_array(X):
    frozen = X.copy()
    frozen.flags.writeable = False
    door.view(InterfaceArray(frozen), "x", np.float32, 2)
    with pytest.raises(ValueError, match="x: is read-only"):
        door.view(InterfaceArray(frozen), "x", np.float32, 2, write=True)
    with pytest.raises(TypeError, match="x: expected an array on a CUDA device, got list"):
        door.view([1.0], "x", np.float32, 1)
    with pytest.raises(TypeError, match="x: expected an array on a CUDA device, got one on the CPU"):
        door.view(X, "x", np.float32, 2)


def test_empty_arrays_may_have_any_stride():
    nothing = np.empty((0, 7), np.float32)
    v = door.view(InterfaceArray(nothing, data=(0, False), strides=(1 << 40, 4)), "x", np.float32, 2)
    assert v.strides == (7, 1)
    assert v.span == (0, 0)


# ---- DLPack ----


@pytest.mark.parametrize("versioned", [False, True])
def test_dlpack(twin, X, versioned):
    a = DlpackArray(X[:, 1:4], versioned=versioned, offset=64)
    v = door.view(a, "x", np.float32, 2, stream=9)
    assert (v.address, v.shape, v.strides, v.dtype) == (X.ctypes.data + 4, (5, 3), (7, 1), np.float32)
    assert (v.device, v.readonly, v.wait_for, a.streams) == (0, False, None, [9])
    assert a.deleted == 0
    del v
    assert a.deleted == 1


def test_dlpack_contiguous_and_readonly(twin, X):
    assert door.view(DlpackArray(X, contiguous=True), "x", np.float32, 2).strides == (7, 1)
    frozen = DlpackArray(X, versioned=True, flags=1)
    door.view(frozen, "x", np.float32, 2)
    with pytest.raises(ValueError, match="x: is read-only"):
        door.view(frozen, "x", np.float32, 2, write=True)


@pytest.mark.parametrize(
    "made, error, text",
    [
        ({"name": b"used_dltensor"}, ValueError, "x: expected a DLPack capsule, got one that was opened before"),
        ({"name": b"something"}, ValueError, "x: expected a DLPack capsule, got one named something"),
        ({"versioned": True, "version": (2, 0)}, BufferError, "x: DLPack capsule: expected version 1, got 2.0"),
        ({"ndim": -1}, BufferError, "x: DLPack capsule: -1 dimensions"),
        ({"shape": None}, BufferError, "x: DLPack capsule: 2 dimensions without a shape"),
        ({"code": 3}, TypeError, "x: expected a plain dtype, got DLPack type 3 of 32 bits, 1 lane"),
        ({"code": 4, "bits": 16}, TypeError, "x: expected a plain dtype, got DLPack type 4 of 16 bits"),
        ({"lanes": 4}, TypeError, "x: expected a plain dtype, got DLPack type 2 of 32 bits, 4 lane"),
        ({"bits": 16}, TypeError, "x: expected dtype float32, got float16"),
        ({"device_id": 3}, ValueError, "x: expected a capsule of the device it names, 0, got type 2, 3"),
        ({"device_type": 1}, ValueError, "x: expected a capsule of the device it names, 0, got type 1, 0"),
        ({"device": (1, 0)}, TypeError, "x: expected an array on a CUDA device, got one on the CPU"),
        (
            {"device": (10, 0)},
            TypeError,
            "x: expected an array on a CUDA device, got one on a device of DLPack type 10",
        ),
    ],
)
def test_dlpack_refused(twin, X, made, error, text):
    a = DlpackArray(X, **made)
    with pytest.raises(error, match=text):
        door.view(a, "x", np.float32, 2)
    opened = bool(a.streams) and "name" not in made
    assert a.deleted == int(opened)  # what was opened is given back; what was not is not ours


def test_a_capsule_is_opened_once(twin, X):
    capsule = DlpackArray(X).__dlpack__()
    twin.dlpack_open(capsule)
    with pytest.raises(ValueError, match="opened before"):
        twin.dlpack_open(capsule)
    with pytest.raises(TypeError, match="expected a DLPack capsule, got <class 'int'>"):
        twin.dlpack_open(3)


class Anybody:
    """What another library sees: the protocol, and nothing of the class behind it."""

    def __init__(self, a):
        self.__dlpack__, self.__dlpack_device__ = a.__dlpack__, a.__dlpack_device__


def test_arrays_of_ours_go_out_by_dlpack(twin, X, monkeypatch):
    waits = []
    monkeypatch.setattr(twin, "stream_wait", lambda *a: waits.append(a))
    with cuda.stream(4):
        a = cuda.from_numpy(X, padded=True)
    assert a.__dlpack_device__() == (2, 0)
    v = door.view(Anybody(a), "x", np.float32, 2, stream=9)
    assert (v.address, v.shape, v.strides, v.device, waits) == (a.address, (5, 7), (32, 1), 0, [(0, 9, 4)])
    door.view(Anybody(a), "x", np.float32, 2, stream=4)
    a.__dlpack__(stream=-1)
    assert len(waits) == 1
    a.__dlpack__()
    assert waits[1:] == [(0, 1, 4)]
    for dtype in (np.float64, np.int64, np.int32, np.uint32):
        assert door.view(Anybody(cuda.empty((3,), dtype)), "x", dtype, 1).dtype == dtype


def test_what_dlpack_cannot_have(twin, X):
    a = cuda.from_numpy(X)
    for fine in ({"copy": False}, {"copy": None, "dl_device": (2, 0), "max_version": (1, 1)}, {"dl_device": None}):
        a.__dlpack__(stream=-1, **fine)
    for asked, text in [
        ({"copy": True}, "copy: expected None or False, got True"),
        ({"dl_device": (1, 0)}, r"dl_device: expected \(2, 0\), where the memory is, got \(1, 0\)"),
        ({"dl_device": (2, 1)}, r"dl_device: expected \(2, 0\), where the memory is, got \(2, 1\)"),
    ]:
        with pytest.raises(BufferError, match=text):
            a.__dlpack__(stream=-1, **asked)
    with pytest.raises(BufferError, match=r"expected a dtype that DLPack has, got datetime64\[s\]"):
        cuda.from_numpy(np.zeros(3, "M8[s]")).__dlpack__(stream=-1)


def test_memory_lives_as_long_as_what_was_handed_out(twin, X):
    a = cuda.from_numpy(X)
    owner, before = a._owner, sys.getrefcount(a._owner)
    capsule = a.__dlpack__(stream=-1)
    opened = twin.dlpack_open(a.__dlpack__(stream=-1))
    assert sys.getrefcount(owner) == before + 2
    del capsule  # never opened
    assert sys.getrefcount(owner) == before + 1
    del opened
    assert sys.getrefcount(owner) == before


def test_a_tensor_that_comes_back_after_the_interpreter_has_gone(twin):
    """Another library may keep it until the process ends."""
    code = f"""
import ctypes
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
name, file = "collegium._cuda", {twin.__file__!r}
spec = spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))
module = module_from_spec(spec)
spec.loader.exec_module(module)
capsule = module.dlpack_make(64, 0, 2, 32, (3,), (1,), object())
point, rename = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_SetName
point.restype, point.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
used = ctypes.c_char_p(b"used_dltensor")
rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
tensor = point(capsule, b"dltensor")
rename(capsule, used)
deleter = ctypes.c_void_p.from_address(tensor + {DELETER})
ctypes.CDLL(None).__cxa_atexit(deleter, ctypes.c_void_p(tensor), None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# ---- streams, devices ----


def test_streams(X):
    assert cuda.current_stream() == 1
    assert cuda.current_stream(InterfaceArray(X, stream=5)) == 5
    with cuda.stream(0):
        assert cuda.current_stream() == 1
        with cuda.stream(77):
            assert cuda.current_stream(InterfaceArray(X, stream=5)) == 77
    assert cuda.current_stream(DlpackArray(X)) == 1
    with pytest.raises(ValueError, match="handle: expected at least 0"), cuda.stream(-1):
        pass


def test_a_tensor_on_the_cpu_is_refused_in_our_words(twin, X, need):
    zeros, W = need("torch").zeros(5, 7), dl.topology.ring(5).mixing()
    with pytest.raises(TypeError, match="out: expected an array on a CUDA device, got one on the CPU"):
        dl.mix(cuda.from_numpy(X), W, out=zeros)
    with pytest.raises(TypeError, match="X: expected an array on a CUDA device, got one on the CPU"):
        cuda.consensus(zeros)


class CupyDevice:
    """Current within `with`, as CuPy's devices are."""

    current = 0

    def __init__(self, id: int) -> None:
        self.id = id

    def __enter__(self) -> None:
        self.before, CupyDevice.current = CupyDevice.current, self.id

    def __exit__(self, *_: object) -> None:
        CupyDevice.current = self.before


def test_arrays_of_cupy_on_a_device_that_is_not_current(X, monkeypatch):
    made = []
    stream = lambda: SimpleNamespace(ptr=100 + CupyDevice.current)
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(get_current_stream=stream), empty=lambda *_: made.append(CupyDevice.current)
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    kind = type("ndarray", (InterfaceArray,), {"__module__": "cupy._core.core", "device": CupyDevice(1)})
    assert cuda.current_stream(kind(X)) == 101
    like(kind(X), (3,), np.float32, 1, 101)
    assert (made, CupyDevice.current) == ([1], 0)


def test_streams_wait_for_one_another_on_the_device(twin, X, monkeypatch):
    waits = []
    monkeypatch.setattr(twin, "stream_wait", lambda *a: waits.append(a))
    a, b = (door.view(InterfaceArray(X, stream=s), "x", np.float32, 2) for s in (5, None))
    with door.ordered(twin, 0, 5, a, b):
        pass
    assert waits == []
    with door.ordered(twin, 0, 6, a, b, a):
        assert waits == [(0, 6, 5)]
    assert waits == [(0, 6, 5), (0, 5, 6)]


def test_arrays_on_two_devices(twin, X):
    a, b = (door.view(DlpackArray(X, device=(2, d)), "x", np.float32, 2) for d in (0, 1))
    assert door.one_device(x=a, y=a) == 0
    with pytest.raises(ValueError, match="y: expected an array on cuda:0, where x is, got one on cuda:1"):
        door.one_device(x=a, y=b)


# ---- memory ----


def test_arrays(twin, X):
    a = cuda.from_numpy(X, padded=True)
    assert (a.shape, a.strides, a.device, a.ndim, a.nbytes, len(a)) == ((5, 7), (32, 1), "cuda:0", 2, 140, 5)
    assert np.array_equal(a.numpy_sync(), X)
    assert np.array_equal(a.part(32, (4, 7), (32, 1)).numpy_sync(), X[1:])
    assert cuda.from_numpy(np.array(3.0)).numpy_sync() == 3
    assert cuda.empty((0, 4)).numpy_sync().shape == (0, 4)
    assert np.array_equal(cuda.zeros_rows(3, 5).numpy_sync(), np.zeros((3, 5), np.float32))
    with pytest.raises(TypeError, match="values: expected a NumPy array of float32, got float64"):
        a.fill_from(X.astype(np.float64))
    with pytest.raises(ValueError, match=r"values: expected shape \(5, 7\), got \(7, 5\)"):
        a.fill_from(X.T)
    with pytest.raises(ValueError, match="expected rows that are contiguous"):
        a.part(0, (5, 2, 2), (32, 3, 1)).numpy_sync()


def test_what_no_array_is_made_of(twin, X):
    for values, error, text in [
        ([1, 2], TypeError, "values: expected a NumPy array, got list"),
        (np.array([None]), TypeError, "values: expected a dtype of plain numbers in native byte order, got object"),
        (X.astype(">f4"), TypeError, "values: expected a dtype of plain numbers in native byte order, got >f4"),
    ]:
        with pytest.raises(error, match=text):
            cuda.from_numpy(values)
    with pytest.raises(TypeError, match="dtype: expected a dtype of plain numbers"):
        cuda.empty((3,), object)
    with pytest.raises(TypeError, match="shape: expected a tuple of integers, got 3"):
        cuda.empty(3)
    with pytest.raises(MemoryError, match=f"no memory for {1 << 66} bytes on CUDA device 0"):
        cuda.empty((1 << 62, 4))


def test_parts_end_where_the_memory_does(twin):
    a = cuda.from_numpy(np.arange(35, dtype=np.float32).reshape(5, 7), padded=True)
    whole = a.part(0, (5, 32), (32, 1))  # padding included
    part = whole.part(33, (4, 7), (32, 1))
    assert part.part(99, (28,), (1,)).shape == (28,)  # as far as the memory goes, not only the part
    for first, shape, strides in [
        (0, (6, 7), (32, 1)),
        (5 * 32 - 6, (7,), (1,)),
        (-1, (7,), (1,)),
        (0, (5, 7), (-1, 1)),
    ]:
        with pytest.raises(ValueError, match="part: expected one within 160 elements, got shape"):
            a.part(first, shape, strides)
    with pytest.raises(ValueError, match="part: expected one within 127 elements, got shape"):
        part.part(99, (29,), (1,))


def test_a_device_may_be_named(twin, monkeypatch, X):
    for device in (0, "cuda", "cuda:0", "auto"):
        assert cuda.from_numpy(X, device=device).number == 0
        assert cuda.zeros_rows(2, 3, device).number == 0
        assert cuda.random_u32(0, 1, 0, 0, 0, 3, device=device).number == 0
    with pytest.raises(ValueError, match="device: expected a CUDA device, got 'cpu'"):
        cuda.empty((3,), device="cpu")
    with pytest.raises(ValueError, match="device: expected 'cuda:0' to 'cuda:1', got 'cuda:2'"):
        cuda.normal_f32(0, 1, 0, 0, 0, 3, device="cuda:2")
    with pytest.raises(collegium.CudaError, match="cudaErrorLaunchFailure"):
        cuda.random_f32(0, 1, 0, 0, 0, 3, device="cuda:1")
    monkeypatch.setattr(twin, "device_count", lambda: (0, 35, "no driver"))
    door.status.cache_clear()
    with pytest.raises(RuntimeError, match="CUDA error 35"):
        cuda.empty((3,), device="auto")


def test_copies_wait_for_the_stream_an_array_was_made_on(twin, X, monkeypatch):
    a = cuda.from_numpy(X)
    waits = []
    monkeypatch.setattr(twin, "stream_wait", lambda *args: waits.append(args))
    a.numpy_sync()
    assert waits == []
    with cuda.stream(6):
        a.numpy_sync()
        a.fill_from(X)
    assert waits == [(0, 6, 1), (0, 1, 6)] * 2


def test_out_of_memory_names_the_bytes(twin):
    with pytest.raises(MemoryError, match="no memory for 4294967296 bytes on CUDA device 0: "):
        cuda.empty((1 << 30,))


def test_a_dead_device_raises(twin, X):
    with pytest.raises(collegium.CudaError, match="cudaErrorLaunchFailure"):
        cuda.from_numpy(X, device=1)
    with pytest.raises(collegium.CudaError, match="cudaErrorLaunchFailure"):
        cuda.random_u32(0, 1, 0, 0, 0, 3, device=1)
    on_it = cuda.Array(X.ctypes.data, X.shape, (7, 1), np.float32, 1, 1, X)
    with pytest.raises(collegium.CudaError, match="cudaErrorLaunchFailure"):
        on_it.numpy_sync()
