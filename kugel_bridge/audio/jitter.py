"""The jitter buffer: when to start, when to pad, when to give up. No clock, no asyncio.

Sound comes in at the pace of a network and goes out at the pace of a loudspeaker. The player
pushes what arrives and asks `next` what to do now; times are handed in, in seconds of any clock
that never goes back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kugel_bridge.model.pcm import PcmChunk

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Play:
    """Hand this to the sink now."""

    chunk: PcmChunk
    fade_in: bool = False
    fade_out: bool = False


@dataclass(frozen=True, slots=True)
class Pad:
    """The source is late: keep the card running with `seconds` (s) of silence."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until sound arrives, or for `seconds` (s); None = only until then."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Over:
    """Everything that came has been handed out, and no more will come."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The source has sent nothing for `seconds` (s) in the middle; all it sent was handed out."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterRules:
    """When the buffer does what; all in seconds of sound or of waiting."""

    enough_s: float = 0.24
    """Buffered sound with which playing starts whatever the pace."""
    least_s: float = 0.08
    """Below this nothing starts unless the stream is complete: four periods of the card."""
    safe_pace: float = 1.2
    """Seconds of sound that arrive per second of waiting from which on `least_s` is enough."""
    patience_s: float = 0.5
    """Longest wait after the first sound; then it starts with what there is."""
    first_piece_s: float = 0.16
    """The first piece fills the card's buffer."""
    piece_s: float = 0.1
    """Later pieces: short enough for a change of volume to act at once."""
    tail_s: float = 0.01
    """Held back while more is to come, so that a stall ends in a fade, not in a click."""
    low_s: float = 0.06
    """When the sink has less than this left, and nothing is there, silence is put in."""
    pad_s: float = 0.04
    """How much silence at a time."""
    resume_s: float = 0.2
    """After a stall this much is gathered first: one gap is better than many."""
    give_up_s: float = 10.0
    """No new sound for so long, in a stall, ends the announcement."""
    most_s: float = 2.0
    """Buffered sound from which on the reader has to wait."""


DEFAULT_RULES = JitterRules()


class JitterBuffer:
    """Keeps sound in order between a source and a sink; holds `most_s` and one chunk at most."""

    def __init__(
        self, rules: JitterRules = DEFAULT_RULES, *, head_start_s: float | None = None
    ) -> None:
        """`head_start_s` is the sound (s) that is known to be enough, where anything is known."""
        self._rules = rules
        known_s = rules.enough_s if head_start_s is None else max(head_start_s, rules.least_s)
        self._enough_s = min(rules.enough_s, known_s)
        self._chunks: deque[PcmChunk] = deque()
        self._offset = 0  # frames of the first chunk that are out already
        self._buffered_s = 0.0
        self._complete = False
        self._started = False
        self._first_at_s: float | None = None
        self._first_chunk_s = 0.0
        self._received_s = 0.0
        self._latest_at_s = 0.0
        self._stalled_at_s: float | None = None
        self._resuming = False

    @property
    def buffered_s(self) -> float:
        """Seconds of sound held."""
        return self._buffered_s

    @property
    def full(self) -> bool:
        """True when the reader should wait before it asks the source for more."""
        return self._buffered_s >= self._rules.most_s

    @property
    def started(self) -> bool:
        """True from the first sound handed out."""
        return self._started

    def push(self, chunk: PcmChunk, now_s: float) -> None:
        """Take a chunk that arrived at `now_s`."""
        seconds = chunk.seconds
        if not seconds:
            return
        if self._first_at_s is None:
            self._first_at_s = now_s
            self._first_chunk_s = seconds
        self._latest_at_s = now_s
        self._received_s += seconds
        self._buffered_s += seconds
        self._chunks.append(chunk)

    def end(self) -> None:
        """No more will come."""
        self._complete = True

    def next(self, now_s: float, queued_s: float) -> Play | Pad | Wait | Over | GiveUp:
        """What to do at `now_s`, with `queued_s` (s) of sound left in the sink."""
        if not self._started:
            return self._before_the_start(now_s)
        if self._stalled_at_s is not None:
            if not self._may_resume(now_s):
                return self._during_a_stall(now_s, self._stalled_at_s, queued_s)
            self._stalled_at_s = None
            self._resuming = bool(self._chunks)
        held_back = 0.0 if self._complete else self._rules.tail_s
        if self._chunks and self._buffered_s > held_back + _ROUNDING_S:
            return self._piece(self._rules.piece_s, held_back)
        if self._complete:
            return Over()
        if queued_s > self._rules.low_s:
            return Wait(queued_s - self._rules.low_s)
        self._stalled_at_s = now_s
        if self._chunks:
            # The part held back for this moment: the sound ends softly, then comes silence.
            return Play(self._taken(self._buffered_s), self._resumed(), fade_out=True)
        return Pad(self._rules.pad_s)

    def _before_the_start(self, now_s: float) -> Play | Wait | Over:
        if self._first_at_s is None:
            return Over() if self._complete else Wait(None)
        rules = self._rules
        waited_s = now_s - self._first_at_s
        left_s = rules.patience_s - waited_s
        if not (
            self._complete
            or self._buffered_s >= self._enough_s - _ROUNDING_S
            or left_s <= 0
            or (self._buffered_s >= rules.least_s and self._pace() >= rules.safe_pace)
        ):
            return Wait(left_s)
        self._started = True
        return self._piece(rules.first_piece_s, 0.0 if self._complete else rules.tail_s)

    def _pace(self) -> float:
        """Seconds of sound per second of waiting, as far as seen; 0 after a single chunk."""
        # The first chunk is no measure: nobody knows how long the source worked on it.
        assert self._first_at_s is not None
        later_s = self._received_s - self._first_chunk_s
        took_s = self._latest_at_s - self._first_at_s
        return later_s / max(took_s, 0.001)

    def _may_resume(self, now_s: float) -> bool:
        rested = bool(self._chunks) and now_s - self._latest_at_s >= self._rules.patience_s
        return self._complete or rested or self._buffered_s >= self._rules.resume_s

    def _during_a_stall(self, now_s: float, since_s: float, queued_s: float) -> Pad | Wait | GiveUp:
        silent_s = now_s - max(since_s, self._latest_at_s)
        if silent_s >= self._rules.give_up_s:
            return GiveUp(silent_s)
        if queued_s > self._rules.low_s:
            return Wait(queued_s - self._rules.low_s)
        return Pad(self._rules.pad_s)

    def _piece(self, wanted_s: float, held_back_s: float) -> Play:
        return Play(self._taken(min(wanted_s, self._buffered_s - held_back_s)), self._resumed())

    def _resumed(self) -> bool:
        resuming, self._resuming = self._resuming, False
        return resuming

    def _taken(self, wanted_s: float) -> PcmChunk:
        """The next sound in order, about `wanted_s` (s) and never none; one chunk's at most."""
        chunk = self._chunks[0]
        # At least a frame: a frame is the least step there is, and standing still is none.
        frames = max(1, round(wanted_s * chunk.format.rate))
        end = min(chunk.frames, self._offset + frames)
        piece = chunk
        if self._offset or end < chunk.frames:
            size = chunk.format.frame_bytes
            # A view: a long cached phrase is cut into pieces without being copied.
            view = memoryview(chunk.data)[self._offset * size : end * size]
            piece = PcmChunk(chunk.format, view)
        self._offset = end
        if end == chunk.frames:
            self._chunks.popleft()
            self._offset = 0
        self._buffered_s = max(0.0, self._buffered_s - piece.seconds) if self._chunks else 0.0
        return piece
