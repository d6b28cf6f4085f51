"""All WebSockets of the gateway: let in, counted, and sent away when the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.websockets import WebSocket

from kugel_bridge.gateway.contexts import MultiSocket
from kugel_bridge.gateway.gate import deny
from kugel_bridge.gateway.generation import Generator
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.outlet import Outlet
from kugel_bridge.gateway.single import SingleSocket
from kugel_bridge.gateway.turns import StreamSocket
from kugel_bridge.kugelaudio.codes import CLOSE_ELSEWHERE, Refusal

AI_GENERATED = (b"x-kugelaudio-ai-generated", b"true")


class Conversation(Protocol):
    """One socket's own way to talk; lives as long as the socket."""

    async def serve(self) -> None:
        """Talk until the socket ends; once the server drains, close with 1012 when idle."""


MakeConversation = Callable[
    [WebSocket, Outlet, Generator, Limits, str, asyncio.Event], Conversation
]
"""From the socket, its way out, the maker of sound, the limits, the account, and the event that
tells that the server ends."""

PATHS: dict[str, MakeConversation] = {
    "/ws/tts": SingleSocket,
    "/ws/tts/stream": StreamSocket,
    "/ws/tts/multi": MultiSocket,
}


class Sockets:
    """Every open socket, and how they end when the server does."""

    def __init__(self, generator: Generator, limits: Limits) -> None:
        self._generator, self._limits = generator, limits
        self._draining = asyncio.Event()
        self.open = 0
        """How many there are."""

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serve one socket until it ends."""
        account: str = websocket.state.account
        refusal = self._limits.open_socket(account)
        if isinstance(refusal, Refusal):
            await deny(websocket, refusal)
            return
        self.open += 1
        try:
            await websocket.accept(headers=[AI_GENERATED])
            outlet = Outlet(websocket)
            if self._draining.is_set():
                await outlet.close(CLOSE_ELSEWHERE)
                return
            make = PATHS[websocket.url.path]
            await make(
                websocket, outlet, self._generator, self._limits, account, self._draining
            ).serve()
        finally:
            self._limits.close_socket(account)
            self.open -= 1

    def drain(self) -> None:
        """Close idle sockets with 1012 at once and busy ones after their turn."""
        self._draining.set()
