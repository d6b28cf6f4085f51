"""/ws/tts/multi: what a client says on it, the table of its contexts, and the frames of each.

Source: API reference, "/ws/tts/multi". Where it leaves things open: a context stays after
`cancel`; a flush for an id that nobody knows is answered with `final`, as everything sent for it
is spoken; a context takes no more text once its end was asked for.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kugel_bridge.kugelaudio.codes import TOO_MANY_CONTEXTS, Refusal
from kugel_bridge.kugelaudio.frames import AudioFrame, SettingsUpdated, WordTimings
from kugel_bridge.kugelaudio.messages import (
    Settings,
    SpeechRequest,
    UpdateSettings,
    Usage,
    broken_off,
    invalid,
    summed,
    update_from,
    with_parameters,
)
from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    read_object,
    take_flag,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind

logger = logging.getLogger(__name__)

MAX_CONTEXTS = 20
MAX_CONTEXT_ID_CHARACTERS = 200

# Top level, for the whole socket; in voice_settings, for one context; elsewhere without effect.
# fmt: off
_SESSION_FIELDS = (
    "model_id", "model", "sample_rate", "output_format", "normalize", "language", "temperature",
    "speed", "word_timestamps", "speaker_prefix", "project_id", "dictionary_ids",
)
# fmt: on
_SESSION_SETTINGS = ("normalize", "language", "temperature", "speed")
_FLAGS = ("cancel", "close_socket", "close_context", "immediate", "flush")
_VOICE_FIELDS = ("voice_id", "cfg_scale", "max_new_tokens")

_CLOSING = invalid("the context is being closed: wait for context_closed, or use another id")


@dataclass(frozen=True, slots=True)
class ContextText:
    """Text for a context, a flush, settings, or (with none of them) a sign of life."""

    context_id: str
    text: str = ""
    flush: bool = False
    session: Mapping[str, Any] = field(default_factory=dict)
    """Settings for the whole socket, as they came."""
    voice: Mapping[str, Any] = field(default_factory=dict)
    """Settings for this context, as they came."""


@dataclass(frozen=True, slots=True)
class CloseContext:
    """End a context."""

    context_id: str
    immediate: bool = False
    """Without speaking what waits."""


@dataclass(frozen=True, slots=True)
class CancelContexts:
    """Drop what a context speaks and would speak."""

    context_id: str | None = None
    """None = of all contexts that still take text."""


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """End all contexts, then the socket."""


@dataclass(frozen=True, slots=True)
class ContextRefusal:
    """A message that cannot be served."""

    refusal: Refusal
    context_id: str | None = None
    """None where the message does not concern one context."""


ContextMessage = (
    ContextText | CloseContext | CancelContexts | CloseSocket | UpdateSettings | ContextRefusal
)


def parse_context_message(text: str | bytes) -> ContextMessage | None:
    """Decode one message of a client on /ws/tts/multi; unknown fields are ignored.

    None for a message without `context_id` that carries no command: clients send such to warm up.
    Raises ProtocolError for anything that is not a JSON object.
    """
    fields = read_object(text)
    try:
        ident = _context_id_from(fields)
    except ProtocolError as error:
        return ContextRefusal(invalid(str(error)))
    try:
        return _parsed(fields, ident)
    except ProtocolError as error:
        return ContextRefusal(invalid(str(error)), ident)


def _parsed(fields: JsonObject, ident: str | None) -> ContextMessage | None:
    """Raises ProtocolError for a field of a wrong type."""
    flags = {name for name in _FLAGS if take_flag(fields, name)}
    if "cancel" in flags:
        return CancelContexts(ident)
    if "close_socket" in flags:
        return CloseSocket()
    if "close_context" in flags:
        if ident is None:
            raise ProtocolError("close_context without context_id")
        return CloseContext(ident, immediate="immediate" in flags)
    if "update_settings" in fields:
        update = update_from(fields)
        return ContextRefusal(update, ident) if isinstance(update, Refusal) else update
    if ident is None:
        return None
    return ContextText(
        ident,
        text=take_text(fields, "text") or "",
        flush="flush" in flags,
        session={name: fields[name] for name in _SESSION_FIELDS if name in fields},
        voice=_voice_settings_from(fields),
    )


class Context:
    """One context: what it speaks with, its numbers, its bill, its frames."""

    def __init__(self, ident: str, request: SpeechRequest) -> None:
        self.id = ident
        self.request = request
        """What its texts are spoken with; has no text itself."""
        self.is_closing = False
        """Whether it takes no more text."""
        self._has_begun = False
        self._chunk_id = -1
        self._frames = 0
        self._bill: Usage | None = None
        self._characters = 0
        self._sent_s = 0.0
        """Sound of the text under way."""
        self._speaker: SourceKind | None = None
        """Of the text under way."""
        self._source: SourceKind | None = None
        self._reason = ""
        self._is_final_due = False

    def adopt(self, message: ContextText) -> None:
        """Take over the settings of a message; raises ProtocolError for an impossible one.

        What belongs to the whole socket counts for this context until it has begun to speak.
        """
        request = (
            self.request if self._has_begun else with_parameters(self.request, message.session)
        )
        self.request = with_parameters(request, message.voice)

    def created(self) -> str:
        """The frame that answers the first text."""
        return self._frame(context_created=True)

    def started(self, text: str, characters: int) -> str:
        """The frame before the sound of `text`, which gets the next chunk number.

        `characters` that came in stand for it.
        """
        self._has_begun = True
        self._chunk_id += 1
        self._characters, self._sent_s, self._speaker = characters, 0.0, None
        return self._frame(generation_started=True, chunk_id=self._chunk_id, text=text)

    def spoken_by(self, source: SourceKind, reason: str = "") -> None:
        """Who speaks the text, and why nobody better does: one that fell back is told of."""
        self._speaker = source
        if reason or self._source is None:
            self._source, self._reason = source, reason

    def audio(self, data: bytes) -> str:
        """The next audio frame, `data` being in the encoding and rate of `request`."""
        encoding, rate = self.request.delivery
        frame = AudioFrame(
            data, encoding, rate, index=self._frames, chunk_id=self._chunk_id, context_id=self.id
        )
        self._frames += 1
        self._sent_s += frame.samples / rate
        return frame.to_json()

    def words(self, timings: WordTimings) -> str:
        """A frame of word timestamps for the sound sent last."""
        return dataclasses.replace(timings, chunk_id=self._chunk_id, context_id=self.id).to_json()

    def completed(self, usage: Usage, *, gen_ms: float) -> str:
        """The frame after all sound of a text; its cost goes on the bill."""
        self.charge(usage)
        self._sent_s = 0.0
        self._is_final_due = True
        return self._frame(
            chunk_complete=True,
            chunk_id=self._chunk_id,
            audio_seconds=usage.audio_s,
            gen_ms=round(gen_ms, 1),
        )

    def broke_off(self) -> None:
        """What was being spoken failed or was cancelled: closing promises no complete sound."""
        self._is_final_due = False

    def charge(self, usage: Usage | None) -> None:
        """Put something on the bill."""
        self._bill = summed(self._bill, usage)

    def unfinished(self) -> Usage | None:
        """What went out of a text that will not be completed; goes on the bill."""
        model_id = self.request.model_id
        usage = broken_off(self._sent_s, self._characters, model_id, self._speaker)
        self.charge(usage)
        self._sent_s = 0.0
        return usage

    def final(self) -> str:
        """The frame after all sound of what was sent before a flush."""
        return final_frame(self.id)

    @property
    def is_final_due(self) -> bool:
        """Whether a `final` comes before the end: something was spoken, and to its end."""
        return self._is_final_due

    @property
    def audio_s(self) -> float:
        """The sound on the bill (s)."""
        return 0.0 if self._bill is None else self._bill.audio_s

    def closed(self) -> str:
        """The last frame; with the bill, if anything was spoken.

        `source` and `fallback` are ours: where the sound came from, and why not from a better one.
        """
        more: dict[str, Any] = {}
        if self._bill is not None:
            more["usage"] = self._bill.to_fields()
        if self._source is not None:
            more["source"] = self._source.value
        if self._reason:
            more["fallback"] = self._reason
        return self._frame(context_closed=True, **more)

    def _frame(self, **fields: Any) -> str:
        return write_object({**fields, "context_id": self.id})


class Contexts:
    """The contexts of one socket, and what they have in common.

    `request_id` is that of the socket's upgrade.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self._request_id = request_id
        self._live: dict[str, Context] = {}
        self._request = SpeechRequest("", None, None)
        self._settings = Settings()
        self._closed_audio_s = 0.0

    def __len__(self) -> int:
        return len(self._live)

    def find(self, ident: str) -> Context | None:
        """The live context of that id."""
        return self._live.get(ident)

    def admit(self, message: ContextText) -> Context | Refusal | None:
        """The context that takes a message; a new one for the first text of an id.

        None if there is none, and nothing that would create one. What is refused changes nothing.
        """
        context = self._live.get(message.context_id)
        if context is not None and context.is_closing:
            return _CLOSING if message.text or message.flush else None
        try:
            request = with_parameters(self._request, message.session)
            if context is not None:
                context.adopt(message)
            elif message.text:
                context = Context(message.context_id, with_parameters(request, message.voice))
                if len(self._live) >= MAX_CONTEXTS:
                    return TOO_MANY_CONTEXTS
                self._live[context.id] = context
        except ProtocolError as error:
            return invalid(str(error))
        self._request = request
        given = [name for name in _SESSION_SETTINGS if message.session.get(name) is not None]
        self._settings = self._settings.updated(
            Settings(**{name: getattr(request, name) for name in given})
        )
        return context

    def update(self, settings: Settings) -> str:
        """Settings for contexts that will be created; the frame tells all that were ever set."""
        self._request = dataclasses.replace(self._request, **settings.to_fields())
        self._settings = self._settings.updated(settings)
        return SettingsUpdated(self._settings).to_json()

    def refuse(self, refusal: Refusal, context_id: str | None) -> str:
        """The error frame for a context, or for the whole socket."""
        return refusal.to_json(context_id, request_id=self._request_id)

    def close(self, context: Context) -> str:
        """Forget a context; its id is free from now on. The frame is its last one."""
        del self._live[context.id]
        self._closed_audio_s += context.audio_s
        return context.closed()

    def session_closed(self) -> str:
        """The last frame of the socket, with the sound of all its contexts."""
        return write_object(
            {"session_closed": True, "total_audio_seconds": round(self._closed_audio_s, 3)}
        )


def final_frame(context_id: str) -> str:
    """All sound of what was sent for that id before its last flush is delivered."""
    return write_object({"final": True, "context_id": context_id})


def closed_frame(context_id: str) -> str:
    """That id has no context."""
    return write_object({"context_closed": True, "context_id": context_id})


def interrupted_frame(context_id: str | None) -> str:
    """Nothing follows of what was cancelled: of one context, or of all."""
    of_context = {} if context_id is None else {"context_id": context_id}
    return write_object({"interrupted": True} | of_context)


def _context_id_from(fields: JsonObject) -> str | None:
    ident = take_text(fields, "context_id")
    if ident == "":
        raise ProtocolError("context_id is empty")
    if ident is not None and len(ident) > MAX_CONTEXT_ID_CHARACTERS:
        raise ProtocolError(f"context_id is longer than {MAX_CONTEXT_ID_CHARACTERS} characters")
    return ident


def _voice_settings_from(fields: JsonObject) -> dict[str, Any]:
    settings = fields.get("voice_settings")
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ProtocolError("voice_settings is not an object")
    if misplaced := sorted(set(settings).intersection(_SESSION_FIELDS)):
        logger.debug("%s in voice_settings has no effect: it belongs beside it", misplaced[0])
    given = {name: settings[name] for name in _VOICE_FIELDS if name in settings}
    if type(given.get("voice_id")) is int and given["voice_id"] == 0:
        # The API takes 0 for "no voice given".
        del given["voice_id"]
    return given
