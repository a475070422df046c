"""Fixtures every unit test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from collegium import _core


@pytest.fixture(params=_core.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set this machine can run, forced in turn."""
    old = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(old)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One thread and two."""
    old = _core.num_threads()
    _core.set_num_threads(request.param)
    yield request.param
    _core.set_num_threads(old)
