"""The gateway on a free loopback port, in the cloud's place, with an engine that tests command."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kugel_bridge.gateway.engine import Engine, Spoken
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.orders import Order
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind

WAIT_S = 30.0
"""Bound on everything that tests wait for; only a hang gets there."""

VOICES = (
    Voice(1, "Anna", "anna", ("en", "de"), sex="female", age="middle_age", is_public=True),
    Voice(2, "Bert", "bert", ("de",), sex="male", age="old", category="premade", is_public=True),
    Voice(3, "Cleo", "cleo", ("fr",), sex="neutral", age="young", category="cloned"),
)


def hum(seconds: float, pcm: PcmFormat = SPEECH_FORMAT, pitch: float = 220.0) -> PcmChunk:
    """A sine of `seconds` (s)."""
    turn = 2 * math.pi * pitch / pcm.rate
    samples = [int(8000 * math.sin(turn * n)) for n in range(pcm.frames_in(seconds))]
    return PcmChunk(pcm, struct.pack(f"<{len(samples)}h", *samples))


@dataclass
class ScriptedEngine:
    """Speaks the same chunks for every text, then raises `then`, if any; notes what it was asked.

    With `hold` set it waits for that event after the first chunk.
    """

    chunks: Sequence[PcmChunk] = field(default_factory=lambda: [hum(0.25), hum(0.25)])
    then: BridgeError | Exception | None = None
    hold: asyncio.Event | None = None
    asked: list[tuple[str, str, str, float]] = field(default_factory=list)
    requests: list[SpeechRequest] = field(default_factory=list)
    ended: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a stream has ended, however it did."""

    async def voices(self) -> Sequence[Voice]:
        return VOICES

    async def voice(self, ident: int | str) -> Voice | None:
        return VoiceBook(VOICES).find(ident)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        self.asked.append((request.text, voice.name, language, request.speed))
        self.requests.append(request)
        return Spoken(SourceKind.LOCAL, self._pieces())

    async def _pieces(self) -> AsyncGenerator[PcmChunk, None]:
        try:
            for number, chunk in enumerate(self.chunks):
                yield chunk
                if self.hold is not None and number == 0:
                    await self.hold.wait()
            if self.then is not None:
                raise self.then
        finally:
            self.ended += 1
            self.over.set()


@asynccontextmanager
async def serving(
    engine: Engine,
    *,
    keys: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    max_characters: int = 10_000,
    grace_s: float = 1.0,
    limits: Limits | None = None,
    ledger: Ledger | None = None,
    open_to_all: bool = False,
    faults: Sequence[Order] | None = None,
) -> AsyncIterator[GatewayServer]:
    """A gateway that runs inside the block."""
    server = GatewayServer(
        host=host,
        port=port,
        keys=keys,
        engine=engine,
        limits=limits,
        ledger=ledger,
        open_to_all=open_to_all,
        max_characters=max_characters,
        grace_s=grace_s,
        faults=faults,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        async with asyncio.timeout(WAIT_S):
            await server.up()
        yield server
        running.cancel()
