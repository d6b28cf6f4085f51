"""For all tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the whole program: its tests wait longest, short ones fill what is left."""
    items.sort(key=lambda item: "/system/" not in item.path.as_posix())
