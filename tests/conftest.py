"""What all tests share: every kernel under every instruction set, on one and two threads; skips that say why."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from collegium import _core, config

# Examples take as long as the machine is busy: no deadline. On a server the same examples are drawn every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(params=_core.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once under every instruction set of this machine."""
    old = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(old)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test runs once on one thread and once on two."""
    old = _core.num_threads()
    _core.set_num_threads(request.param)
    yield request.param
    _core.set_num_threads(old)


@pytest.fixture
def need() -> Callable[[str], ModuleType]:
    """need("torch"): that module, or a skip with the sentence that installs it."""
    packages: dict[str, Any] = config.config()["packages"]

    def get(module: str) -> ModuleType:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            install = packages.get(module, {}).get("install", f"pip install {module}")
            pytest.skip(f"{module} is not installed: {install}")
        return importlib.import_module(module)

    return get


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        cuda = config.config()["cuda"]
        if not cuda["on"]:
            pytest.skip(f"CUDA is off: {cuda['text']}")
