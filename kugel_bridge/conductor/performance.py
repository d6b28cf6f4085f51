"""One announcement as one stream of sound, that can be cut and taken up again later."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

from kugel_bridge.audio.chime import chime, tone
from kugel_bridge.conductor.script import Alarm, Cue, Jingle, Recording, Silence, Words
from kugel_bridge.model.announcement import CachePolicy, OfflineRule
from kugel_bridge.model.errors import BridgeError, OutdatedError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.speech.ladder import Ladder, Speech
from kugel_bridge.speech.sentences import sentence_start

logger = logging.getLogger(__name__)

SECONDS_PER_CHARACTER = 0.065
"""Usual pace of speech, to guess how far a text was spoken while its length is unknown."""
MAX_CONTINUATIONS = 3
"""A source that breaks in mid-sentence is followed by the next this many times at most."""


@dataclass(slots=True)
class _Mark:
    """Where in the stream of sound a piece of words lies."""

    words: Words
    start_s: float
    length_s: float
    complete: bool = False

    def offset_at(self, at_s: float) -> int:
        """The character with which to go on if the sound was cut at `at_s`."""
        text = self.words.utterance.text
        total_s = self.length_s
        if not self.complete:
            total_s = max(total_s, len(text) * SECONDS_PER_CHARACTER)
        elif at_s >= self.start_s + self.length_s:
            return self.words.end
        fraction = (at_s - self.start_s) / total_s if total_s > 0 else 0.0
        return self.words.offset + sentence_start(text, min(1.0, max(0.0, fraction)))


class Performance:
    """The cues of one announcement, performed through the ladder.

    `sound()` may be read once. Meanwhile and afterwards the other members tell what it was
    made of, and where to take it up again.
    """

    def __init__(
        self,
        cues: Sequence[Cue],
        ladder: Ladder,
        *,
        cache: CachePolicy,
        first_sound_s: float,
        offline: OfflineRule,
        is_outdated: Callable[[], bool] = lambda: False,
        on_source: Callable[[], None] = lambda: None,
    ) -> None:
        self._is_outdated, self._on_source = is_outdated, on_source
        self._cues, self._ladder, self._cache = cues, ladder, cache
        self._first_sound_s, self._offline = first_sound_s, offline
        self._marks: list[_Mark] = []
        self._made_s = 0.0
        self._ready: Speech | None = None
        self.source: SourceKind | None = None
        """Where the first words came from; None until they are there."""
        self.reason = ""
        """Why a lower rung was taken, the first time that one was; empty if none was."""
        self.characters = 0
        """Characters sent to the cloud so far."""

    @property
    def is_sourced(self) -> bool:
        """Whether `source` is final: it is known, or there are no words."""
        spoken = any(isinstance(cue, Words | Recording | Alarm) for cue in self._cues)
        return self.source is not None or not spoken

    async def sound(self) -> AsyncGenerator[PcmChunk, None]:
        """All sound in order, in the formats of its sources.

        Raises OutdatedError if it is too late to begin or the first words came too late, another
        BridgeError if there is no sound, or if a source breaks again and again.
        """
        if self._offline is OfflineRule.WAIT:
            # No chime for words that have to wait: they come first here, and are kept ready.
            first = next((cue for cue in self._cues if isinstance(cue, Words)), None)
            if first is not None:
                self._ready = await self._speak(first, self._offline)
        try:
            self._check_still_true()
            for cue in self._cues:
                match cue:
                    case Words():
                        async with contextlib.aclosing(self._words(cue)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                    case Silence(seconds):
                        yield self._made(SPEECH_FORMAT.silence(seconds))
                    case Jingle(name):
                        yield self._made(chime(name))
                    case Recording(_, sound):
                        self._check_still_true()
                        self._found(SourceKind.ALERT)
                        yield self._made(sound)
                    case Alarm(reason):
                        self._check_still_true()
                        self._found(SourceKind.TONE, reason)
                        yield self._made(tone())
        finally:
            if self._ready is not None:
                await self._ready.chunks.aclose()

    def resume_at(self, heard_s: float) -> int:
        """The character of the words to go on with after `heard_s` seconds of the sound.

        It is the beginning of the sentence that was cut; 0 when nothing was said yet.
        """
        position = 0
        for mark in self._marks:
            if mark.start_s >= heard_s:
                break
            position = mark.offset_at(heard_s)
        return position

    def is_said(self, heard_s: float) -> bool:
        """Whether all words were heard by then; a chime or silence may be left."""
        if not self._marks or any(isinstance(cue, Recording | Alarm) for cue in self._cues):
            return False
        last = next(cue for cue in reversed(self._cues) if isinstance(cue, Words))
        return self._marks[-1].words.end == last.end and self.resume_at(heard_s) == last.end

    async def _words(self, words: Words) -> AsyncGenerator[PcmChunk, None]:
        """The sound of some words; if its source breaks, the next goes on with that sentence."""
        offline = self._offline
        for attempt in range(MAX_CONTINUATIONS + 1):
            if self._marks:
                # Something was said: waiting for the cloud now would leave half a message.
                offline = OfflineRule.SPEAK
            speech, self._ready = self._ready or await self._speak(words, offline), None
            try:
                self._check_still_true()
            except OutdatedError:
                await speech.chunks.aclose()
                raise
            self._note(speech)
            mark = _Mark(words, self._made_s, 0.0)
            self._marks.append(mark)
            try:
                async with contextlib.aclosing(speech.chunks) as chunks:
                    async for chunk in chunks:
                        yield self._made(chunk)
                        mark.length_s += chunk.seconds
                mark.complete = True
            except BridgeError as error:
                at = mark.offset_at(self._made_s) - words.offset
                if attempt == MAX_CONTINUATIONS:
                    raise
                logger.warning("%s broke after %.1f s: %s", speech.source, mark.length_s, error)
                rest = words.utterance.text[at:].lstrip()
                if not rest:
                    return
                words = Words(replace(words.utterance, text=rest), words.end - len(rest))
            else:
                return

    def _check_still_true(self) -> None:
        """Raise OutdatedError where it is too late to begin; what has begun is said to its end."""
        if self.source is None and self._is_outdated():
            raise OutdatedError("it was no longer true when its sound came")

    async def _speak(self, words: Words, offline: OfflineRule) -> Speech:
        return await self._ladder.speak(
            words.utterance,
            cache=self._cache,
            first_sound_s=self._first_sound_s,
            offline=offline,
        )

    def _made(self, chunk: PcmChunk) -> PcmChunk:
        self._made_s += chunk.seconds
        return chunk

    def _note(self, speech: Speech) -> None:
        self.characters += speech.characters
        self._found(speech.source, speech.reason)

    def _found(self, source: SourceKind, reason: str = "") -> None:
        self.reason = self.reason or reason
        if self.source is None:
            self.source = source
            self._on_source()
