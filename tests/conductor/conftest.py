from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conductor.stage import Stage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def stage(path: Path) -> AsyncIterator[Stage]:
    """One zone with a local engine only; its clock stands still."""
    async with Stage(path) as stage:
        yield stage
