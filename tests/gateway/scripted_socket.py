"""A socket of the gateway whose client and network do what a test wants, and nothing at random."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import Message
from starlette.websockets import WebSocket

from kugel_bridge.gateway.generation import Generator
from kugel_bridge.gateway.limits import NoLimits
from kugel_bridge.gateway.sockets import Sockets
from tests.gateway_server import WAIT_S, ScriptedEngine


class ScriptedSocket:
    """Its client has said everything before it is listened to, and leaves behind that."""

    def __init__(
        self,
        path: str,
        messages: Sequence[str],
        *,
        on_receive: Callable[[], None] = lambda: None,
        is_broken: bool = False,
    ) -> None:
        self._path = path
        self._events: list[Message] = [{"type": "websocket.connect"}]
        self._events += [{"type": "websocket.receive", "text": text} for text in messages]
        self._events += [{"type": "websocket.disconnect", "code": 1006}]
        self._on_receive, self._is_broken = on_receive, is_broken
        self.sent: list[Message] = []
        self.leaves = asyncio.Event()
        """To be set for the client to leave."""

    async def serve(self, engine: ScriptedEngine, *, draining: bool = False) -> None:
        """Let the gateway talk with it to its end."""
        state = {"account": "open", "request_id": "req_1"}
        scope = {
            "type": "websocket",
            "path": self._path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "state": state,
        }
        sockets = Sockets(Generator(engine, max_characters=10_000), NoLimits())
        if draining:
            sockets.drain()
        async with asyncio.timeout(WAIT_S):
            await sockets.endpoint(WebSocket(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if len(self._events) == 1:
            await self.leaves.wait()
        self._on_receive()
        return self._events.pop(0)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        if self._is_broken and message["type"] == "websocket.send":
            raise OSError("the network is gone")
