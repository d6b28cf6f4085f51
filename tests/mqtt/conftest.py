"""Brokers and connections for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.mqtt.backoff import Backoff
from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.client import MqttConnection
from kugel_bridge.mqtt.message import MqttMessage, Will
from tests.broker import Certificates, Mosquitto

WAIT_S = 30.0
"""Upper bound of every wait; nothing here should take a tenth of it."""


class Ear:
    """A connection, and what it was told."""

    def __init__(self, connection: MqttConnection) -> None:
        self.connection = connection
        self.messages: asyncio.Queue[MqttMessage] = asyncio.Queue()
        self.up = asyncio.Event()
        self.down: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> MqttMessage:
        """The next message."""
        async with asyncio.timeout(WAIT_S):
            return await self.messages.get()

    async def was_up(self) -> None:
        """Return when the connection has come up; the next call waits for the next time."""
        async with asyncio.timeout(WAIT_S):
            await self.up.wait()
        self.up.clear()

    async def was_down(self) -> str:
        """Return when the connection was lost, with the reason."""
        async with asyncio.timeout(WAIT_S):
            return await self.down.get()

    async def failed(self) -> str:
        """Return when a first try has failed, with the reason."""
        await until(lambda: self.connection.fault not in ("", "not connected yet"))
        return self.connection.fault


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds: for what sends no event."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker as it comes, for this test only."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a broker's and a client's certificate."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def listening(
    port: int,
    *filters: str,
    on_message: Callable[[MqttMessage], None] | None = None,
    before: Callable[[MqttConnection], None] = lambda _connection: None,
    **options: Any,
) -> AsyncIterator[Ear]:
    """A running connection; `options` go to Broker. It takes leave at the end.

    `before` is called with the connection before it runs.
    """
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "client_id": "bridge"}

    def heard(message: MqttMessage) -> None:
        if on_message is not None:
            on_message(message)
        ear.messages.put_nowait(message)

    ear = Ear(
        MqttConnection(
            Broker(**(values | options)),
            Will("kugel/kitchen/availability", b"offline"),
            filters or ("kugel/say",),
            on_message=heard,
            on_up=lambda: ear.up.set(),
            on_down=lambda reason: ear.down.put_nowait(reason),
            # Quick tries: half of the usual waits is what chance may bring anyway.
            backoff=Backoff(chance=lambda: 0.0),
        )
    )
    before(ear.connection)
    task = asyncio.ensure_future(ear.connection.run())
    try:
        yield ear
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
