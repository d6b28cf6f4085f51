"""uvicorn, embedded: no signals, no access log, no wake-ups ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from kugel_bridge.gateway.reception import HttpReception, SocketReception, Waiting

MAX_MESSAGE_BYTES = 1024 * 1024
"""As the API's own sockets; the longest text with every character escaped takes a tenth of it."""
MAX_CONNECTIONS = 512
"""Of all kinds; half of them may be without a request."""
BACKLOG = 1024
"""Connections that the kernel keeps ready: a flood must not crowd out the SYN of another client."""
_ACCEPTED_AT_ONCE = 16
"""asyncio accepts a whole backlog before it reads from any of them: by the time it reads, the
first of them would have been displaced by the last."""
KEEP_ALIVE_S = 65
"""The official SDK keeps idle HTTP connections for 50 s."""
PING_TIMEOUT_S = 60
"""A client that plays as it reads answers a ping only after the sound sent before it."""
SHUTDOWN_S = 1
_TICK_S = 1.0


def most_connections() -> int:
    """How many this process can serve: half of the files it may open, as far as it needs them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # An unlimited number is -1.
    return MAX_CONNECTIONS if files < 0 else max(4, min(MAX_CONNECTIONS, files // 2))


class Listener(uvicorn.Server):
    """Serves an application on a bound socket until cancelled."""

    def __init__(self, app: ASGIApp, is_up: asyncio.Event) -> None:
        most = most_connections()
        reception = functools.partial(HttpReception, waiting=Waiting(most // 2))
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], reception),
                ws=SocketReception,
                backlog=_ACCEPTED_AT_ONCE,
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
                limit_concurrency=most,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._is_up = is_up
        self._bound: socket.socket

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon around us."""
        yield

    async def main_loop(self) -> None:
        """Tell that requests are taken, then keep the Date header current."""
        # asyncio has made the kernel's queue as short as its own turns; a second call changes it.
        self._bound.listen(BACKLOG)
        self._is_up.set()
        while True:
            await self.on_tick(0)
            await asyncio.sleep(_TICK_S)

    async def listen(
        self, bound: socket.socket, before_end: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Serve until cancelled, run `before_end`, close what is still open with 1012."""
        self._bound = bound
        try:
            await self.serve(sockets=[bound])
        finally:
            if self.started:
                await before_end()
                await self.shutdown(sockets=[bound])
                self._cut_off_the_rest()

    def _cut_off_the_rest(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
