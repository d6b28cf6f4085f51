"""/ws/tts as a server: requests in order, frames of 200 ms, one end for each request."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from starlette.websockets import WebSocket, WebSocketDisconnect

from kugel_bridge.gateway.delivery import Delivery
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Model, Voice
from kugel_bridge.kugelaudio.codes import (
    EMPTY_AUDIO,
    GENERATION_FAILED,
    INVALID_JSON,
    INVALID_REQUEST,
    MODEL_UNAVAILABLE,
    RATE_LIMITED,
    TEXT_TOO_LONG,
    VOICE_NOT_FOUND,
    Refusal,
)
from kugel_bridge.kugelaudio.messages import (
    MODEL_IDS,
    Cancel,
    SpeechRequest,
    UpdateSettings,
    Usage,
    parse_message,
)
from kugel_bridge.kugelaudio.session import ServerSession
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
)

logger = logging.getLogger(__name__)

MAX_WAITING = 16
"""Requests that may wait on one socket; whoever sends more does not read the answers."""
AI_GENERATED = (b"x-kugelaudio-ai-generated", b"true")
GONE = (WebSocketDisconnect, RuntimeError)
"""What Starlette raises at a send after the client left, or after our own close frame."""
CLOSE_RESTARTING = 1012
CLOSE_DRAINING = 1013
CLOSE_RATE_LIMITED = 4029


class SpeechSockets:
    """All sockets of /ws/tts, and how they end when the server does."""

    def __init__(self, engine: Engine, voices: VoiceBook, models: tuple[Model, ...]) -> None:
        self._engine = engine
        self._voices = voices
        self._max_characters = models[0].max_input_characters
        self._draining = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._open = 0

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serve one socket until it ends."""
        await websocket.accept(headers=[AI_GENERATED])
        if self._draining.is_set():
            await websocket.close(CLOSE_DRAINING)
            return
        self._open += 1
        self._is_empty.clear()
        try:
            await _SpeechSocket(
                websocket, self._engine, self._voices, self._max_characters, self._draining
            ).serve()
        finally:
            self._open -= 1
            if not self._open:
                self._is_empty.set()

    async def drain(self, grace_s: float) -> None:
        """Close idle sockets with 1012 at once and busy ones after their turn.

        Returns when all are gone, or after `grace_s` (s).
        """
        self._draining.set()
        try:
            async with asyncio.timeout(grace_s):
                await self._is_empty.wait()
        except TimeoutError:
            logger.debug("%d sockets are cut off", self._open)


class _SpeechSocket:
    def __init__(
        self,
        websocket: WebSocket,
        engine: Engine,
        voices: VoiceBook,
        max_characters: int,
        draining: asyncio.Event,
    ) -> None:
        self._websocket = websocket
        self._engine = engine
        self._voices = voices
        self._max_characters = max_characters
        self._draining = draining
        self._session = ServerSession()
        self._waiting: asyncio.Queue[SpeechRequest | UpdateSettings | Refusal] = asyncio.Queue(
            MAX_WAITING
        )
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._speaking: asyncio.Task[None] | None = None

    async def serve(self) -> None:
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
        while True:
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            try:
                message = parse_message(event.get("text") or event.get("bytes") or "", settings)
            except ProtocolError:
                message = INVALID_JSON
            if isinstance(message, Cancel):
                await self._cancel()
                continue
            if isinstance(message, UpdateSettings):
                settings = settings.updated(message.settings)
            self._is_idle.clear()
            try:
                self._waiting.put_nowait(message)
            except asyncio.QueueFull:
                await self._send(RATE_LIMITED.to_json())
                await self._close(CLOSE_RATE_LIMITED)
                return

    async def _cancel(self) -> None:
        if self._speaking is not None and not self._speaking.done():
            # The worker answers, once nothing of the request can follow.
            self._speaking.cancel()
        else:
            await self._send(self._session.interrupt())

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await self._waiting.get()
            match message:
                case SpeechRequest():
                    await self._answer(message, tasks)
                case UpdateSettings():
                    await self._send(self._session.update(message.settings))
                case Refusal():
                    await self._send(self._session.refuse(message))
            if self._waiting.empty():
                self._is_idle.set()

    async def _answer(self, request: SpeechRequest, tasks: asyncio.TaskGroup) -> None:
        voice = self._checked(request)
        if isinstance(voice, Refusal):
            await self._send(self._session.refuse(voice))
            return
        self._session.begin(request)
        self._speaking = tasks.create_task(self._speak(request, voice), name="gateway speech")
        await asyncio.wait([self._speaking])
        if self._speaking.cancelled():
            await self._send(self._session.interrupt())

    def _checked(self, request: SpeechRequest) -> Voice | Refusal:
        if len(request.text) > self._max_characters:
            return TEXT_TOO_LONG
        if request.model_id not in MODEL_IDS:
            return INVALID_REQUEST
        assert request.voice_id is not None  # the parser refuses requests without
        return self._voices.find(request.voice_id) or VOICE_NOT_FOUND

    async def _speak(self, request: SpeechRequest, voice: Voice) -> None:
        try:
            end = await self._generate(request, voice)
        except BridgeError as error:
            logger.warning("a request of %d characters failed: %s", len(request.text), error)
            end = self._session.refuse(_refusal_for(error))
        except WebSocketDisconnect:
            return
        except Exception:
            logger.exception("a request of %d characters failed", len(request.text))
            end = self._session.refuse(GENERATION_FAILED)
        await self._send(end)

    async def _generate(self, request: SpeechRequest, voice: Voice) -> str:
        """Send the sound; the frame that ends the request comes back."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        first_audio_ms: float | None = None
        delivery = Delivery(request)
        # Without a language the API takes the voice's own, else English.
        language = request.language or next(iter(voice.languages), "en")
        stream = self._engine.stream(request.text, voice, language, request.speed)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                for data in delivery.add(chunk):
                    if first_audio_ms is None:
                        first_audio_ms = (loop.time() - started_s) * 1000
                    await self._websocket.send_text(self._session.audio(data))
        for data in delivery.end():
            await self._websocket.send_text(self._session.audio(data))
        if not self._session.frames:
            return self._session.refuse(EMPTY_AUDIO)
        return self._session.finish(
            samples=delivery.made_samples,
            rate=delivery.made_rate,
            gen_ms=(loop.time() - started_s) * 1000,
            first_audio_ms=first_audio_ms,
            usage=Usage(
                audio_s=round(delivery.made_s, 3),
                characters=len(request.text),
                cost_cents=0.0,
                currency="eur",
                model_id=request.model_id,
            ),
        )

    async def _leave_when_draining(self) -> None:
        await self._draining.wait()
        await self._is_idle.wait()
        await self._close(CLOSE_RESTARTING)

    async def _send(self, text: str) -> None:
        try:
            await self._websocket.send_text(text)
        except GONE:
            logger.debug("a client left before its answer")

    async def _close(self, code: int) -> None:
        try:
            await self._websocket.close(code)
        except GONE:
            logger.debug("a client left by itself")


def _refusal_for(error: BridgeError) -> Refusal:
    match error:
        case RateLimitedError():
            return RATE_LIMITED
        case InvalidRequestError():
            return INVALID_REQUEST
        case ServiceUnavailableError():
            return MODEL_UNAVAILABLE
        case _:
            return GENERATION_FAILED
