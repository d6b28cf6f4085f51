"""What a client's messages on one /ws/tts/stream socket mean; no sockets, no clock.

Source: API reference, "/ws/tts/stream". Text opens a turn and fills it, flush completes it. Turns
are spoken in their order, and text of the next one may come in before.
"""

from __future__ import annotations

from dataclasses import dataclass

from kugel_bridge.kugelaudio.codes import INVALID_JSON, MISSING_VOICE, TEXT_TOO_LONG, Refusal
from kugel_bridge.kugelaudio.frames import Interrupted
from kugel_bridge.kugelaudio.messages import BINARY_MESSAGE, invalid, update_from
from kugel_bridge.kugelaudio.turn import Turn, TurnConfig
from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    read_object,
    take_flag,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import ProtocolError

IDLE_WARNING = "the turn was ended because no text and no flush came"
_ENDS = ("flush", "close", "end_session", "close_socket")


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn is next in line."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Added:
    """Text of the newest turn, perhaps none: a sign of life."""

    turn: Turn
    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """No more text for this turn: it ends when all is spoken."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Failed:
    """This turn ends with the refusal, at once or when it is its turn, and the socket with it."""

    turn: Turn
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Dropped:
    """All turns end now; `frame` goes out once nothing of them can follow."""

    frame: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A frame for the client: in line behind the turns before it, or at once."""

    frame: str
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class Leaving:
    """The socket is to be closed behind the turns before."""


Event = Begun | Added | Completed | Failed | Dropped | Answered | Leaving


class TurnIntake:
    """What a message of the client means; no message can break it.

    `request_id` is that of the socket's upgrade.
    """

    def __init__(self, *, max_characters: int, request_id: str | None = None) -> None:
        self._max_characters, self._request_id = max_characters, request_id
        self._config = TurnConfig()
        self._turn: Turn | None = None
        self._is_leaving = False

    def receive(self, message: str | bytes) -> list[Event]:
        """Take in one message; nothing counts any more after `close_socket`."""
        if self._is_leaving:
            return []
        if isinstance(message, bytes):
            return self._refused(BINARY_MESSAGE, {})
        try:
            fields = read_object(message)
        except ProtocolError:
            return self._refused(INVALID_JSON, {})
        try:
            if take_flag(fields, "cancel"):
                self._turn = None
                return [Dropped(Interrupted().to_json())]
            if "update_settings" in fields:
                return self._update(fields)
            config = self._config.changed(fields)
            text = take_text(fields, "text")
            ends = {name for name in _ENDS if take_flag(fields, name)}
        except ProtocolError as error:
            return self._refused(invalid(str(error)), fields)
        self._config = config
        events = self._add(text) if text is not None else []
        if any(isinstance(event, Failed) for event in events):
            return events
        if ends:
            events += self._end(with_final=text is not None and "flush" in ends)
        if "close_socket" in ends:
            self._is_leaving = True
            events.append(Leaving())
        return events

    def expire(self) -> list[Event]:
        """The client has been silent too long: what there is of the turn is spoken."""
        if self._turn is None:
            return []
        warning = Answered(write_object({"warning": IDLE_WARNING}), is_urgent=True)
        return [warning, *self._end(with_final=False)]

    def _add(self, text: str) -> list[Event]:
        events: list[Event] = []
        if self._turn is None:
            if not text.strip():
                # Nothing to say yet: neither a voice nor a place in line is needed for it.
                return []
            self._turn = Turn(self._config, self._request_id)
            events.append(Begun(self._turn))
            if self._config.request.voice_id is None:
                return events + self._refused(MISSING_VOICE, {})
        turn = self._turn
        turn.characters += len(text)
        if turn.characters > self._max_characters:
            return events + self._refused(TEXT_TOO_LONG, {})
        return [*events, Added(turn, text)]

    def _end(self, *, with_final: bool) -> list[Event]:
        turn, self._turn = self._turn, None
        if turn is not None:
            return [Completed(turn)]
        nothing = Turn(self._config, self._request_id)
        final = nothing.finish()
        closed = Answered(nothing.close())
        return [Answered(final), closed] if with_final else [closed]

    def _update(self, fields: JsonObject) -> list[Event]:
        update = update_from(fields)
        if isinstance(update, Refusal):
            # What it says of the next turns is no fault of the one that is open.
            lost = fields.get("text") or fields.get("flush")
            frame = update.to_json(request_id=self._request_id)
            return self._refused(update, fields) if lost else [Answered(frame, is_urgent=True)]
        self._config = self._config.updated(update.settings)
        frame = write_object({"settings_updated": True, "settings": self._config.settings()})
        return [Answered(frame, is_urgent=True)]

    def _refused(self, refusal: Refusal, fields: JsonObject) -> list[Event]:
        """A refusal fails the turn that takes text, or that this message would have begun."""
        turn, self._turn = self._turn, None
        if turn is not None:
            return [Failed(turn, refusal)]
        if fields.get("text") or fields.get("flush"):
            # Only a closed socket tells the official SDK that the turn is over.
            turn = Turn(self._config, self._request_id)
            return [Begun(turn), Failed(turn, refusal)]
        return [Answered(refusal.to_json(request_id=self._request_id))]
