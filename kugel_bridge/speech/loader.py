"""espeak-ng's library: for machines without its program, and for what only the library tells.

It comes with Debian's espeak-ng, or from the pip extra espeakng-loader. It is GPL-3.0 code with one
state per process, so it runs in a child of its own (`espeak_library.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import struct
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech import espeak_library as wire
from kugel_bridge.speech.alignment import ClauseEnd, Mark
from kugel_bridge.speech.child import Child, started
from kugel_bridge.speech.espeak import FIRST_SOUND_TIMEOUT_S, MISSING, STALL_TIMEOUT_S
from kugel_bridge.speech.espeak_voice import FALLBACK, input_for, voice_for, words_per_minute
from kugel_bridge.speech.narration import Said, SilentError, narrated
from kugel_bridge.speech.reading import Passage, read

logger = logging.getLogger(__name__)

MODULE = "espeakng_loader"
SYSTEM_LIBRARY = "libespeak-ng.so.1"
MAX_PACKET = 1024 * 1024
"""The library gives a fraction of a second at a time; more is not from our child."""

Library = tuple[str, str]
"""Name or path, and the directory of its data (empty = its own)."""


class LoaderSource:
    """Speaks through the library, in a child for each utterance; the sound of `EspeakSource`.

    `libraries` are tried in their order. Ending a generator early kills the child.
    """

    kind = SourceKind.LOCAL

    def __init__(
        self,
        voice: str | None = None,
        *,
        libraries: Sequence[Library] | None = None,
        first_sound_timeout_s: float = FIRST_SOUND_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._voice, self._libraries = voice, libraries
        self._first_sound_timeout_s = first_sound_timeout_s
        self._stall_timeout_s = stall_timeout_s

    @staticmethod
    def is_installed() -> bool:
        """Whether the extra is there."""
        return importlib.util.find_spec(MODULE) is not None

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound as the library makes it; raises ServiceUnavailableError, TooSlowError."""
        async with contextlib.aclosing(self._pieces(utterance, with_words=False)) as pieces:
            async for piece in pieces:
                if isinstance(piece, PcmChunk):
                    yield piece

    def timed(self, utterance: Utterance) -> AsyncGenerator[PcmChunk | WordTimings, None]:
        """The same, and after the sound of a clause, when its words sound."""
        return self._pieces(utterance, with_words=True)

    async def _pieces(
        self, utterance: Utterance, *, with_words: bool
    ) -> AsyncGenerator[PcmChunk | WordTimings, None]:
        libraries = known_libraries() if self._libraries is None else self._libraries
        script = str(Path(wire.__file__))
        arguments = ["-I", "-S", script, *(part for library in libraries for part in library)]
        async with contextlib.AsyncExitStack() as resources:
            try:
                child = await resources.enter_async_context(started(sys.executable, arguments))
            except OSError as error:
                raise ServiceUnavailableError(f"espeak-ng cannot be started: {error}") from error
            dialogue = _Dialogue(
                child,
                voice_for(utterance.language, self._voice),
                utterance.speed,
                self._first_sound_timeout_s,
                self._stall_timeout_s,
            )
            reading = read(utterance.text, utterance.language)
            pieces = narrated(reading, dialogue.say, with_words=with_words)
            await resources.enter_async_context(contextlib.aclosing(pieces))
            async for piece in pieces:
                yield piece


def known_libraries() -> list[Library]:
    """Where the library may be: the system's, then the extra's."""
    found = [(SYSTEM_LIBRARY, "")]
    if importlib.util.find_spec(MODULE) is not None:
        import espeakng_loader

        found.append((espeakng_loader.get_library_path(), espeakng_loader.get_data_path()))
    return found


class _Dialogue:
    """Jobs for one child, one after the other."""

    def __init__(
        self, child: Child, voice: str, speed: float, first_s: float, stall_s: float
    ) -> None:
        self._child, self._voice, self._speed = child, voice, speed
        self._first_s, self._stall_s = first_s, stall_s
        self._unread = b""
        self._format: PcmFormat | None = None

    async def say(self, passage: Passage) -> AsyncGenerator[Said, None]:
        """The sound of one passage, and where its words are."""
        given = input_for(passage)
        job = {
            "voice": self._voice,
            "pace": words_per_minute(passage.rate or self._speed),
            "text": given.text,
            "is_ssml": given.is_ssml,
        }
        self._child.say(json.dumps(job).encode() + b"\n", is_last=False)
        limit_s, has_sound = self._first_s, False
        while True:
            for kind, payload in await self._packets(limit_s):
                if kind == wire.OPENED:
                    self._format = PcmFormat(*wire.RATE.unpack(payload))
                elif kind == wire.SOUND and self._format is not None:
                    has_sound, limit_s = True, self._stall_s
                    yield PcmChunk(self._format, payload)
                elif kind in (wire.WORD, wire.CLAUSE_END):
                    frame, position, _ = wire.PLACE.unpack(payload)
                    if kind == wire.WORD and 1 <= position <= len(given.places):
                        yield Mark(frame, given.places[position - 1])
                    elif kind == wire.CLAUSE_END:
                        yield ClauseEnd(frame, _place(given.places, position - 1, passage))
                elif kind == wire.NO_VOICE and self._voice != FALLBACK:
                    logger.warning(
                        "local: espeak-ng has no voice %r; speaking with the voice %s",
                        self._voice,
                        FALLBACK,
                    )
                    self._voice = FALLBACK
                    again = json.dumps(job | {"voice": FALLBACK}).encode() + b"\n"
                    self._child.say(again, is_last=False)
                elif kind == wire.DONE:
                    if not has_sound:
                        raise SilentError("espeak-ng made no sound: no reason given")
                    return
                else:
                    raise ServiceUnavailableError(_REASONS.get(kind, _ODD))

    async def _packets(self, limit_s: float) -> list[tuple[bytes, bytes]]:
        """The next whole packets, at least one; raises ServiceUnavailableError at the end."""
        while True:
            try:
                packets = list(self._whole_packets())
            except struct.error as error:
                raise ServiceUnavailableError(_ODD) from error
            if packets:
                return packets
            data = await self._child.read(limit_s)
            if not data:
                await self._child.end()
                reason = self._child.complaint[-200:] or "no reason given"
                raise ServiceUnavailableError(f"espeak-ng's library ended: {reason}")
            self._unread += data

    def _whole_packets(self) -> Iterator[tuple[bytes, bytes]]:
        start, head = 0, wire.PACKET.size
        while len(self._unread) - start >= head:
            kind, length = wire.PACKET.unpack_from(self._unread, start)
            if length > MAX_PACKET:
                raise ServiceUnavailableError(_ODD)
            if len(self._unread) - start < head + length:
                break
            yield kind, self._unread[start + head : start + head + length]
            start += head + length
        self._unread = self._unread[start:]


_ODD = "espeak-ng's library answered something else than sound"
_REASONS = {
    wire.NO_LIBRARY: MISSING,
    wire.NO_VOICE: f"espeak-ng has no voice {FALLBACK!r}",
    wire.FAILED: "espeak-ng's library failed at this text",
}


def _place(places: Sequence[int], position: int, passage: Passage) -> int:
    return places[position] if 0 <= position < len(places) else len(passage.text)
