"""Fixtures of the unit tests: a CUDA device made of the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helper modules beside the tests
import cuda_twin

import collegium


@pytest.fixture(scope="session")
def twin_module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return cuda_twin.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def twin(twin_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """collegium._cuda is the twin (cuda_twin.py): two devices, the second of them dead."""
    from collegium.cuda import door

    monkeypatch.setitem(sys.modules, "collegium._cuda", twin_module)
    monkeypatch.setattr(collegium, "_cuda", twin_module, raising=False)
    door.status.cache_clear()
    yield twin_module
    door.status.cache_clear()
