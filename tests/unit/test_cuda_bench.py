"""experiments/bench/gpu.py: every family runs (on the twin, at sizes that time nothing); no GPU is said in words."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "experiments" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCH / "gpu.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", module)
    spec.loader.exec_module(module)
    return module


def test_every_family(twin, bench, capsys):
    rows = bench.measure(bench.TINY)
    assert set(rows) == set(bench.FAMILIES)
    assert rows.pop("training") == []  # torch trains on a GPU or not at all
    for name, family in rows.items():
        assert family, name
        assert all(row["ms"] >= 0 for row in family)
    out = capsys.readouterr().out
    assert all(f"\n{name}\n" in out for name in rows)
    assert "training: torch sees no GPU, not timed" in out
    floors = [row["of floor"] for row in rows["mixing"] if row["what"] == "copy"]
    assert floors == [1.0] * 3


def test_without_a_gpu_it_says_so_after_the_twins(bench, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(bench, "build", lambda: ran.append("build"))
    monkeypatch.setattr(bench, "twins", lambda: ran.append("twins"))
    monkeypatch.setattr(bench.cuda, "status", lambda: (None, "no usable CUDA device: none"))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as e:
        bench.main()
    assert (e.value.code, ran) == (3, ["build", "twins"])
    assert "no times taken: no usable CUDA device: none" in capsys.readouterr().out


def test_a_step_that_fails_ends_it(bench):
    with pytest.raises(SystemExit) as e:
        bench.run(sys.executable, "-c", "raise SystemExit(5)")
    assert e.value.code == 5
