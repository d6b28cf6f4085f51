"""A stand-in for the cloud that says when it sent what; as fast as the hosted one is described."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from time import monotonic

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE, SPEED = 24_000, 5


class Cloud:
    """Answers each request with the same frames of sound, five times as fast as they are played."""

    def __init__(self, frames_s: Sequence[float]) -> None:
        """`frames_s` is how long each frame sounds (s)."""
        self._frames_s = frames_s
        self._frames = [self._frame(number, length_s) for number, length_s in enumerate(frames_s)]
        self.url = ""
        self.first_frames_s: list[float] = []
        """When each answer's first frame was handed to the socket (monotonic s)."""

    @property
    def seconds(self) -> float:
        """How long an answer sounds (s)."""
        return sum(self._frames_s)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Cloud]:
        """Listen on the loopback while the block runs."""
        async with serve(self._answer, "127.0.0.1", 0, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            yield self

    async def _answer(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                if "text" not in json.loads(message):
                    continue
                await asyncio.sleep(0.05)  # the client falls asleep, as with a real cloud
                self.first_frames_s.append(monotonic())
                for frame, length_s in zip(self._frames, self._frames_s, strict=True):
                    await socket.send(frame)
                    await asyncio.sleep(length_s / SPEED)
                await socket.send(self._end())

    @staticmethod
    def _frame(number: int, length_s: float) -> str:
        samples = round(length_s * RATE)
        sound = base64.b64encode((b"\x00\x10" * 55 + b"\x00\xf0" * 55) * (samples // 110))
        fields = {"enc": "pcm_s16le", "idx": number, "sr": RATE, "samples": samples // 110 * 110}
        return json.dumps({"audio": sound.decode(), **fields})

    def _end(self) -> str:
        samples = round(self.seconds * RATE)
        return json.dumps(
            {
                "final": True,
                "chunks": len(self._frames),
                "total_samples": samples,
                "dur_ms": self.seconds * 1000,
                "gen_ms": 1.0,
                "usage": {"cost_cents": 0.1, "input_chars": 10, "audio_seconds": self.seconds},
            }
        )
