"""/ws/tts as a server: requests in order, frames of 200 ms, one end for each request."""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.generation import FailedError, Generator, granted
from kugel_bridge.gateway.inlet import MAX_WAITING, heard
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.outlet import GoneError, Outlet
from kugel_bridge.kugelaudio.codes import (
    CLOSE_RESTARTING,
    GENERATION_FAILED,
    INVALID_JSON,
    RATE_LIMITED,
    Refusal,
)
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import (
    BINARY_MESSAGE,
    DEFAULT_MODEL,
    Cancel,
    ClientMessage,
    Settings,
    SpeechRequest,
    UpdateSettings,
    parse_message,
)
from kugel_bridge.kugelaudio.session import ServerSession
from kugel_bridge.model.errors import ProtocolError

logger = logging.getLogger(__name__)


class SingleSocket:
    """One socket of /ws/tts."""

    def __init__(
        self,
        websocket: WebSocket,
        outlet: Outlet,
        generator: Generator,
        limits: Limits,
        account: str,
        draining: asyncio.Event,
    ) -> None:
        self._websocket, self._outlet = websocket, outlet
        self._generator, self._limits, self._account = generator, limits, account
        self._draining = draining
        self._request_id: str = websocket.state.request_id
        self._session = ServerSession(self._request_id)
        self._waiting: asyncio.Queue[SpeechRequest | UpdateSettings | Refusal] = asyncio.Queue(
            MAX_WAITING
        )
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._requests = 0
        """In the queue."""
        self._drops_next = False
        self._speaking: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Talk until the socket ends."""
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self._work(tasks), name="gateway requests"),
                tasks.create_task(self._leave_when_draining(), name="gateway draining"),
            ]
            try:
                await self._read()
            finally:
                for task in [*others, *([self._speaking] if self._speaking else [])]:
                    task.cancel()

    async def _read(self) -> None:
        """Take in messages until the socket ends; cancelling is not queued behind requests."""
        # Requests get the settings of the moment they came in.
        settings = self._session.settings
        model_id = self._websocket.query_params.get("model_id") or DEFAULT_MODEL
        while (data := await heard(self._websocket)) is not None:
            message = _message(data, settings, model_id)
            if isinstance(message, Cancel):
                await self._cancel()
                continue
            if isinstance(message, UpdateSettings):
                settings = settings.updated(message.settings)
            self._is_idle.clear()
            self._requests += isinstance(message, SpeechRequest)
            try:
                self._waiting.put_nowait(message)
            except asyncio.QueueFull:
                await self._outlet.say(RATE_LIMITED.to_json(request_id=self._request_id))
                await self._outlet.close(RATE_LIMITED.close_code)
                return

    async def _cancel(self) -> None:
        if self._speaking is not None and not self._speaking.done():
            # The worker answers, once nothing of the request can follow.
            self._speaking.cancel()
        elif self._requests:
            # It came in just before and its turn is now; what is cancelled must never be heard.
            self._drops_next = True
        else:
            await self._outlet.say(self._session.interrupt())

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await self._waiting.get()
            match message:
                case SpeechRequest():
                    await self._answer(message, tasks)
                case UpdateSettings():
                    await self._outlet.say(self._session.update(message.settings))
                case Refusal():
                    await self._outlet.say(self._session.refuse(message))
            if self._waiting.empty():
                self._is_idle.set()

    async def _answer(self, request: SpeechRequest, tasks: asyncio.TaskGroup) -> None:
        self._session.begin(request)
        self._requests -= 1
        if self._drops_next:
            self._drops_next = False
            await self._outlet.say(self._session.interrupt())
            return
        self._speaking = tasks.create_task(self._speak(request), name="gateway speech")
        await asyncio.wait([self._speaking])
        if self._speaking.cancelled():
            await self._outlet.say(self._session.interrupt())

    async def _speak(self, request: SpeechRequest) -> None:
        try:
            end = await self._spoken(request)
        except FailedError as error:
            end = self._session.refuse(error.refusal)
        except GoneError:
            self._session.interrupt()
            return
        except Exception:
            logger.exception("a request of %d characters failed", len(request.text))
            end = self._session.refuse(GENERATION_FAILED)
        await self._outlet.say(end)

    async def _spoken(self, request: SpeechRequest) -> str:
        """Send the sound; the frame that ends the request comes back."""
        voice = granted(await self._generator.checked(request))
        ticket = granted(self._limits.begin(self._account))
        try:
            granted(ticket.spend(len(request.text)))
            made = await self._generator.make(request, voice, self._deliver, self._begun)
            # On record before the client is told: what it was told then is never lost.
            await ticket.end(made.usage)
        finally:
            # Sound that was sent is used up, also where the rest of it failed or was cancelled.
            await ticket.end(self._session.sent)
        return self._session.finish(
            made_s=made.seconds,
            gen_ms=made.gen_ms,
            first_audio_ms=made.first_audio_ms,
            usage=made.usage,
        )

    def _begun(self, spoken: Spoken) -> None:
        self._session.spoken_by(spoken.source, spoken.reason)

    async def _deliver(self, piece: bytes | WordTimings) -> None:
        session = self._session
        await self._outlet.send(
            session.words(piece) if isinstance(piece, WordTimings) else session.audio(piece)
        )

    async def _leave_when_draining(self) -> None:
        await self._draining.wait()
        await self._is_idle.wait()
        await self._outlet.close(CLOSE_RESTARTING)


def _message(data: str | bytes, defaults: Settings, model_id: str) -> ClientMessage | Refusal:
    if isinstance(data, bytes):
        return BINARY_MESSAGE
    try:
        return parse_message(data, defaults, model_id)
    except ProtocolError:
        return INVALID_JSON
