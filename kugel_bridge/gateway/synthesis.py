"""POST /v1/tts/generate: a text in, its sound out as it is made.

Source: API reference, "POST /v1/tts/generate".
"""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from kugel_bridge.gateway.body import body_of, refused_media
from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.gateway.generation import FailedError, Generator, granted
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.outlet import GoneError
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import (
    GENERATION_FAILED,
    INVALID_JSON,
    MODEL_UNAVAILABLE,
    RESTART_RETRY_S,
    Refusal,
)
from kugel_bridge.kugelaudio.frames import MAX_FALLBACK_CHARACTERS, WordTimings
from kugel_bridge.kugelaudio.messages import (
    Encoding,
    SpeechRequest,
    Usage,
    broken_off,
    invalid,
    parse_message,
)
from kugel_bridge.kugelaudio.wire import read_object
from kugel_bridge.model.errors import ProtocolError

logger = logging.getLogger(__name__)

# fmt: off
FIELDS = frozenset((
    "text", "model_id", "model", "voice_id", "cfg_scale", "temperature", "max_new_tokens",
    "sample_rate", "output_format", "normalize", "language", "speed", "project_id",
    "dictionary_ids",
))
# fmt: on
SOCKET_FIELDS = frozenset({"word_timestamps", "speaker_prefix"})
"""Known to the API, on its WebSockets."""
SOURCE = "X-Kugel-Bridge-Source"
FALLBACK = "X-Kugel-Bridge-Fallback"


class Synthesis:
    """An ASGI application for one path; it speaks one text for each request.

    Sending waits until the client has read, so the engine is never far ahead of it; a client that
    reads nothing at all is hung up on by `reception`.
    """

    def __init__(self, generator: Generator, limits: Limits) -> None:
        self._generator, self._limits = generator, limits
        self._is_draining = False

    def drain(self) -> None:
        """Take no further request: the server ends."""
        self._is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose client has left ends at once."""
        request = Request(scope, receive)
        try:
            wanted = await self._wanted(request)
        except ClientDisconnect:
            return
        if isinstance(wanted, Refusal):
            await refusal_response(wanted)(scope, receive, send)
            return
        answer = _Answer(wanted[0], send)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_raise_when_gone(receive), name="gateway client")
                try:
                    await self._speak(*wanted, answer, request.state.account)
                finally:
                    watch.cancel()
        except* GoneError:
            logger.info("a client left before all of its %d characters", len(wanted[0].text))
        except* FailedError as group:
            await self._fail(_refusal_in(group), answer, scope, receive, send)

    async def _wanted(self, request: Request) -> tuple[SpeechRequest, Voice] | Refusal:
        if self._is_draining:
            return MODEL_UNAVAILABLE.waiting(RESTART_RETRY_S)
        refusal = refused_media(request.headers)
        if refusal is not None:
            return refusal
        body = await body_of(request)
        wanted = body if isinstance(body, Refusal) else parse_body(body)
        if isinstance(wanted, Refusal):
            return wanted
        voice = await self._generator.checked(wanted)
        return voice if isinstance(voice, Refusal) else (wanted, voice)

    async def _speak(
        self, wanted: SpeechRequest, voice: Voice, answer: _Answer, account: str
    ) -> None:
        ticket = granted(self._limits.begin(account))
        try:
            granted(ticket.spend(len(wanted.text)))
            made = await self._generator.make(wanted, voice, answer.deliver, answer.begin)
            # On record before the client is told: what it was told then is never lost.
            await ticket.end(made.usage)
            await answer.end()
        finally:
            # Sound that was sent is used up, also where the client left in the middle of it.
            await ticket.end(answer.usage)

    async def _fail(
        self, refusal: Refusal, answer: _Answer, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not answer.has_started:
            await refusal_response(refusal)(scope, receive, send)
            return
        # Returning without an end closes the connection in the middle of the chunked body, the
        # only sign there is: the status went out with the first sound.
        logger.warning("the sound of a request breaks off: %s", refusal.message)


class _Answer:
    """The answer to one request; its head goes out with the first sound."""

    def __init__(self, request: SpeechRequest, send: Send) -> None:
        self._request, self._send = request, send
        self._encoding, self._rate = request.delivery
        self._spoken: Spoken | None = None
        self._bytes = 0
        self.has_started = False

    @property
    def usage(self) -> Usage | None:
        """What was delivered so far, None if nothing was."""
        seconds = self._bytes / self._encoding.sample_bytes / self._rate
        source = None if self._spoken is None else self._spoken.source
        return broken_off(seconds, len(self._request.text), self._request.model_id, source)

    def begin(self, spoken: Spoken) -> None:
        """Note who speaks."""
        self._spoken = spoken

    async def deliver(self, piece: bytes | WordTimings) -> None:
        """Send sound."""
        if isinstance(piece, WordTimings):
            return
        if not self.has_started:
            self.has_started = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": self._head()}
            )
        self._bytes += len(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """Tell the client that this was all."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _head(self) -> list[tuple[bytes, bytes]]:
        headers = {
            "Content-Type": "audio/pcm" if self._encoding is Encoding.PCM else "audio/basic",
            "X-Sample-Rate": str(self._rate),
            "X-Audio-Format": self._encoding.value,
            "X-KugelAudio-AI-Generated": "true",
            "Cache-Control": "no-store",
        }
        if self._spoken is not None:
            headers[SOURCE] = self._spoken.source.value
            if self._spoken.reason:
                headers[FALLBACK] = _header_text(self._spoken.reason)
        return [(name.lower().encode(), value.encode("ascii")) for name, value in headers.items()]


def parse_body(body: bytes) -> SpeechRequest | Refusal:
    """The request in a body; unlike on the sockets a field that is unknown is refused."""
    try:
        fields = read_object(body)
    except ProtocolError:
        return INVALID_JSON
    for name in fields:
        if name in SOCKET_FIELDS:
            return invalid(f"{name} is for WebSockets only")
        if name not in FIELDS:
            return invalid(f"unknown field {name[:40]!a}")
    if "model" in fields and "model_id" in fields:
        return invalid("model and model_id exclude each other; send model_id")
    if fields.get("model_id") == "" or fields.get("model") == "":
        return invalid("model_id is empty")
    parsed = parse_message(body)
    assert isinstance(parsed, SpeechRequest | Refusal), "the other messages have other fields"
    return parsed


async def _raise_when_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise GoneError("the client left")


def _refusal_in(group: BaseExceptionGroup[FailedError]) -> Refusal:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.refusal if isinstance(error, FailedError) else GENERATION_FAILED


def _header_text(text: str) -> str:
    """Fit for a header: printable ASCII in one line."""
    cut = text[:MAX_FALLBACK_CHARACTERS]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in cut)
