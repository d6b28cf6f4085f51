"""Fixtures of the tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """What a client began in the background has ended."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if "kugelaudio" in task.get_name()]
    assert left == []
