"""The order of things on one /ws/tts socket, as two state tables: the client's and the server's.

Source: API reference, "/ws/tts". Frames carry no request id, so order is all that tells whose
sound a frame is; both tables refuse what would mix two requests.
"""

from __future__ import annotations

import enum

from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.frames import (
    AudioFrame,
    Finished,
    Frame,
    Interrupted,
    SettingsUpdated,
    WordTimings,
    parse_frame,
)
from kugel_bridge.kugelaudio.messages import (
    NATIVE_RATE,
    Settings,
    SpeechRequest,
    Usage,
    broken_off,
)
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind

_KEEPS_SOCKET = frozenset({400, 404, 413})
"""Refusals that concern the request alone; after any other the socket is not trusted."""


class Phase(enum.Enum):
    """Where a socket is."""

    IDLE = enum.auto()
    SPEAKING = enum.auto()
    SPENT = enum.auto()
    """Broken or in doubt: to be closed, never used again."""


class ClientSession:
    """What the client may send and what an incoming frame means."""

    def __init__(self) -> None:
        self._phase = Phase.IDLE

    @property
    def reusable(self) -> bool:
        """Whether the next request may go out on this socket."""
        return self._phase is Phase.IDLE

    def request(self, request: SpeechRequest) -> str:
        """The message that starts `request`; RuntimeError while another one runs."""
        if self._phase is not Phase.IDLE:
            raise RuntimeError(f"a request on a socket that is {self._phase.name.lower()}")
        self._phase = Phase.SPEAKING
        return request.to_json()

    def abandon(self) -> None:
        """Give up on this socket: whatever it still sends belongs to nobody."""
        self._phase = Phase.SPENT

    def receive(self, text: str | bytes) -> Frame | None:
        """Take in one frame; None for what needs no reaction.

        Raises ProtocolError for a frame that cannot be used, and for sound that nobody asked for;
        the socket is spent then.
        """
        try:
            frame = parse_frame(text)
            if isinstance(frame, AudioFrame) and self._phase is not Phase.SPEAKING:
                raise ProtocolError("the service sent sound that nobody asked for")
        except ProtocolError:
            self.abandon()
            raise
        if self._phase is Phase.SPEAKING:
            self._end_after(frame)
        elif isinstance(frame, Refusal):
            # Said while idle: about the connection, not about a request.
            self.abandon()
        return frame

    def _end_after(self, frame: Frame | None) -> None:
        match frame:
            case Finished():
                self._phase = Phase.IDLE
            case Interrupted():
                # We never send "cancel" and read on, so this was not asked for.
                self._phase = Phase.SPENT
            case Refusal(status=status):
                self._phase = Phase.IDLE if status in _KEEPS_SOCKET else Phase.SPENT
            case _:
                pass


class ServerSession:
    """Numbers the frames of one socket and keeps its requests apart; RuntimeError is a bug.

    `request_id` is that of the socket's upgrade.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self._request_id = request_id
        self.settings = Settings()
        """What requests get for the fields they leave out."""
        self._request: SpeechRequest | None = None
        self._frames = 0
        self._sent_s = 0.0
        self._source: SourceKind | None = None
        self._fallback = ""

    @property
    def sent(self) -> Usage | None:
        """What went out of the request under way; None for nothing."""
        if self._request is None:
            return None
        request = self._request
        return broken_off(self._sent_s, len(request.text), request.model_id, self._source)

    def begin(self, request: SpeechRequest) -> None:
        """Start a request; the frames that follow are its own until one of its ends."""
        if self._request is not None:
            raise RuntimeError("the request before has not ended")
        self._request, self._frames, self._sent_s = request, 0, 0.0
        self._source, self._fallback = None, ""

    def spoken_by(self, source: SourceKind, fallback: str = "") -> None:
        """Who speaks the request, and why nobody better does."""
        self._source, self._fallback = source, fallback

    def audio(self, data: bytes) -> str:
        """The next audio frame, `data` being in the request's own encoding and rate."""
        encoding, rate = self._current().delivery
        frame = AudioFrame(data, encoding, rate, index=self._frames)
        self._frames += 1
        self._sent_s += frame.samples / rate
        return frame.to_json()

    def words(self, timings: WordTimings) -> str:
        """A frame of word timestamps; they have to come before the end."""
        self._current()
        return timings.to_json()

    def finish(
        self,
        *,
        made_s: float,
        gen_ms: float,
        first_audio_ms: float | None,
        usage: Usage,
    ) -> str:
        """The frame that ends the request; `made_s` is how much sound the engine made (s)."""
        request = self._current()
        self._request = None
        # Counted before the speed is changed (API reference, "/ws/tts").
        native_s = made_s * request.speed
        return Finished(
            chunks=self._frames,
            total_samples=round(native_s * NATIVE_RATE),
            dur_ms=round(native_s * 1000, 1),
            gen_ms=round(gen_ms, 1),
            text=request.text,
            first_audio_ms=None if first_audio_ms is None else round(first_audio_ms, 1),
            speed=request.speed,
            usage=usage,
            source=self._source or "",
            fallback=self._fallback,
        ).to_json()

    def refuse(self, refusal: Refusal) -> str:
        """The error frame that ends the request, or answers a message outside of any."""
        self._request = None
        return refusal.to_json(request_id=self._request_id)

    def interrupt(self) -> str:
        """The frame that answers a cancel; harmless when nothing is under way."""
        self._request = None
        return Interrupted().to_json()

    def update(self, settings: Settings) -> str:
        """Take over new defaults; the frame tells all that are in effect."""
        self.settings = self.settings.updated(settings)
        return SettingsUpdated(self.settings).to_json()

    def _current(self) -> SpeechRequest:
        if self._request is None:
            raise RuntimeError("a frame outside of any request")
        return self._request
