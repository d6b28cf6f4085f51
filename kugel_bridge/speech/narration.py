"""Passages said one after the other, with the silence between them that the text asks for."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.model.errors import NoSoundError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.alignment import QUIET, Alignment, ClauseEnd, Mark, Word
from kugel_bridge.speech.reading import Passage, Reading

JOIN_S = 0.05
"""Silence between two passages of one sentence (s): about that between words said with care."""
ESTIMATED = 0.5
"""The score of a word whose borders are estimated; a measured one has 1.0."""
BLOCK_S = 0.002
"""How exactly the borders of a sound are found (s)."""
MAX_HELD = 512 * 1024
"""Bytes of silence kept back; no engine pauses that long, and what is longer goes out."""

Said = PcmChunk | Mark | ClauseEnd
"""Sound, and what an engine that knows tells of its words."""
Say = Callable[[Passage], AsyncGenerator[Said, None]]


class SilentError(NoSoundError):
    """The engine did its work, and there was nothing to hear."""


async def narrated(
    reading: Reading, say: Say, *, with_words: bool = False
) -> AsyncGenerator[PcmChunk | WordTimings, None]:
    """The sound of all passages; `with_words`, what the engine marks follows its sound.

    Raises what `say` raises, and SilentError if there was no sound at all.
    """
    timeline = _Timeline(reading.spoken)
    nothing = SilentError("there is nothing to say in this text")
    last = len(reading.passages) - 1
    for number, passage in enumerate(reading.passages):
        alignment = Alignment(passage) if with_words else None
        borders = _Borders(keeps_lead=number == 0, keeps_tail=number == last or passage.is_ended)
        before = timeline.sent
        try:
            async with contextlib.aclosing(_said(passage, say)) as pieces:
                async for piece in pieces:
                    for out in timeline.follow(piece, alignment, borders):
                        yield out
        except SilentError as error:
            nothing = error
        for out in timeline.words(alignment.finish() if alignment else [], borders):
            yield out
        timeline.owed_s += passage.pause_s
        is_joined = number != last and not passage.is_ended and timeline.sent > before
        if is_joined and not timeline.owed_s:
            timeline.owed_s = JOIN_S
    if timeline.pcm is None:
        raise nothing
    if timeline.owed_s:
        yield timeline.pcm.silence(timeline.owed_s)


async def _said(passage: Passage, say: Say) -> AsyncGenerator[Said, None]:
    if passage.text.strip():
        async with contextlib.aclosing(say(passage)) as pieces:
            async for piece in pieces:
                yield piece


class _Timeline:
    """What has gone out so far, and what still has to before the next sound."""

    def __init__(self, spoken: str) -> None:
        self._spoken = spoken
        self.pcm: PcmFormat | None = None
        """None until there is sound."""
        self.sent = 0
        """Frames."""
        self.owed_s = 0.0
        """Silence (s)."""
        self._begin = 0
        """The frame at which the present passage begins."""

    def follow(
        self, piece: Said, alignment: Alignment | None, borders: _Borders
    ) -> Iterator[PcmChunk | WordTimings]:
        """What goes out for a piece of a passage."""
        if not isinstance(piece, PcmChunk):
            if alignment is not None:
                alignment.note(piece)
            return
        words = alignment.hear(piece) if alignment is not None else []
        if borders.is_new:
            self._begin = self.sent
        if (chunk := borders.feed(piece)) is not None:
            self.pcm = chunk.format
            if self.owed_s:
                silence = chunk.format.silence(self.owed_s)
                self.owed_s = 0.0
                self._begin = self.sent = self.sent + silence.frames
                yield silence
            self.sent += chunk.frames
            yield chunk
        yield from self.words(words, borders)

    def words(self, words: Sequence[Word], borders: _Borders) -> Iterator[WordTimings]:
        """Words of the present passage, in milliseconds from the first sound on."""
        if not words or self.pcm is None:
            return
        shift, rate = self._begin - borders.lead, self.pcm.rate

        def milliseconds(frame: int) -> int:
            # What was cut off at the borders is silent, and no place for a word.
            return min(max(0, frame + shift), self.sent) * 1000 // rate

        yield WordTimings(
            tuple(
                WordTiming(
                    self._spoken[word.char_start : word.char_end],
                    milliseconds(word.start_frame),
                    milliseconds(word.end_frame),
                    word.char_start,
                    word.char_end,
                    1.0 if word.is_measured else ESTIMATED,
                )
                for word in words
            )
        )


class _Borders:
    """Takes the silence off both ends of a passage's sound, where it is not to stay.

    An engine ends every text with the pause of a sentence, also in the middle of one.
    """

    def __init__(self, *, keeps_lead: bool, keeps_tail: bool) -> None:
        self._keeps_tail = keeps_tail
        self._has_begun = keeps_lead
        self._held = b""
        self.is_new = True
        self.lead = 0
        """Frames taken off the beginning."""

    def feed(self, chunk: PcmChunk) -> PcmChunk | None:
        """What of it may go out now, with what was held before; silence at the end stays held."""
        self.is_new = False
        if self._has_begun and self._keeps_tail:
            return chunk
        pcm = chunk.format
        data = bytes(chunk.data)
        block = max(1, pcm.frames_in(BLOCK_S)) * pcm.frame_bytes
        if not self._has_begun:
            silent = next(_loud(data, range(0, len(data), block), block, pcm), len(data))
            self.lead += silent // pcm.frame_bytes
            data = data[silent:]
            self._has_begun = bool(data)
        if self._keeps_tail:
            return PcmChunk(pcm, data) if data else None
        last = len(data) - len(data) % block
        start = next(_loud(data, range(last, -1, -block), block, pcm), None)
        if start is None and len(self._held) < MAX_HELD:
            self._held += data
            return None
        sounding = len(data) if start is None else min(len(data), start + block)
        out = self._held + data[:sounding]
        self._held = data[sounding:]
        return PcmChunk(pcm, out) if out else None


def _loud(data: bytes, starts: Iterable[int], block: int, pcm: PcmFormat) -> Iterator[int]:
    """Those of the blocks that are not silent, by their first byte."""
    for start in starts:
        if audioop.max(data[start : start + block], pcm.sample_bytes) > QUIET:
            yield start
