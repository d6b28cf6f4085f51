"""Turns the frames of one request into sound and words, and tells when they cannot be true."""

from __future__ import annotations

import dataclasses

from kugel_bridge.audio import g711
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.frames import AudioFrame, Frame, Interrupted, WordTimings
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest
from kugel_bridge.model.errors import NoSoundError, ProtocolError, ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat

LAWS = {Encoding.MULAW: g711.Law.ULAW, Encoding.ALAW: g711.Law.ALAW}
LEAST_LIMIT_S = 10.0
"""Sound allowed for the shortest of texts."""
LIMIT_PER_CHARACTER_S = 0.6
"""Ordinary speech takes 0.07 s a character; spelled letters and pauses come nearest to this."""
LEAST_WORDS = 100
WORDS_PER_CHARACTER = 10
"""A long number makes a word for each digit; more than this comes from nothing that was said."""


class Answer:
    """What came of one request, frame by frame; at most what its text can take to say."""

    def __init__(self, request: SpeechRequest) -> None:
        self._asked = request.delivery[0]
        self._limit_s = LEAST_LIMIT_S + LIMIT_PER_CHARACTER_S * len(request.text) / request.speed
        self._received_s = 0.0
        self._chunk_starts_s: dict[int, float] = {}
        """Where the sound of each of the service's chunks begins; the limit on sound bounds it."""
        self._rate: int | None = None
        self._wants_words = request.word_timestamps
        self._words_left = LEAST_WORDS + WORDS_PER_CHARACTER * len(request.text)

    def add(self, frame: Frame | None) -> PcmChunk | WordTimings | None:
        """The sound of a frame, or the words of sound before, if those were asked for; else None.

        A service may answer a text in chunks and count words from the beginning of each; here
        they count from the beginning of all sound.

        Raises the error that a refusal stands for, and ProtocolError for sound or words without
        end, for a sample rate that changes in the middle, of which one must be wrong, and for
        G.711 that was not asked for, which would be noise.
        """
        match frame:
            case AudioFrame():
                chunk = self._chunk(frame)
                self._chunk_starts_s.setdefault(frame.chunk_id, self._received_s)
                self._received_s += chunk.seconds
                if self._received_s > self._limit_s:
                    raise ProtocolError(f"more than {self._limit_s:.0f} s of sound for this text")
                return chunk
            case WordTimings() if self._wants_words:
                self._words_left -= max(1, len(frame.words))
                if self._words_left < 0:
                    raise ProtocolError("more words than this text can have")
                return self._from_the_start(frame)
            case Refusal():
                raise frame.as_error()
            case Interrupted():
                raise ServiceUnavailableError("the service broke off by itself")
            case _:
                return None

    def end(self) -> None:
        """The service says that was all; raises NoSoundError if it was nothing."""
        if not self._received_s:
            raise NoSoundError("the service sent no sound")

    def _from_the_start(self, timings: WordTimings) -> WordTimings:
        start_s = self._chunk_starts_s.get(timings.chunk_id, self._received_s)
        start_ms = round(start_s * 1000)
        moved = (
            dataclasses.replace(
                word, start_ms=word.start_ms + start_ms, end_ms=word.end_ms + start_ms
            )
            for word in timings.words
        )
        return WordTimings(tuple(moved))

    def _chunk(self, frame: AudioFrame) -> PcmChunk:
        if self._rate not in (None, frame.rate):
            raise ProtocolError(f"sound of {frame.rate} Hz after {self._rate} Hz in one answer")
        self._rate = frame.rate
        if frame.encoding is Encoding.PCM:
            return PcmChunk(PcmFormat(frame.rate), frame.data)
        if frame.encoding is not self._asked:
            raise ProtocolError(f"sound as {frame.encoding.value}, which was not asked for")
        return PcmChunk(PcmFormat(frame.rate), g711.decoded(frame.data, LAWS[frame.encoding]))
