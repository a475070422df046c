"""The door on a device: arrays of others, streams, memory that runs out, a device that dies."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from collegium import config, cuda, dl


@pytest.fixture
def torch(need):
    torch = need("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch


def models(n: int, p: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, p)).astype(np.float32)


def test_show_config_says_on():
    c = config.config()["cuda"]
    assert c["on"]
    assert "device(s)" in c["text"]
    name, major, *_ = cuda.need().describe(0)
    assert name
    assert major >= 8


def test_arrays_there_and_back():
    X = models(37, 53)
    for padded in (False, True):
        assert np.array_equal(cuda.from_numpy(X, padded=padded).numpy_sync(), X)


def test_torch_tensors_go_in_and_come_out(torch):
    X, W = models(24, 1001), dl.topology.regular(24, 4, seed=1).mixing()
    x = torch.from_numpy(X).cuda()
    y = dl.mix(x, W, 2)
    assert isinstance(y, torch.Tensor)
    assert y.device == x.device
    cpu = dl.mix(cuda.from_numpy(X), W, 2).numpy_sync()
    assert np.array_equal(y.cpu().numpy(), cpu)
    z = torch.empty(24, 1200, device="cuda")[:, :1001]  # rows apart
    assert dl.mix(x, W, 2, out=z) is z
    assert np.array_equal(z.cpu().numpy(), cpu)
    ours = cuda.from_numpy(X)
    assert torch.equal(torch.as_tensor(ours, device="cuda"), x)
    assert torch.equal(torch.from_dlpack(ours), x)
    assert torch.from_dlpack(ours).data_ptr() == ours.address


def test_work_waits_for_what_is_on_the_callers_stream(torch):
    """A long product fills x on a stream of its own; mixing on that stream must not start before it is there."""
    X, W = models(64, 4096), dl.topology.ring(64).mixing()
    a, source = torch.randn(6000, 6000, device="cuda"), torch.from_numpy(X).cuda()
    want = dl.mix(source, W, 3).cpu()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    for _ in range(5):
        x = torch.zeros_like(source)
        with torch.cuda.stream(stream):
            for _ in range(10):
                a @ a
            x.copy_(source)
            y = dl.mix(x, W, 3)
            x.zero_()  # and what comes after waits for the mixing
        stream.synchronize()
        assert torch.equal(y.cpu(), want)


def test_values_made_on_another_stream_are_waited_for(torch):
    X, W = models(64, 4096), dl.topology.ring(64).mixing()
    source = torch.from_numpy(X).cuda()
    want = dl.mix(source, W).cpu()
    a, busy = torch.randn(6000, 6000, device="cuda"), torch.cuda.Stream()
    x = torch.zeros_like(source)
    busy.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(busy):
        for _ in range(10):
            a @ a
        x.copy_(source)
        with cuda.stream(torch.cuda.Stream().cuda_stream):  # DLPack's handshake: x is torch's current stream's
            y = dl.mix(x, W)
    torch.cuda.synchronize()
    assert torch.equal(y.cpu(), want)


def test_mixing_refuses_to_be_recorded(torch):
    X, W = models(12, 40), dl.topology.ring(12).mixing()
    x = torch.from_numpy(X).cuda()
    y, side, graph = torch.empty_like(x), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=side):
        with pytest.raises(RuntimeError, match="mix: cannot be recorded in a CUDA graph"):
            dl.mix(x, W)
        y.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(x, y)  # the rest was recorded, and mixing goes on after it
    assert torch.equal(dl.mix(x, W), dl.mix(y, W))


def test_out_of_memory_names_the_bytes_and_leaves_a_working_device():
    with pytest.raises(MemoryError, match="no memory for 4503599627370496 bytes on CUDA device 0"):
        cuda.empty((1 << 50,))
    X = models(4, 5)
    assert np.array_equal(cuda.from_numpy(X).numpy_sync(), X)


def test_memory_comes_back():
    module = cuda.need()
    size = module.memory(0)[0] // 2 // 4
    for _ in range(4):  # twice what there is, one after the other
        a = cuda.empty((size,))
        del a
    module.stream_sync(0, 1)


def test_rows_further_apart_than_two_gigabytes():
    """More than a copy of rows can take."""
    if cuda.need().memory(0)[0] < 12 << 30:
        pytest.skip("less than 12 GB of a device's memory are free")
    population = dl.Population(2, {"w": (540_000_001,)}, device="cuda")
    values = models(2, 5)
    few = population.X.part(7, values.shape, (population.leading_dimension, 1))
    few.fill_from(values)
    assert np.array_equal(few.numpy_sync(), values)
    for i in range(2):
        assert np.array_equal(population.row(i)["w"].part(7, (5,), (1,)).numpy_sync(), values[i])


def test_pinned_memory_has_been_read_when_a_copy_returns(torch):
    source = models(64, 4096)
    pinned = torch.from_numpy(source).pin_memory().numpy()
    a, busy = torch.randn(6000, 6000, device="cuda"), torch.cuda.Stream()
    busy.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(busy):
        for _ in range(10):
            a @ a
    with cuda.stream(busy.cuda_stream):
        x = cuda.from_numpy(pinned)
    pinned[:] = 0
    assert np.array_equal(x.numpy_sync(), source)


def test_a_fault_raises_and_goes_on_raising():
    """In a process of its own: after a fault a device's context is gone."""
    code = """
import collegium
from collegium import cuda
m = cuda.need()
m.random(0, 1, 0, 1, 64, 0, 0, 0, 1000, 1 << 20)  # nobody's memory
for i in range(2):
    try:
        m.stream_sync(0, 1)
    except collegium.CudaError as e:
        print(e)
    else:
        raise SystemExit("no error")
try:
    cuda.random_u32(0, 1, 0, 0, 0, 10).numpy_sync()
except (collegium.CudaError, MemoryError) as e:
    print(e)
else:
    raise SystemExit("numbers from a dead device")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cuda") >= 3
