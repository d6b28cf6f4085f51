"""A bare client, for what neither the SDK nor ours would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from kugel_bridge.gateway.server import GatewayServer
from tests.gateway_server import WAIT_S

REQUEST = {"text": "Hello there.", "voice_id": 1, "language": "en"}


class Wire:
    """Sends objects and receives objects."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, *messages: dict[str, Any] | str) -> None:
        for message in messages:
            await self.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self.socket.recv())

    async def until_end(self) -> list[dict[str, Any]]:
        """The frames up to one that ends a request."""
        frames = []
        while True:
            frames.append(await self.receive())
            if {"final", "error", "interrupted"} & set(frames[-1]):
                return frames

    async def closed(self) -> int | None:
        """The close code, once it is there."""
        async with asyncio.timeout(WAIT_S):
            await self.socket.wait_closed()
        return self.socket.close_code


@asynccontextmanager
async def wire(server: GatewayServer, path: str = "/ws/tts", **headers: str) -> AsyncIterator[Wire]:
    """An open socket."""
    async with connect(
        server.url.replace("http:", "ws:") + path,
        additional_headers=headers,
        proxy=None,
        compression=None,
        close_timeout=1,
    ) as socket:
        yield Wire(socket)
