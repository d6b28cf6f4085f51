"""One turn of /ws/tts/stream: how it is configured, and its frames in their only order.

Source: API reference, "/ws/tts/stream".
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.frames import AudioFrame, WordTimings, source_fields
from kugel_bridge.kugelaudio.messages import (
    Settings,
    SpeechRequest,
    Usage,
    broken_off,
    summed,
    with_parameters,
)
from kugel_bridge.kugelaudio.wire import JsonObject, take_integer, write_object
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind

FLUSH_TIMEOUT_MS = 500
BUFFER_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class TurnConfig:
    """What the client configured; it stays until another message changes it."""

    request: SpeechRequest = field(default_factory=lambda: SpeechRequest("", None, None))
    """All but the text."""
    flush_timeout_ms: int = FLUSH_TIMEOUT_MS
    """After so long without text what waits is spoken, whole sentence or not."""
    max_buffer_length: int = BUFFER_CHARACTERS
    """From so many characters on what waits is spoken, whole sentence or not."""

    def changed(self, fields: JsonObject) -> TurnConfig:
        """With what a message says; raises ProtocolError for a value that cannot be used."""
        wait_ms = take_integer(fields, "flush_timeout_ms")
        room = take_integer(fields, "max_buffer_length")
        if wait_ms is not None and wait_ms < 0:
            raise ProtocolError("flush_timeout_ms must not be negative")
        if room is not None and room < 1:
            raise ProtocolError("max_buffer_length must be at least 1")
        return TurnConfig(
            with_parameters(self.request, fields),
            self.flush_timeout_ms if wait_ms is None else wait_ms,
            self.max_buffer_length if room is None else min(room, BUFFER_CHARACTERS),
        )

    def updated(self, settings: Settings) -> TurnConfig:
        """With what `update_settings` says."""
        changed = dataclasses.replace(self.request, **settings.to_fields())
        return dataclasses.replace(self, request=changed)

    def settings(self) -> dict[str, Any]:
        """All six settings in effect; null for what is left to the engine."""
        names = [item.name for item in dataclasses.fields(Settings)]
        return {name: getattr(self.request, name) for name in names}


class Phase(enum.Enum):
    """How far a turn has been spoken."""

    WAITING = enum.auto()
    """For the next chunk."""
    SPEAKING = enum.auto()
    SPOKEN = enum.auto()
    """`final` is out, `session_closed` is owed."""
    ENDED = enum.auto()


class Turn:
    """One utterance on its way out; RuntimeError for a frame that is not its turn is a bug."""

    def __init__(self, config: TurnConfig, request_id: str | None = None) -> None:
        self.config = config
        self._request_id = request_id
        self.characters = 0
        """That came in."""
        self._phase = Phase.WAITING
        self._chunks = self._frames = 0
        self._bill: Usage | None = None
        """Of the chunks that are complete."""
        self._open_s, self._open_characters = 0.0, 0
        """Of the one that is not: its sound that went out, and its text."""
        self._open_source: SourceKind | None = None
        self._soundless = 0
        """Characters that wait for some with a sound to be billed with."""
        self._source: SourceKind | None = None
        self._fallback = ""

    @property
    def is_ended(self) -> bool:
        """Whether no frame of it may follow."""
        return self._phase is Phase.ENDED

    @property
    def usage(self) -> Usage | None:
        """What was heard of it cost so much, down to the last frame; None before the first."""
        model_id = self.config.request.model_id
        begun = broken_off(self._open_s, self._open_characters, model_id, self._open_source)
        return summed(self._bill, begun)

    def start(self, text: str, characters: int) -> str:
        """The frame in front of the sound of a chunk; `characters` that came in stand for it."""
        self._step(Phase.WAITING, Phase.SPEAKING)
        self._open_characters, self._soundless = characters + self._soundless, 0
        self._open_source = None
        return write_object({"generation_started": True, "chunk_id": self._chunks, "text": text})

    def spoken_by(self, source: SourceKind, fallback: str = "") -> None:
        """Who speaks the chunk, and why nobody better does: one that fell back is told of."""
        self._open_source = source
        if fallback or self._source is None:
            self._source, self._fallback = source, fallback

    def pass_over(self, characters: int) -> None:
        """Characters that make no sound are billed with those that do."""
        if self._bill is None:
            self._soundless += characters
        else:
            self._bill = dataclasses.replace(
                self._bill, characters=self._bill.characters + characters
            )

    def audio(self, data: bytes) -> str:
        """The next audio frame, `data` being in the encoding and rate of the configuration."""
        self._step(Phase.SPEAKING, Phase.SPEAKING)
        encoding, rate = self.config.request.delivery
        frame = AudioFrame(data, encoding, rate, index=self._frames, chunk_id=self._chunks)
        self._frames += 1
        self._open_s += frame.samples / rate
        return frame.to_json()

    def words(self, timings: WordTimings) -> str:
        """Words of the chunk; their times count from its beginning."""
        self._step(Phase.SPEAKING, Phase.SPEAKING)
        return dataclasses.replace(timings, chunk_id=self._chunks).to_json()

    def complete(self, cost: Usage, *, gen_ms: float) -> str:
        """The frame behind the sound of a chunk."""
        self._step(Phase.SPEAKING, Phase.WAITING)
        self._bill = summed(self._bill, dataclasses.replace(cost, characters=self._open_characters))
        self._open_s = 0.0
        frame = {
            "chunk_complete": True,
            "chunk_id": self._chunks,
            "audio_seconds": cost.audio_s,
            "gen_ms": round(gen_ms, 1),
        }
        self._chunks += 1
        return write_object(frame)

    def finish(self) -> str:
        """The frame that tells that no sound follows."""
        self._step(Phase.WAITING, Phase.SPOKEN)
        return write_object({"final": True} | self._totals())

    def close(self) -> str:
        """The last frame, with the bill."""
        self._step(Phase.SPOKEN, Phase.ENDED)
        fields: dict[str, Any] = {"session_closed": True} | self._totals()
        if self.usage is not None:
            fields["usage"] = self.usage.to_fields()
        return write_object(fields | source_fields(self._source or "", self._fallback))

    def refuse(self, refusal: Refusal) -> str:
        """The error frame that ends the turn; the socket has to be closed behind it."""
        self.drop()
        return refusal.to_json(request_id=self._request_id)

    def drop(self) -> None:
        """End without a word: cancelled, or nobody there to hear it."""
        if self.is_ended:
            raise RuntimeError("the turn has ended before")
        self._phase = Phase.ENDED

    def _totals(self) -> dict[str, Any]:
        return {
            "total_audio_seconds": 0.0 if self._bill is None else self._bill.audio_s,
            "total_text_chunks": self._chunks,
            "total_audio_chunks": self._frames,
        }

    def _step(self, before: Phase, after: Phase) -> None:
        if self._phase is not before:
            raise RuntimeError(f"a turn that is {self._phase.name.lower()} cannot do that")
        self._phase = after
