"""A sink without a sound card: takes sound at the pace of one, by the clock."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from kugel_bridge.audio.loudness import faded
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus

AHEAD_S = 0.25
"""Sound taken before it is due: as much as an ALSA sink holds."""
FADE_S = 0.01


class PacedSink:
    """Plays to nobody; a subclass does something with each piece when it is due, in `_emit`."""

    def __init__(self, *, format: PcmFormat = SPEECH_FORMAT, paced: bool = True) -> None:  # noqa: A002 - the seam's own word
        self._format = format
        self._paced = paced
        self._pending: deque[PcmChunk] = deque()
        self._pending_frames = 0
        self._heard = 0
        self._due_since = 0.0  # when the first pending frame was due, by time.monotonic

    @property
    def format(self) -> PcmFormat:
        """What `write` takes."""
        return self._format

    @property
    def status(self) -> AudioStatus:
        """Always there, as long as the subclass knows no better."""
        return AudioStatus.OK

    @property
    def heard_frames(self) -> int:
        """Frames that are past, by the clock."""
        return self._heard + min(self._pending_frames, self._frames_due())

    @property
    def queued_s(self) -> float:
        """Seconds accepted and not yet due; infinite without pace: such a sink never runs dry."""
        return self._left_s() if self._paced else math.inf

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, chunk: PcmChunk) -> None:
        """Take the chunk; returns at most `AHEAD_S` before it is due to begin."""
        if chunk.format != self._format:
            raise ValueError(f"{chunk.format} for a sink in {self._format}")
        if not chunk.frames:
            return
        self._emit_what_is_due()
        if not self._pending:
            self._due_since = time.monotonic()
        self._pending.append(chunk)
        self._pending_frames += chunk.frames
        if not self._paced:
            self._emit_what_is_due()
        while (ahead_s := self._left_s() - AHEAD_S) > 0:
            await asyncio.sleep(ahead_s)
            self._emit_what_is_due()

    async def drain(self) -> None:
        """Return when all of it is past."""
        while (left_s := self._left_s()) > 0:
            await asyncio.sleep(left_s)
            self._emit_what_is_due()
        self._settle()

    async def stop(self) -> None:
        """The next 10 ms are faded, the rest is dropped."""
        self._emit_what_is_due()
        if self._pending:
            frames = min(self._pending_frames, max(1, self._format.frames_in(FADE_S)))
            data = b"".join(bytes(piece.data) for piece in self._pending)
            tail = PcmChunk(self._format, data[: frames * self._format.frame_bytes])
            self._forget()
            self._heard += frames
            self._emit(faded(tail, 1.0, 0.0))
        self._settle()

    async def close(self) -> None:
        """Drop what is queued."""
        self._emit_what_is_due()
        self._forget()
        self._settle()

    def _emit(self, chunk: PcmChunk) -> None:
        """The chunk is past now."""

    def _settle(self) -> None:
        """A pause begins: drained, stopped or closed."""

    def _forget(self) -> None:
        self._pending.clear()
        self._pending_frames = 0

    def _left_s(self) -> float:
        due = min(self._pending_frames, self._frames_due())
        return self._format.seconds(self._pending_frames - due)

    def _frames_due(self) -> int:
        if not self._paced:
            return self._pending_frames
        return round((time.monotonic() - self._due_since) * self._format.rate)

    def _emit_what_is_due(self) -> None:
        due = min(self._pending_frames, self._frames_due())
        self._due_since += self._format.seconds(due)
        self._heard += due
        self._pending_frames -= due
        while due > 0:
            piece = self._pending.popleft()
            if piece.frames > due:
                cut = due * self._format.frame_bytes
                view = memoryview(piece.data)
                self._pending.appendleft(PcmChunk(self._format, view[cut:]))
                piece = PcmChunk(self._format, view[:cut])
            due -= piece.frames
            self._emit(piece)
