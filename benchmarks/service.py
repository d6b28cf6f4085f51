"""A service that speaks at a pace of its own, as a process: `python -m benchmarks.service …`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from time import perf_counter

from websockets.asyncio.client import ClientConnection, connect

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from tests.broker import free_port
from tests.gateway_server import VOICES, hum, serving

PIECE_S = 0.2
"""The API's frames."""
WAIT_S = 60.0


class PacedEngine:
    """Hums for `length_s`, the first piece after `first_s`, then `speed` times as fast as it is
    played."""

    def __init__(self, first_s: float, length_s: float, speed: float) -> None:
        self._first_s, self._step_s = first_s, PIECE_S / speed
        self._count, self._piece = round(length_s / PIECE_S), hum(PIECE_S)

    async def voices(self) -> Sequence[Voice]:
        return VOICES

    async def voice(self, ident: int | str) -> Voice | None:
        return VoiceBook(VOICES).find(ident)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        return Spoken(SourceKind.LOCAL, self._pieces())

    async def _pieces(self) -> AsyncGenerator[PcmChunk, None]:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._first_s
        for _ in range(self._count):
            await asyncio.sleep(due_s - loop.time())
            yield self._piece
            due_s += self._step_s


@contextlib.asynccontextmanager
async def paced_service(first_s: float, length_s: float, speed: float) -> AsyncIterator[str]:
    """The service in a process of its own; its address."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.service", str(port)),
        *map(str, (first_s, length_s, speed)),
    )
    try:
        await reachable(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def reachable(port: int) -> None:
    """Return when somebody listens there."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def socket_to(url: str) -> AsyncIterator[ClientConnection]:
    """An open socket of /ws/tts."""
    async with connect(
        url.replace("http:", "ws:") + "/ws/tts", proxy=None, compression=None, close_timeout=1
    ) as socket:
        yield socket


async def first_audio_ms(socket: ClientConnection, text: str, voice: int | str = 1) -> float:
    """From the request to its first audio frame (ms); returns when all of it was sent."""
    request = json.dumps({"text": text, "voice_id": voice, "language": "en"})
    async with asyncio.timeout(WAIT_S):
        started_s = perf_counter()
        await socket.send(request)
        frame = str(await socket.recv())
        taken_ms = (perf_counter() - started_s) * 1000
        if '"audio"' not in frame:
            raise RuntimeError(f"no sound: {frame[:200]}")
        while '"final"' not in frame:
            frame = str(await socket.recv())
    return taken_ms


async def _serve(port: int, first_s: float, length_s: float, speed: float) -> None:
    async with serving(PacedEngine(first_s, length_s, speed), port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
