"""uvicorn, embedded: no signals, no access log, no wake-ups ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import resource
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from kugel_bridge.gateway.cable import Cable
from kugel_bridge.gateway.gate import deny, headers_for, new_request_id, refusal_response
from kugel_bridge.gateway.reception import HttpReception, SocketReception, Waiting
from kugel_bridge.kugelaudio.codes import MODEL_UNAVAILABLE

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
LAST_WORDS_S = 0.4
"""At the end, for what is cut off: to be told so, and to put on record what was sent."""
CANCELLED_S = 0.1
"""For what does not even end then."""
_TICK_S = 1.0
_FULL = dataclasses.replace(
    MODEL_UNAVAILABLE,
    message="There are too many connections. Please try again shortly.",
    retry_after_s=1.0,
)


def most_connections() -> int:
    """How many this process can serve: half of the files it may open, as far as it needs them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # An unlimited number is -1.
    return MAX_CONNECTIONS if files < 0 else max(4, min(MAX_CONNECTIONS, files // 2))


class Listener(uvicorn.Server):
    """Serves an application on a bound socket until cancelled."""

    def __init__(self, app: ASGIApp, is_up: asyncio.Event) -> None:
        self._app, self._most = app, most_connections()
        reception = functools.partial(HttpReception, waiting=Waiting(self._most // 2))
        super().__init__(
            uvicorn.Config(
                self._serve_if_room,
                interface="asgi3",
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
                timeout_keep_alive=KEEP_ALIVE_S,
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

    async def listen(self, bound: socket.socket, drain: Callable[[], None], grace_s: float) -> None:
        """Serve until cancelled, then call `drain` and let what is under way end by itself.

        What has not ended after `grace_s` (s) is cut off, sockets with 1012.
        """
        self._bound = bound
        try:
            await self.serve(sockets=[bound])
        finally:
            if self.started:
                drain()
                if tasks := self.server_state.tasks:
                    await asyncio.wait(set(tasks), timeout=grace_s)
                await self._cut_off()

    async def _cut_off(self) -> None:
        """Take nothing new and end what there is.

        uvicorn's own way looks ten times a second, tells an error when it has waited in vain, and
        does not wait for what it cancels.
        """
        for server in self.servers:
            server.close()
        cables = []
        for connection in list(self.server_state.connections):
            assert isinstance(connection.transport, Cable)
            cables.append(connection.transport)
            if isinstance(connection, SocketReception):
                connection.shutdown()
            elif isinstance(connection, HttpReception) and connection.is_answering:
                # Its request takes this for a client that has left.
                connection.transport.abort()
            else:
                connection.transport.close()
        tasks = self.server_state.tasks
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                for cable in cables:
                    await cable.lost.wait()
                while tasks:
                    await asyncio.wait(set(tasks))
        for cable in cables:
            cable.abort()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks), timeout=CANCELLED_S)

    async def _serve_if_room(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, or a 503; uvicorn's own limit knows no WebSockets."""
        if len(self.server_state.connections) < self._most:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = {**headers_for(new_request_id()), "Connection": "close"}
            await refusal_response(_FULL, headers)(scope, receive, send)
        else:
            await deny(WebSocket(scope, receive, send), _FULL, headers_for(new_request_id()))
