"""Tests that need a GPU: marked `cuda`, skipped elsewhere with the reason of `collegium.cuda.status()`."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium import cuda

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    module, reason = cuda.status()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            if module is None:
                item.add_marker(pytest.mark.skip(reason=reason))
