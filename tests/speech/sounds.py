"""Sound, phrases and sources for the tests of speech."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.phrase import PhraseKey

TEXT = "Es klingelt an der Haustür."


def noise(seconds: float, seed: int = 1) -> PcmChunk:
    """Sound that is not silent and nowhere like itself."""
    frames = SPEECH_FORMAT.frames_in(seconds)
    return PcmChunk(SPEECH_FORMAT, random.Random(seed).randbytes(2 * frames))


def pieces(seconds: float, count: int, seed: int = 1) -> list[PcmChunk]:
    """The same in `count` pieces."""
    return [noise(seconds / count, seed * 1000 + number) for number in range(count)]


def key(text: str = TEXT) -> PhraseKey:
    """A phrase."""
    return PhraseKey(text=text, source="test", voice="1", model="kugel-3.5", language="de")


def utterance(text: str = TEXT) -> Utterance:
    """A German one."""
    return Utterance(text=text, language="de")


async def heard(chunks: AsyncGenerator[PcmChunk, None]) -> bytes:
    """All its sound."""
    return b"".join([bytes(chunk.data) async for chunk in chunks])


async def until(what: Callable[[], Awaitable[bool] | bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(30):
        while True:
            so = what()
            if so if isinstance(so, bool) else await so:
                return
            await asyncio.sleep(0.005)


class ScriptedClient:
    """Stands where the cloud's client does: yields the given pieces, then raises, if told so."""

    def __init__(self, *chunks: PcmChunk, then: BridgeError | None = None) -> None:
        self.chunks, self.then = list(chunks), then
        self.available: BridgeError | None = None
        self.requests: list[SpeechRequest] = []
        self.gate = asyncio.Event()
        """Pieces after the first `free` ones wait for it."""
        self.gate.set()
        self.free = 0
        self.sent = 0
        self.closed = asyncio.Event()

    async def stream(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        self.requests.append(request)
        try:
            for number, chunk in enumerate(self.chunks):
                if number >= self.free:
                    await self.gate.wait()
                self.sent += 1
                yield chunk
            if self.then is not None:
                raise self.then
        finally:
            self.closed.set()


class ScriptedSource:
    """A local engine that says the given pieces, then raises, if told so."""

    kind = SourceKind.LOCAL

    def __init__(self, *chunks: PcmChunk, then: BridgeError | None = None) -> None:
        self.chunks, self.then = chunks, then
        self.closed = False

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        try:
            for chunk in self.chunks:
                yield chunk
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True
