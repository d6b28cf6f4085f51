"""A speech service that does whatever a test tells it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.frames import AudioFrame, Finished
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest, Usage
from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.status import CloudStatus

KEY = "ka_very-secret.key"
WAIT_S = 30.0
"""Bound on everything that tests wait for; only a hang gets there."""
SHORT_S = 0.2
"""A deadline that a test can wait for."""
HELLO = SpeechRequest("Hello there.", "en", 1)


def sound(value: int = 1, samples: int = 480) -> str:
    """An audio frame whose samples all are `value`."""
    data = value.to_bytes(2, "little", signed=True) * samples
    return AudioFrame(data, Encoding.PCM, 24_000).to_json()


FINAL = Finished(usage=Usage(0.02, 12, 0.1, "eur", "kugel-3.5")).to_json()

Script = Callable[[ServerConnection], Awaitable[None]]
Refuser = Callable[[ServerConnection, Request], Response | Awaitable[Response | None] | None]


async def speak(socket: ServerConnection) -> None:
    """The well-behaved service: two frames and an end for every request."""
    async for _ in socket:
        for frame in (sound(), sound(), FINAL):
            await socket.send(frame)


def answering(
    status: int, body: bytes = b"", **headers: str
) -> Callable[[ServerConnection, Request], Response]:
    """Refuse every upgrade."""

    def refuse(_: ServerConnection, __: Request) -> Response:
        fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        fields["Content-Length"] = str(len(body))
        return Response(status, http.HTTPStatus(status).phrase, fields, body)

    return refuse


async def silence(socket: ServerConnection) -> None:
    """Take requests and say nothing; pings are answered by the library."""
    async for _ in socket:
        pass


@dataclass
class Service:
    """What the service does with each connection, and what it has seen."""

    script: Script = speak
    refuse: Refuser = lambda _c, _r: None
    upgrades: list[Request] = field(default_factory=list)
    open: set[ServerConnection] = field(default_factory=set)
    port: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _process(
        self, connection: ServerConnection, request: Request
    ) -> Response | Awaitable[Response | None] | None:
        self.upgrades.append(request)
        return self.refuse(connection, request)

    async def _handle(self, connection: ServerConnection) -> None:
        await self._note(lambda: self.open.add(connection))
        try:
            with contextlib.suppress(ConnectionClosed):
                await self.script(connection)
                await connection.wait_closed()
        finally:
            await self._note(lambda: self.open.discard(connection))

    async def _note(self, change: Callable[[], None]) -> None:
        async with self.changed:
            change()
            self.changed.notify_all()

    async def until_open(self, count: int) -> None:
        """Return when exactly `count` sockets are open."""
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(lambda: len(self.open) == count)


@asynccontextmanager
async def service(script: Script = speak) -> AsyncIterator[Service]:
    """The service on a free loopback port."""
    it = Service(script)
    async with serve(
        it._handle,
        "127.0.0.1",
        0,
        process_request=it._process,
        compression=None,
        close_timeout=1,
        # The service's own log of requests is not what tests look into.
        logger=_silent_logger(),
    ) as server:
        it.port = next(iter(server.sockets)).getsockname()[1]
        yield it


def _silent_logger() -> logging.Logger:
    logger = logging.Logger("scripted service")  # noqa: LOG001 - outside the tree
    logger.disabled = True
    return logger


@dataclass
class News:
    """What a client told about itself."""

    statuses: list[CloudStatus] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_status(self, status: CloudStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    async def until(self, status: CloudStatus) -> None:
        """Return when the last status is `status`."""
        async with asyncio.timeout(WAIT_S):
            while not self.statuses or self.statuses[-1] is not status:
                self._changed.clear()
                await self._changed.wait()


def client_of(
    url: str,
    news: News | None = None,
    *,
    connect_timeout_s: float = 5.0,
    first_audio_timeout_s: float = 5.0,
    stall_timeout_s: float = 5.0,
    max_generations: int = 1,
    clock: Clock | None = None,
) -> SpeechClient:
    """A client with generous deadlines, where a test does not ask for short ones."""
    news = news or News()
    return SpeechClient(
        url,
        KEY,
        model_id="kugel-3.5",
        connect_timeout_s=connect_timeout_s,
        first_audio_timeout_s=first_audio_timeout_s,
        stall_timeout_s=stall_timeout_s,
        max_generations=max_generations,
        on_status=news.on_status,
        on_usage=news.usages.append,
        clock=clock or SystemClock(),
    )


@asynccontextmanager
async def running(client: SpeechClient) -> AsyncIterator[SpeechClient]:
    """The client with its background work."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(client.run())
        try:
            yield client
        finally:
            task.cancel()


async def said(client: SpeechClient, request: SpeechRequest = HELLO) -> list[PcmChunk]:
    """All sound of a request."""
    async with asyncio.timeout(WAIT_S):
        return [chunk async for chunk in client.stream(request)]


async def failure(client: SpeechClient, request: SpeechRequest = HELLO) -> BridgeError:
    """The error that a request ends with."""
    try:
        await said(client, request)
    except BridgeError as error:
        return error
    raise AssertionError("the request succeeded")
