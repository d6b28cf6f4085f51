"""An announcement as a list of cues: what sounds, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kugel_bridge.model.announcement import (
    AlertSegment,
    Announcement,
    ChimeSegment,
    PauseSegment,
    Segment,
    TextSegment,
)
from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.sentences import split_at_sentences


@dataclass(frozen=True, slots=True)
class Words:
    """A text to speak; `offset` counts the characters of all words before it."""

    utterance: Utterance
    offset: int

    @property
    def end(self) -> int:
        """Offset of the first character after it."""
        return self.offset + len(self.utterance.text)


@dataclass(frozen=True, slots=True)
class Silence:
    """A pause."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Jingle:
    """A chime by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Recording:
    """The sound of a stored alert."""

    name: str
    sound: PcmChunk


@dataclass(frozen=True, slots=True)
class Alarm:
    """The tone in place of a stored alert that cannot be played."""

    reason: str


Cue = Words | Silence | Jingle | Recording | Alarm


@dataclass(frozen=True, slots=True)
class Delivery:
    """How words are spoken where the announcement leaves it open."""

    language: str
    voice: str | None = None
    speed: float = 1.0
    chime: str | None = None
    """The chime before speech, where the announcement says neither yes nor no."""
    default_chime: str = "ding-dong"
    """The chime meant by a plain `true`."""
    part_characters: int = 2_000
    """Texts are cut at sentence ends into parts no longer than this."""


class Alerts(Protocol):
    """The stored alerts, by name."""

    def words_or_sound(self, name: str, language: str) -> str | PcmChunk:
        """The alert's text in that language, or its recording.

        Raises RejectedError if it is unknown, StorageError if it cannot be played.
        """


def script_of(
    announcement: Announcement, delivery: Delivery, alerts: Alerts, resume_at: int = 0
) -> tuple[Cue, ...]:
    """The cues of an announcement, from the character `resume_at` of its words on.

    Raises RejectedError for an alert that is not stored.
    """
    cues: list[Cue] = []
    if resume_at == 0:
        cues += _chime(announcement.chime, delivery.chime, delivery.default_chime)
    offset = 0
    for turn in range(announcement.repeat.count):
        if turn and offset >= resume_at:
            cues.append(Silence(announcement.repeat.pause_s))
        for segment in announcement.segments:
            for cue in _cues_of(segment, announcement, delivery, alerts, offset):
                if isinstance(cue, Words):
                    offset = cue.end
                    cues += _from(cue, resume_at)
                elif offset >= resume_at:
                    cues.append(cue)
    cues += _chime(announcement.end_chime, None, delivery.default_chime)
    return tuple(cues)


def _cues_of(
    segment: Segment, announcement: Announcement, delivery: Delivery, alerts: Alerts, offset: int
) -> Sequence[Cue]:
    match segment:
        case TextSegment():
            return _spoken(segment, announcement, delivery, offset)
        case PauseSegment(milliseconds):
            return (Silence(milliseconds / 1000),)
        case ChimeSegment(name):
            return (Jingle(name),)
        case AlertSegment(name):
            language = announcement.language or delivery.language
            try:
                stored = alerts.words_or_sound(name, language)
            except StorageError as error:
                return (Alarm(str(error)),)
            if isinstance(stored, PcmChunk):
                return (Recording(name, stored),)
            words = TextSegment(stored, language=language)
            return _spoken(words, announcement, delivery, offset)


def _spoken(
    segment: TextSegment, announcement: Announcement, delivery: Delivery, offset: int
) -> list[Words]:
    spoken = []
    for text in split_at_sentences(segment.text, delivery.part_characters):
        utterance = Utterance(
            text=text,
            language=segment.language or announcement.language or delivery.language,
            voice=segment.voice or announcement.voice or delivery.voice,
            speed=segment.speed or announcement.speed or delivery.speed,
        )
        spoken.append(Words(utterance, offset))
        offset += len(text)
    return spoken


def _from(words: Words, resume_at: int) -> tuple[Words, ...]:
    """What is left of `words` when everything before `resume_at` was heard."""
    if resume_at == 0:
        return (words,)
    cut = max(0, resume_at - words.offset)
    rest = words.utterance.text[cut:].lstrip()
    if not rest:
        return ()
    return (Words(replace(words.utterance, text=rest), words.end - len(rest)),)


def _chime(wish: bool | str | None, usual: str | None, default: str) -> tuple[Jingle, ...]:
    name = usual if wish is None else default if wish is True else wish
    return (Jingle(name),) if name else ()
