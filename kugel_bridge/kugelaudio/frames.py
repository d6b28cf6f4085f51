"""What a server says on /ws/tts: sound, the end of it, refusals; read and written.

Source: API reference, "Rules common to the three sockets" and "/ws/tts".
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Any

from kugel_bridge.kugelaudio.codes import Refusal, refusal_from
from kugel_bridge.kugelaudio.messages import Encoding, Settings, Usage
from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    excerpt,
    read_object,
    take_flag,
    take_integer,
    take_number,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import ProtocolError

MIN_RATE, MAX_RATE = 8_000, 48_000
"""Sample rates (Hz) that can be speech; anything else is a broken frame."""

MAX_FALLBACK_CHARACTERS = 200
"""Of the reason for a fallback: a line to read, whatever the error had to say."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A piece of sound."""

    data: bytes
    """Mono samples in `encoding`."""
    encoding: Encoding
    rate: int
    """Hz."""
    index: int = 0
    """Number of the frame, from 0 in every request."""
    chunk_id: int = 0
    context_id: str | None = None
    """On /ws/tts/multi only."""

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.data) // self.encoding.sample_bytes

    def to_json(self) -> str:
        """The frame; put together by hand because there are five a second of every voice."""
        sound = binascii.b2a_base64(self.data, newline=False).decode("ascii")
        context = "" if self.context_id is None else f',"context_id":{json.dumps(self.context_id)}'
        return (
            f'{{"audio":"{sound}","enc":"{self.encoding.value}","idx":{self.index},'
            f'"sr":{self.rate},"samples":{self.samples},"chunk_id":{self.chunk_id}{context}}}'
        )


@dataclass(frozen=True, slots=True)
class WordTiming:
    """When one word sounds, within its chunk."""

    word: str
    start_ms: float
    end_ms: float
    char_start: int
    """Half-open range in the chunk's text after the service normalised it."""
    char_end: int
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class WordTimings:
    """The words of sound that has been sent."""

    words: tuple[WordTiming, ...]
    chunk_id: int = 0
    context_id: str | None = None
    """On /ws/tts/multi only."""

    def to_json(self) -> str:
        """The frame."""
        words = [
            {
                "word": w.word,
                "start_ms": _whole(w.start_ms),
                "end_ms": _whole(w.end_ms),
                "char_start": w.char_start,
                "char_end": w.char_end,
                "score": w.score,
            }
            for w in self.words
        ]
        fields: dict[str, Any] = {"word_timestamps": words, "chunk_id": self.chunk_id}
        if self.context_id is not None:
            fields["context_id"] = self.context_id
        return write_object(fields)


@dataclass(frozen=True, slots=True)
class Finished:
    """All sound of the request has been sent."""

    chunks: int = 0
    """Audio frames sent."""
    total_samples: int = 0
    """As the model made them, before any conversion: not what was delivered."""
    dur_ms: float = 0.0
    gen_ms: float = 0.0
    text: str | None = None
    first_audio_ms: float | None = None
    speed: float | None = None
    usage: Usage | None = None
    source: str = ""
    """Who spoke; like `fallback` a field of our own server, which other clients ignore."""
    fallback: str = ""
    """Why no better source spoke."""

    def to_json(self) -> str:
        """The frame, with every field the API gives."""
        rtf = round(self.gen_ms / self.dur_ms, 3) if self.dur_ms >= 1 else 0.0
        fields: dict[str, Any] = {
            "final": True,
            "chunks": self.chunks,
            "total_samples": self.total_samples,
            "dur_ms": self.dur_ms,
            "gen_ms": self.gen_ms,
            "rtf": rtf,
            "debug": {
                "original_text": self.text,
                "ttfa_ms": self.first_audio_ms,
                "speed": self.speed,
            },
        }
        if self.usage is not None:
            fields["usage"] = self.usage.to_fields()
        return write_object(fields | source_fields(self.source, self.fallback))


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The request was cancelled; nothing more of it follows."""

    def to_json(self) -> str:
        """The frame."""
        return '{"interrupted":true}'


@dataclass(frozen=True, slots=True)
class SettingsUpdated:
    """The settings now in effect."""

    settings: Settings

    def to_json(self) -> str:
        """The frame."""
        return write_object({"settings_updated": True, "settings": self.settings.to_fields()})


def _whole(number: float) -> float:
    """An integer where it is one, as the API writes it."""
    return int(number) if number == int(number) else number


def source_fields(source: str, fallback: str) -> dict[str, str]:
    """What a frame that ends something tells about who spoke; nothing that is not known."""
    told = {"source": source, "fallback": fallback[:MAX_FALLBACK_CHARACTERS]}
    return {name: value for name, value in told.items() if value}


Frame = AudioFrame | WordTimings | Finished | Interrupted | SettingsUpdated | Refusal

# Frames of the other two sockets, and advice to people: nothing to act upon here.
_SKIPPED_FLAGS = frozenset(
    (
        "generation_started",
        "session_closed",
        "context_created",
        "context_closed",
        "chunk_complete",
        "warning",
    )
)


def parse_frame(text: str | bytes) -> Frame | None:
    """Decode one frame of a server.

    Returns None for a kind of frame we do not know, so that the service may add kinds.
    Raises ProtocolError for anything but a JSON object in text, and for a known frame that cannot
    be used.
    """
    if isinstance(text, bytes):
        raise ProtocolError("a binary message, where the API sends text only")
    fields = read_object(text)
    # There is no type field: the first of these keys that is present and true names the kind.
    if fields.get("error") or fields.get("error_code"):
        return refusal_from(fields)
    if any(map(fields.get, _SKIPPED_FLAGS)):
        return None
    if fields.get("final"):
        return _parse_finished(fields)
    if fields.get("interrupted"):
        return Interrupted()
    if fields.get("settings_updated"):
        return SettingsUpdated(_parse_settings(fields.get("settings")))
    if fields.get("audio"):
        return _parse_audio(fields, text)
    if fields.get("word_timestamps"):
        return _parse_words(fields)
    return None


def _parse_audio(fields: JsonObject, text: str) -> AudioFrame:
    try:
        encoding = Encoding(take_text(fields, "enc") or "")
        rate = take_integer(fields, "sr")
        # Newlines and missing padding are refused: what is left out may be sound.
        data = binascii.a2b_base64(fields["audio"], strict_mode=True)
    except (ValueError, TypeError, ProtocolError) as error:
        raise ProtocolError(f"unusable audio frame {excerpt(text)}: {error}") from error
    if rate is None or not MIN_RATE <= rate <= MAX_RATE:
        raise ProtocolError(f"audio with the sample rate {fields.get('sr')!a:.20}")
    if len(data) % encoding.sample_bytes:
        raise ProtocolError(f"{len(data)} bytes of audio end inside a sample")
    return AudioFrame(
        data,
        encoding,
        rate,
        index=take_integer(fields, "idx") or 0,
        chunk_id=take_integer(fields, "chunk_id") or 0,
    )


def _parse_words(fields: JsonObject) -> WordTimings:
    words = fields["word_timestamps"]
    if not isinstance(words, list):
        raise ProtocolError("word_timestamps is not a list")
    return WordTimings(
        tuple(_parse_word(word) for word in words), take_integer(fields, "chunk_id") or 0
    )


def _parse_word(fields: object) -> WordTiming:
    if not isinstance(fields, dict):
        raise ProtocolError("a word timestamp is not an object")
    word, start, end = (
        take_text(fields, "word"),
        take_number(fields, "start_ms"),
        take_number(fields, "end_ms"),
    )
    if word is None or start is None or end is None:
        raise ProtocolError("a word timestamp without its word or times")
    score = take_number(fields, "score")
    return WordTiming(
        word,
        start,
        end,
        char_start=take_integer(fields, "char_start") or 0,
        char_end=take_integer(fields, "char_end") or 0,
        score=1.0 if score is None else score,
    )


def _parse_finished(fields: JsonObject) -> Finished:
    debug = fields.get("debug")
    debug = debug if isinstance(debug, dict) else {}
    try:
        return Finished(
            chunks=take_integer(fields, "chunks") or 0,
            total_samples=take_integer(fields, "total_samples") or 0,
            dur_ms=take_number(fields, "dur_ms") or 0.0,
            gen_ms=take_number(fields, "gen_ms") or 0.0,
            text=take_text(debug, "original_text"),
            first_audio_ms=take_number(debug, "ttfa_ms"),
            speed=take_number(debug, "speed"),
            usage=_parse_usage(fields.get("usage")),
        )
    except ProtocolError:
        # The sound is complete; odd statistics must not turn a heard announcement into a failure.
        return Finished()


def _parse_usage(fields: object) -> Usage | None:
    if not isinstance(fields, dict):
        return None
    audio_s = take_number(fields, "audio_seconds")
    if audio_s is None or audio_s < 0:
        return None
    return Usage(
        audio_s=audio_s,
        characters=max(0, take_integer(fields, "characters") or 0),
        cost_cents=take_number(fields, "cost_cents"),
        currency=take_text(fields, "currency"),
        model_id=take_text(fields, "model_id"),
    )


def _parse_settings(fields: object) -> Settings:
    fields = fields if isinstance(fields, dict) else {}
    return Settings(
        cfg_scale=take_number(fields, "cfg_scale"),
        temperature=take_number(fields, "temperature"),
        speed=take_number(fields, "speed"),
        max_new_tokens=take_integer(fields, "max_new_tokens"),
        language=take_text(fields, "language"),
        normalize=take_flag(fields, "normalize"),
    )
