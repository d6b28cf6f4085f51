"""Plays an announcement's sound: conversion, loudness, patience with the source, the sink."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from kugel_bridge.audio.convert import Converter
from kugel_bridge.audio.jitter import (
    DEFAULT_RULES,
    GiveUp,
    JitterBuffer,
    JitterRules,
    Over,
    Pad,
    Play,
    Wait,
)
from kugel_bridge.audio.loudness import amplified, faded, gain_factor
from kugel_bridge.audio.sink import AudioSink
from kugel_bridge.audio.transcript import Transcript
from kugel_bridge.model.errors import BridgeError, TooSlowError
from kugel_bridge.model.pcm import PcmChunk

logger = logging.getLogger(__name__)

_FADE_S = 0.01
_FIRST_WRITE_S = 0.12
"""More than the card's own buffer holds, less than a sink takes without a wait."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of the sound of one announcement."""

    heard_s: float = 0.0
    """Seconds of the source's sound that were heard: no lead-in, padding or tail."""
    padded_s: float = 0.0
    """Seconds of silence put in because the source was late."""


class Player:
    """Plays one sound after another on one sink; `lead_in_s` and `tail_s` are silence around it.

    The lead-in wakes amplifiers that sleep while nothing plays, and swallow the first syllable.
    """

    def __init__(
        self,
        sink: AudioSink,
        *,
        lead_in_s: float,
        tail_s: float,
        rules: JitterRules = DEFAULT_RULES,
        head_start_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`head_start_s` tells what the source is known to need before playing may begin (s)."""
        self._sink = sink
        self._head_start_s = head_start_s
        self._lead_in_s = lead_in_s
        self._tail_s = tail_s
        self._rules = rules
        self._transcript = Transcript(0)
        self._rate = 1

    @property
    def last(self) -> Played:
        """How far the latest `play` has come; also while it runs, and after an error."""
        heard, padded = self._transcript.heard(self._sink.heard_frames)
        return Played(heard / self._rate, padded / self._rate)

    async def play(
        self,
        sound: AsyncIterator[PcmChunk],
        *,
        percent: Callable[[], float],
        on_first_sound: Callable[[], None],
    ) -> Played:
        """Play all of `sound`; returns when its last frame has been heard, the tail included.

        `percent` is asked for each tenth of a second, so a change of volume acts at once.
        `on_first_sound` is called when the sink has taken the first frame.
        Raises DeviceError at once. An error of `sound` is raised after what it gave before has
        been heard; at once when nothing was. A stall raises TooSlowError in the same way.
        Cancelling fades out and drops the rest. `sound` is closed in every case.
        """
        self._transcript = Transcript(self._sink.heard_frames)
        try:
            await self._sink.open()
            # The sink may have been closed or reopened: it counts on, and the format may be new.
            self._transcript = Transcript(self._sink.heard_frames)
            self._rate = self._sink.format.rate
            passage = _Passage(
                self._sink,
                self._transcript,
                JitterBuffer(self._rules, head_start_s=self._head_start_s()),
                percent,
                on_first_sound,
                self._lead_in_s,
            )
            failure = await passage.run(sound, self._tail_s)
        except asyncio.CancelledError:
            await self._sink.stop()
            raise
        finally:
            close = getattr(sound, "aclose", None)
            if close is not None:
                await close()
        if failure is not None:
            raise failure
        return self.last


class _Passage:
    """One sound on its way through the sink."""

    def __init__(
        self,
        sink: AudioSink,
        transcript: Transcript,
        buffer: JitterBuffer,
        percent: Callable[[], float],
        on_first_sound: Callable[[], None],
        lead_in_s: float,
    ) -> None:
        self._sink = sink
        self._target = sink.format
        self._transcript = transcript
        self._buffer = buffer
        self._percent = percent
        self._on_first_sound = on_first_sound
        self._converter: Converter | None = None
        self._factor: float | None = None
        self._lead_in_s = lead_in_s
        self._failure: Exception | None = None
        self._news = asyncio.Event()  # something for the writer: sound, or the end of it
        self._room = asyncio.Event()  # something for the reader: the buffer is no longer full

    async def run(self, sound: AsyncIterator[PcmChunk], tail_s: float) -> Exception | None:
        """Play it all; the source's error, if it had one. Raises DeviceError."""
        # The first chunk without a task of its own: a cached phrase comes whole, and then each
        # turn of the event loop would only delay it.
        if await self._read_one(sound):
            step = self._next()
            if isinstance(step, Play):
                await self._play(step)
            device_failure: BridgeError | None = None
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(sound), name="sound reader")
                try:
                    await self._write()
                except BridgeError as error:
                    # Not through the group, which would wrap it.
                    device_failure = error
                reader.cancel()
            if device_failure is not None:
                raise device_failure
        if self._transcript.begun:
            await self._end(tail_s)
        return self._failure

    async def _read(self, sound: AsyncIterator[PcmChunk]) -> None:
        while await self._read_one(sound):
            self._news.set()
            while self._buffer.full:
                self._room.clear()
                await self._room.wait()
        self._news.set()

    async def _read_one(self, sound: AsyncIterator[PcmChunk]) -> bool:
        """Take one chunk from the source; False when there are no more."""
        try:
            chunk = await anext(sound)
        except StopAsyncIteration:
            self._buffer.end()
            return False
        except Exception as error:  # noqa: BLE001 - play() raises it once the rest was heard
            self._failure = error
            self._buffer.end()
            return False
        self._buffer.push(chunk, time.monotonic())
        return True

    async def _write(self) -> None:
        while True:
            if self._failure is not None and not self._transcript.begun:
                return  # nothing was heard yet: the next rung of the ladder begins afresh
            step = self._next()
            if isinstance(step, Play):
                await self._play(step)
                if not self._buffer.full:
                    self._room.set()
            elif isinstance(step, Pad):
                silence = self._target.silence(step.seconds)
                self._transcript.gave(silence.frames, is_padding=True)
                await self._sink.write(silence)
                await self._wait(step.seconds / 2)  # the source's turn, whatever the sink does
            elif isinstance(step, Wait):
                await self._wait(step.seconds)
            elif isinstance(step, GiveUp):
                self._failure = TooSlowError(f"no sound for {step.seconds:.0f} s in mid-speech")
                return
            else:
                return

    def _next(self) -> Play | Pad | Wait | Over | GiveUp:
        return self._buffer.next(time.monotonic(), self._sink.queued_s)

    async def _wait(self, seconds: float | None) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _play(self, step: Play) -> None:
        piece = self._loud(self._converted(step.chunk))
        if step.fade_in or step.fade_out:
            piece = _softened(piece, step)
        await self._hand_over(piece)

    async def _hand_over(self, piece: PcmChunk) -> None:
        if not piece.frames:
            return
        if not self._transcript.begun:
            piece = await self._begin(piece)
        # Noted before it is written: a cancelled write may have given a part of it.
        self._transcript.gave(piece.frames)
        await self._sink.write(piece)

    async def _begin(self, piece: PcmChunk) -> PcmChunk:
        """Write the lead-in and the first of the sound; the rest of the piece."""
        frame = self._target.frame_bytes
        lead_in = self._target.frames_in(self._lead_in_s)
        # In one write: a card starts with what it has, and runs dry when that is little. Not too
        # long a one: the sink makes a long write wait, and the caller wants to know at once.
        joined = b"".join((bytes(lead_in * frame), piece.data)) if lead_in else piece.data
        whole = memoryview(joined)
        first = self._target.frames_in(_FIRST_WRITE_S)
        silent = min(lead_in, first)
        start = PcmChunk(self._target, whole[: first * frame])
        self._transcript.gave(silent, is_silence=True)
        self._transcript.gave(start.frames - silent)
        await self._sink.write(start)
        self._on_first_sound()
        if silent < lead_in:
            rest = PcmChunk(self._target, whole[first * frame : lead_in * frame])
            self._transcript.gave(rest.frames, is_silence=True)
            await self._sink.write(rest)
        return PcmChunk(self._target, whole[max(first, lead_in) * frame :])

    def _converted(self, chunk: PcmChunk) -> PcmChunk:
        if chunk.format == self._target and self._converter is None:
            return chunk
        rest = b""
        if self._converter is None or self._converter.source != chunk.format:
            rest = self._rest()
            self._converter = Converter(chunk.format, self._target)
        converted = self._converter.convert(chunk)
        return PcmChunk(self._target, rest + converted.data) if rest else converted

    def _rest(self) -> bytes:
        converter, self._converter = self._converter, None
        return bytes(converter.flush().data) if converter else b""

    def _loud(self, chunk: PcmChunk) -> PcmChunk:
        factor = gain_factor(self._percent())
        before, self._factor = self._factor, factor
        if before is None or before == factor:
            return amplified(chunk, factor)
        # A jump in loudness is a click: get there within the first 10 ms.
        cut = _fade_bytes(chunk)
        data = memoryview(chunk.data)
        ramp = faded(PcmChunk(chunk.format, data[:cut]), before, factor)
        rest = amplified(PcmChunk(chunk.format, data[cut:]), factor)
        return PcmChunk(chunk.format, b"".join((ramp.data, rest.data)))

    async def _end(self, tail_s: float) -> None:
        rest = self._rest()
        if rest:
            await self._hand_over(self._loud(PcmChunk(self._target, rest)))
        tail = self._target.silence(tail_s)
        if tail.frames:
            self._transcript.gave(tail.frames, is_silence=True)
            await self._sink.write(tail)
        await self._sink.drain()


def _softened(piece: PcmChunk, step: Play) -> PcmChunk:
    cut = _fade_bytes(piece)
    data = memoryview(piece.data)
    if step.fade_in:
        soft = faded(PcmChunk(piece.format, data[:cut]), 0.0, 1.0)
        data = memoryview(b"".join((soft.data, data[cut:])))
    if step.fade_out:
        begin = len(data) - cut
        soft = faded(PcmChunk(piece.format, data[begin:]), 1.0, 0.0)
        data = memoryview(b"".join((data[:begin], soft.data)))
    return PcmChunk(piece.format, data)


def _fade_bytes(piece: PcmChunk) -> int:
    size = piece.format.frames_in(_FADE_S) * piece.format.frame_bytes
    return min(len(piece.data), size)
