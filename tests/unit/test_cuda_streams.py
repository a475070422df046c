"""Memory and values on several streams: nothing is read before it is there, nor given back while it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cuda_watch import Watch

import collegium
from collegium import cuda, dl
from collegium.cuda import door


@pytest.fixture
def watch(twin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch(twin)
    monkeypatch.setitem(sys.modules, "collegium._cuda", watch)
    monkeypatch.setattr(collegium, "_cuda", watch)
    door.status.cache_clear()
    yield watch
    door.status.cache_clear()


def models(n: int = 8, p: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, p)).astype(np.float32)


def router(d: int = 12) -> cuda.RouterForward:
    f = lambda *shape: np.ones(shape, np.float32)
    return cuda.RouterForward([d], [0, 0], f(3, d), f(2, 3), None, None, f(2 * 3 + 7 * 2 + 1), 2)


def average_into(x: cuda.Array) -> None:
    cuda.average(x, np.ones(len(x)), out=cuda.empty((x.shape[1],)))


def run(plan: cuda.MixPlan, x: cuda.Array) -> None:
    v = cuda.view(x, "x", np.float32, 2)
    plan.run(v, v, cuda.current_stream())


W = dl.topology.ring(8).mixing()
CSR = (W.indptr, W.indices, W.weights)
OTHER = np.ones((8, 12), np.float32)
USES: dict[str, Callable[[], Callable[[Any], object]]] = {
    "mix": lambda: lambda x: dl.mix(x, W, 2),
    "mix in place": lambda: lambda x: dl.mix(x, W, 2, out=x),
    "mix into": lambda: (lambda out: lambda x: dl.mix(x, W, out=out))(cuda.from_numpy(OTHER)),
    "plan": lambda: (lambda plan: lambda x: run(plan, x))(cuda.MixPlan([[CSR]], np.array([0, 12]), 8)),
    "consensus": lambda: cuda.consensus,
    "average": lambda: average_into,
    "find_nonfinite": lambda: cuda.find_nonfinite_sync,
    "keys": lambda: lambda x: cuda.nearest(cuda.from_numpy(OTHER), x),
    "queries": lambda: cuda.KeyTable(cuda.from_numpy(OTHER)).nearest,
    "router": lambda: (lambda forward: lambda x: forward([x]))(router()),
    "fill": lambda: lambda x: x.fill_from(OTHER),
    "read": lambda: lambda x: x.numpy_sync(),
    "copy": lambda: cuda.to_host_sync,
}


@pytest.mark.parametrize("use", USES)
def test_memory_is_given_back_after_all_that_uses_it(watch, use):
    x, work = cuda.from_numpy(models()), USES[use]()
    for stream in (77, 88, 1):
        with cuda.stream(stream):
            work(x)
    with cuda.stream(77):
        work(x)
    del x, work
    assert watch.wrong == []


@pytest.mark.parametrize(
    "write",
    [
        lambda x: dl.mix(x, W, out=x),
        lambda x: dl.mix(cuda.from_numpy(OTHER), W, out=x),
        lambda x: cuda.average(cuda.from_numpy(models(2, 96)), [1, 0], out=x.part(0, (96,), (1,))),
        lambda x: x.fill_from(OTHER),
    ],
)
def test_values_written_on_another_stream_are_waited_for(watch, write):
    x = cuda.from_numpy(models())
    with cuda.stream(77):
        write(x)
    x.numpy_sync()
    with cuda.stream(77):
        write(x)
    with cuda.stream(88):
        x.numpy_sync()
    assert watch.wrong == []


def test_in_place_by_way_of_a_copy(watch, monkeypatch):
    monkeypatch.setattr(watch._module, "mix_tile", lambda *_: (16, 0))  # as if a tile had no room
    x = cuda.from_numpy(models())
    with cuda.stream(77):
        dl.mix(x, W, 3, out=x)
    assert np.allclose(x.numpy_sync(), dl.mix(models(), W, 3), atol=1e-6)
    del x
    assert watch.wrong == []


def test_a_population_filled_on_a_stream_of_ones_own(watch):
    population = dl.Population(4, {"w": (3,)}, device="cuda")
    with cuda.stream(77):
        population.load_row(0, {"w": np.ones(3, np.float32)})
    assert population.find_nonfinite() is None
    del population
    assert watch.wrong == []


def test_the_watch_sees_what_is_not_ordered(watch):
    a, b = cuda.empty((3,)), cuda.empty((3,))
    watch.copy(0, 77, a.address, 12, b.address, 12, 12, 1)
    watch.zero(0, 1, a.address, 12)
    del b
    assert watch.wrong == [
        "zero on stream 1 does not wait for work on stream 77",
        "giving back on stream 1 does not wait for work on stream 77",
    ]
