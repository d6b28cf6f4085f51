"""The client of /ws/tts: one warm socket, one attempt for each request, deadlines everywhere.

A daemon cannot use the official SDK for this: it has no receive time-out, mixes the rest of an
abandoned request into the next one, and opens sockets per call (API reference, "Reuse and its
trap", "Traps in the SDK").
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import ssl
import unicodedata
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from kugel_bridge.kugelaudio.answer import Answer
from kugel_bridge.kugelaudio.connection import Connection, Connector, LostError
from kugel_bridge.kugelaudio.discretion import Discretion
from kugel_bridge.kugelaudio.frames import Finished, Frame, WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.kugelaudio.patience import Patience
from kugel_bridge.kugelaudio.standing import Standing
from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import BridgeError, TooSlowError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.status import CloudStatus

logger = logging.getLogger(__name__)

SHAKY_S = 1.0
"""A service that accepts and then closes has said its verdict by then."""
SETTLED_S = 10.0
"""Sockets that die younger than this are reopened with backoff."""
PING_INTERVAL_S = 15.0
"""NATs and proxies drop silent sockets after 20 to 30 s (API reference, "Rules common")."""
PING_TIMEOUT_S = 10.0
GRACE_S = 30.0
"""What a request may take beyond the length of its speech (API reference, "what to assume")."""
CHARACTERS_PER_S = 10.0
"""A slow speaker; for the bound on the whole request."""
_CLOCK = SystemClock()


class SpeechClient:
    """Speaks texts through one account, at most `max_generations` at a time, in order of arrival.

    `on_status` hears every change of how the service treats us, `on_usage` what each request cost.
    Raises ConfigurationError for a base URL or key that cannot work. The key appears in no log
    line, error or repr.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        model_id: str,
        connect_timeout_s: float,
        first_audio_timeout_s: float,
        stall_timeout_s: float,
        max_generations: int = 1,
        on_status: Callable[[CloudStatus], None] = lambda _: None,
        on_usage: Callable[[Usage], None] = lambda _: None,
        clock: Clock = _CLOCK,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._connector = Connector(
            base_url,
            api_key,
            model_id=model_id,
            timeout_s=connect_timeout_s,
            ssl_context=ssl_context,
        )
        self._discretion = Discretion(api_key)
        self._first_audio_timeout_s = first_audio_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._max_generations = max_generations
        self._on_status = on_status
        self._on_usage = on_usage
        self._clock = clock
        self._standing = Standing()
        self._told: CloudStatus | None = None
        self._slots = asyncio.Semaphore(max_generations)
        self._idle: Connection | None = None
        self._watched: set[Connection] = set()
        self._in_use = 0
        self._wake = asyncio.Event()
        self._warming_up = asyncio.Lock()
        self._background: asyncio.TaskGroup | None = None

    @property
    def available(self) -> BridgeError | None:
        """None when asking makes sense now; else why not, a RetryableError with the wait (s)."""
        if self._idle is not None and not self._standing.has_verdict:
            return None
        return self._standing.objection(self._now_s())

    @property
    def is_warm(self) -> bool:
        """Whether a socket is open and waiting for the next request."""
        return self._idle is not None

    def vet_with(self, vet: Callable[[Mapping[str, str]], Awaitable[None]]) -> None:
        """Have `vet` look at the headers of each answer that opens a socket.

        It raises a BridgeError for a socket that must not be used.
        """
        self._connector.vet = vet

    async def run(self) -> None:
        """Keep a socket open before it is needed, until cancelled.

        One that the service closes is reopened: at once if it was old, with backoff, jitter and
        the service's own wish if it was not.
        """
        async with asyncio.TaskGroup() as background:
            self._background = background
            try:
                while True:
                    await self._until_socket_is_wanted()
                    async with self._warming_up:
                        try:
                            connection = await self._open()
                        except BridgeError as error:
                            logger.debug("no warm socket: %s", error)
                        else:
                            self._keep(connection)
            finally:
                self._background = None
                if self._idle is not None:
                    idle, self._idle = self._idle, None
                    await idle.close()

    def stream(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        """Yield the sound of one request as it arrives; one attempt.

        Raises a BridgeError if there is none or if it breaks off. Closing the generator early
        drops the socket, so that nothing of this request can reach the next one.
        """
        sound: AsyncGenerator[Any, None] = self._pieces(request, sound_only=True)
        return sound

    def pieces(
        self, request: SpeechRequest
    ) -> AsyncGenerator[PcmChunk | WordTimings | Usage, None]:
        """Like `stream`, with the words if asked for, and at the end what the service charged."""
        return self._pieces(request, sound_only=False)

    async def _pieces(
        self, request: SpeechRequest, *, sound_only: bool
    ) -> AsyncGenerator[PcmChunk | WordTimings | Usage, None]:
        if not unicodedata.is_normalized("NFC", request.text):
            request = dataclasses.replace(request, text=unicodedata.normalize("NFC", request.text))
        async with self._slots:
            # Out of reach is worth a try when somebody asks; a verdict is not.
            if self._standing.has_verdict and (error := self._standing.objection(self._now_s())):
                raise error
            self._in_use += 1
            connection: Connection | None = None
            try:
                answer = Answer(request)
                patience = self._patience_for(request)
                connection, frame = await self._begin(request, patience)
                while not isinstance(frame, Finished):
                    piece = answer.add(frame)
                    if isinstance(piece, PcmChunk):
                        patience.heard()
                        yield piece
                    elif piece is not None and not sound_only:
                        yield piece
                    frame = await _next_frame(connection, patience)
                answer.end()
                self._standing.spoke()
                self._tell_status()
                if frame.usage is not None:
                    self._on_usage(frame.usage)
            except BridgeError as error:
                self._note(error)
                raise
            finally:
                self._in_use -= 1
                if connection is not None:
                    self._give_back(connection)
                self._wake.set()
        # Whoever takes his time with it holds up nobody.
        if frame.usage is not None and not sound_only:
            yield frame.usage

    def _patience_for(self, request: SpeechRequest) -> Patience:
        total_s = len(request.text) / CHARACTERS_PER_S + GRACE_S
        return Patience(self._first_audio_timeout_s, self._stall_timeout_s, total_s)

    async def _begin(
        self, request: SpeechRequest, patience: Patience
    ) -> tuple[Connection, Frame | None]:
        """Send the request and wait for the first frame, over the warm socket if there is one."""
        connection = await self._take_warm()
        if connection is not None:
            try:
                return connection, await self._ask(connection, request, patience)
            except LostError as error:
                # It had died unnoticed; no sound was received, so asking again repeats nothing.
                logger.debug("the warm socket was dead: %s", error)
        connection = await self._open()
        return connection, await self._ask(connection, request, patience)

    async def _ask(
        self, connection: Connection, request: SpeechRequest, patience: Patience
    ) -> Frame | None:
        try:
            await connection.say(request, patience.left_s)
            return await _next_frame(connection, patience)
        except BaseException:
            self._discard(connection)
            raise

    async def _open(self) -> Connection:
        try:
            connection = await self._connector.open()
        except BridgeError as error:
            self._note(error, connecting=True)
            raise
        if self._standing.trouble is None:
            self._standing.connected()
            self._tell_status()
        return connection

    async def _take_warm(self) -> Connection | None:
        if self._idle is None and self._warming_up.locked():
            # A handshake is under way: it will be done before one that starts now.
            async with self._warming_up:
                pass
            if self._idle is None and (error := self._standing.objection(self._now_s())):
                raise error
        connection, self._idle = self._idle, None
        if connection is None:
            return None
        try:
            if await connection.is_clean():
                return connection
        except asyncio.CancelledError:
            self._discard(connection)
            raise
        self._discard(connection)
        return None

    def _give_back(self, connection: Connection) -> None:
        if connection.reusable:
            self._keep(connection)
        else:
            self._discard(connection)

    def _keep(self, connection: Connection) -> None:
        """Make it the warm socket and watch over it; without `run` nobody could."""
        if self._idle is not None or self._background is None:
            self._discard(connection)
            return
        self._idle = connection
        if connection not in self._watched:
            self._watched.add(connection)
            self._background.create_task(self._watch(connection), name="kugelaudio socket")

    def _discard(self, connection: Connection) -> None:
        if self._background is None:
            connection.abort()
        else:
            # Saying goodbye takes a round trip, and nobody should have to wait for it.
            self._background.create_task(connection.leave(), name="kugelaudio farewell")

    async def _watch(self, connection: Connection) -> None:
        """Follow a socket to its end; reopen it if that came while nobody was using it."""
        try:
            end = await self._end_of(connection)
        finally:
            self._watched.discard(connection)
        if self._idle is connection:
            self._idle = None
            if connection.age_s < SETTLED_S or not isinstance(end, LostError):
                self._note(end, connecting=True)
            else:
                logger.debug("the idle socket was closed: %s", end)
            self._wake.set()

    async def _end_of(self, connection: Connection) -> BridgeError:
        for age_s, passed in (
            (SHAKY_S, self._standing.connected),
            (SETTLED_S, self._standing.settled),
        ):
            try:
                async with asyncio.timeout(max(0.0, age_s - connection.age_s)):
                    return await connection.wait_closed()
            except TimeoutError:
                passed()
                self._tell_status()
        while True:
            try:
                async with asyncio.timeout(PING_INTERVAL_S):
                    return await connection.wait_closed()
            except TimeoutError:
                await self._probe(connection)

    async def _probe(self, connection: Connection) -> None:
        """Drop the warm socket if nobody is at its other end any more."""
        if self._idle is not connection or await connection.answers(PING_TIMEOUT_S):
            return
        # While a request runs, its own deadlines decide: a pong may wait behind sound.
        if self._idle is connection:
            connection.abort()

    async def _until_socket_is_wanted(self) -> None:
        while True:
            self._wake.clear()
            now_s = self._now_s()
            self._standing.lapse(now_s)
            self._tell_status()
            wait_s: float | None = self._standing.wait_s(now_s)
            if self._idle is None and self._in_use < self._max_generations:
                if not wait_s:
                    return
            elif not self._standing.has_verdict:
                wait_s = None
            try:
                # A wait of 0 s would spin when a verdict is only lifted by the next request.
                async with asyncio.timeout(wait_s or None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _note(self, error: BridgeError, *, connecting: bool = False) -> None:
        if self._standing.knows(error):
            return
        self._discretion.keep(error)
        before = self._standing.status
        self._standing.failed(error, self._now_s(), connecting=connecting)
        level = logging.DEBUG if self._standing.status is before else logging.WARNING
        logger.log(level, "cloud: %s", error)
        self._tell_status()
        self._wake.set()

    def _tell_status(self) -> None:
        status = self._standing.status
        if status is not None and status is not self._told:
            self._told = status
            self._on_status(status)

    def _now_s(self) -> float:
        return self._clock.now().monotonic_s


async def _next_frame(connection: Connection, patience: Patience) -> Frame | None:
    left_s = patience.left_s
    if left_s <= 0:
        # Frames of no interest may keep coming without a pause.
        raise TooSlowError(patience.complaint)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        return await connection.receive(left_s)
    except TimeoutError as error:
        patience.waited(left_s)
        raise TooSlowError(patience.complaint) from error
    finally:
        patience.waited(loop.time() - started_s)
