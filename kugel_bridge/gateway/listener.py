"""uvicorn, embedded: no signals, no access log, no wake-ups ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

MAX_MESSAGE_BYTES = 256 * 1024
"""Room for the longest text with every character escaped."""
MAX_CONNECTIONS = 200
KEEP_ALIVE_S = 65
"""The official SDK keeps idle HTTP connections for 50 s."""
PING_TIMEOUT_S = 60
"""A client that plays as it reads answers a ping only after the sound sent before it."""
SHUTDOWN_S = 1
_TICK_S = 1.0


class Listener(uvicorn.Server):
    """Serves an application on a bound socket until cancelled."""

    def __init__(self, app: ASGIApp, is_up: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                ws_ping_timeout=PING_TIMEOUT_S,
                lifespan="off",
                # Below warnings uvicorn prints request lines, and with them keys.
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._is_up = is_up

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon around us."""
        yield

    async def main_loop(self) -> None:
        """Tell that requests are taken, then keep the Date header current."""
        self._is_up.set()
        while True:
            await self.on_tick(0)
            await asyncio.sleep(_TICK_S)

    async def listen(
        self, bound: socket.socket, before_end: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Serve until cancelled, run `before_end`, close what is still open with 1012."""
        try:
            await self.serve(sockets=[bound])
        finally:
            if self.started:
                await before_end()
                await self.shutdown(sockets=[bound])
