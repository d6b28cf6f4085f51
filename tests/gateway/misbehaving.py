"""A gateway with faults on order, and a client that looks at the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kugel_bridge.gateway.orders import parse
from kugel_bridge.gateway.server import GatewayServer
from tests.gateway.raw import PING, PONG, Raw, frame, raw
from tests.gateway.wire import REQUEST
from tests.gateway_server import ScriptedEngine, hum, serving

SHORT_S = 0.3
FRAMES = 3
"""What the engine below makes: 0.25 s at once, then 0.2 s and 0.05 s."""


@asynccontextmanager
async def faulty(*orders: str, **options: Any) -> AsyncIterator[GatewayServer]:
    async with serving(
        ScriptedEngine([hum(0.25), hum(0.25)]), faults=[parse(line) for line in orders], **options
    ) as server:
        yield server


@asynccontextmanager
async def asked(*orders: str) -> AsyncIterator[Raw]:
    """A socket over which a text was asked for."""
    async with faulty(*orders) as server, raw(server) as client:
        assert (await client.upgrade()).startswith(b"HTTP/1.1 101 ")
        await client.say(REQUEST)
        yield client


async def received(client: Raw, count: int) -> list[dict[str, Any]]:
    return [await client.receive() for _ in range(count)]


async def is_silent(client: Raw) -> bool:
    """Pings are answered, and nothing else comes before the answer."""
    await client.send(frame(b"there?", PING))
    return await client.frame() == (PONG, b"there?")
