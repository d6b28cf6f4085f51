"""Brokers, cards and callers for tests of the whole program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.audio.conftest import card, simcard_library
from tests.broker import Mosquitto
from tests.house import Caller
from tests.service_manager import ServiceManager

__all__ = ["card", "simcard_library"]
WATCHDOG_S = 1.5
"""Short for a watchdog, and long for a busy test machine."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", persistence=True) as running:
        yield running


@pytest.fixture
async def caller(broker: Mosquitto) -> AsyncIterator[Caller]:
    async with Caller(broker.port) as somebody:
        yield somebody


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path / "notify", WATCHDOG_S) as listening:
        yield listening
