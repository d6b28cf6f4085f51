"""The thread that owns a sound card: nobody else touches the open device.

It sleeps between announcements, and while sound is playing wakes about once a
period, so it never waits inside alsa-lib and can be told to stop at any moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from kugel_bridge.audio.handle import UNDERRUN, PcmHandle
from kugel_bridge.audio.loudness import faded
from kugel_bridge.audio.mailbox import Mailbox, Order, Reply
from kugel_bridge.audio.progress import Progress
from kugel_bridge.model.errors import DeviceError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat

logger = logging.getLogger(__name__)

FADE_S = 0.01
_FADE_LIMIT_S = 0.035
"""A card that has not played the fade by then is silenced without it."""
_SHORTEST_PAUSE_S = 0.001
_RESTARTS = 5
"""Underruns or suspends in a row without a frame taken in between, before the card is given up."""


class Feeder:
    """Feeds one card. Methods without underscore are called from the event loop."""

    def __init__(
        self,
        name: str,
        open_handle: Callable[[], PcmHandle],
        *,
        stall_timeout_s: float,
        heard_frames: int = 0,
    ) -> None:
        self._name = name
        self._open_handle = open_handle
        self._stall_timeout_s = stall_timeout_s
        self._mail = Mailbox()
        # Written by the thread, each a single value that anybody may read:
        self.format: PcmFormat | None = None
        self.underruns = 0
        self.wake_ups = 0
        self._progress = Progress(heard_frames)
        # The thread's own:
        self._handle: PcmHandle | None = None
        self._drain_replies: list[Reply] = []
        self._draining = False
        self._thread = threading.Thread(target=self._run, name=f"sound {name}", daemon=True)

    # --- called from the event loop -------------------------------------------------------

    def start(self) -> None:
        """Start the thread; it sleeps until it is asked for something."""
        self._thread.start()

    @property
    def failure(self) -> DeviceError | None:
        """Why it cannot take sound now; None while the card is open."""
        return self._mail.failure

    def ask(self, order: Order, reply: Reply) -> bool:
        """Have `order` carried out; True: `reply` is called when it is."""
        self._mail.ask(order, reply)
        return True

    @property
    def stands_still(self) -> bool:
        """Whether nothing was written to the card since it was opened, drained or stopped."""
        return not self._progress.position.written

    def put(self, data: memoryview, started: Reply | None = None) -> bool:
        """Take whole frames of sound; `started` is called when the card has taken some.

        To be asked for when the card stands still, so that a dead card is noticed with the first
        sound. Raises DeviceError when the card is not open.
        """
        self._mail.put(data, started)
        return True

    @property
    def pending_bytes(self) -> int:
        """Sound that the card has not taken yet; only `put` adds to it."""
        return self._mail.pending_bytes

    def when_room(self, full_bytes: int, refill_bytes: int, reply: Reply) -> bool:
        """False when less than `full_bytes` wait; else `reply` tells when it is `refill_bytes`."""
        return self._mail.when_room(full_bytes, refill_bytes, reply)

    def abandon(self) -> None:
        """Expect nothing more of it: it lets go of the card when alsa-lib lets go of it."""
        self._mail.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, at most `timeout_s` (s)."""
        self._thread.join(timeout_s)

    @property
    def heard_frames(self) -> int:
        """Frames that have left the card, as last seen by the thread."""
        return self._progress.heard_frames

    @property
    def queued_s(self) -> float:
        """Seconds of sound not yet heard."""
        if self.format is None:
            return 0.0
        waiting_s = self._mail.pending_bytes / self.format.frame_bytes / self.format.rate
        return waiting_s + self._progress.queued_s(self.format.rate, time.monotonic())

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._mail.closed:
            self.wake_ups += self._mail.wait(self._pause_s)
            order = self._mail.next_order()
            try:
                if order is None:
                    self._feed()
                elif self._carry_out(*order):
                    break
            except DeviceError as error:
                self._fail(error, order[1] if order else None)
            except Exception as error:
                # A bug of ours: those who wait must hear of it, and the next open may work.
                logger.exception("sound card %s: unexpected error", self._name)
                failure = DeviceError(f"sound card {self._name} failed: {error!r}")
                self._fail(failure, order[1] if order else None)
        if self._handle is not None:
            self._handle.close()
        while order := self._mail.next_order():
            order[1](None)  # came while it closed: there is nothing left to do it on

    def _pause_s(self) -> float | None:
        """How long there is nothing to do (s); None = until somebody asks."""
        handle, position = self._handle, self._progress.position
        if handle is None:
            return None
        if not position.written:
            return 0.0 if self._mail.pending_bytes or self._drain_replies else None
        rate = handle.format.rate
        since_s = time.monotonic() - position.seen_at_s
        if not self._draining:
            if self._mail.pending_bytes:
                wanted = handle.period_frames - handle.buffer_frames + position.in_card
                return max(0.0, wanted / rate - since_s)
            if self._drain_replies:
                return 0.0
        # Look again when the rest should be out, and in between, to notice a card that died.
        left_s = position.in_card / rate - since_s
        return min(max(left_s, _SHORTEST_PAUSE_S), 2 * handle.period_frames / rate)

    def _carry_out(self, order: Order, reply: Reply) -> bool:
        """True when it was the last order."""
        if order is Order.DRAIN and self._handle is not None:
            self._drain_replies.append(reply)
            return False
        if order is Order.OPEN:
            self._open()
        elif order is Order.STOP:
            self._stop()
        elif order is Order.CLOSE:
            self._close()
        reply(None)
        return order is Order.CLOSE

    def _open(self) -> None:
        if self._handle is not None:
            return
        handle = self._open_handle()
        self._handle = handle
        self.format = handle.format
        self._mail.failure = None
        logger.info(
            "sound card %s: %d Hz, %d channels, %d bit, period %d, buffer %d frames",
            self._name,
            handle.format.rate,
            handle.format.channels,
            handle.format.sample_bytes * 8,
            handle.period_frames,
            handle.buffer_frames,
        )

    def _feed(self) -> None:
        handle = self._handle
        if handle is None:
            return
        if self._draining:
            self._watch_the_end(handle)
            return
        room = self._look(handle)
        if self._mail.pending_bytes and room:
            try:
                self._fill(handle, room)
            except DeviceError as error:
                if self._progress.position.written:
                    raise
                # It stood still and died meanwhile, unnoticed; a card that was put back works.
                logger.info("%s; opening it again now", error)
                handle = self._reopened(handle)
                self._fill(handle, handle.buffer_frames)
        if not self._mail.pending_bytes and self._drain_replies:
            self._finish(handle)

    def _reopened(self, old: PcmHandle) -> PcmHandle:
        self._handle = None
        old.close()
        handle = self._open_handle()
        self._handle = handle
        if handle.format != old.format:
            raise DeviceError(f"sound card {self._name} came back with another format")
        return handle

    def _look(self, handle: PcmHandle) -> int:
        """Note the card's position; the room in it, in frames."""
        if not self._progress.position.written:
            return handle.buffer_frames
        room = handle.avail()
        if room < 0:
            self._restart(handle, room)
            return handle.buffer_frames
        still_s = self._progress.seen(max(0, handle.buffer_frames - room), time.monotonic())
        if still_s > self._stall_timeout_s:
            raise DeviceError(
                f"sound card {self._name} has stood still for {still_s:.1f} s:"
                " it will be opened again"
            )
        return room

    def _fill(self, handle: PcmHandle, room: int) -> None:
        frame = handle.format.frame_bytes
        restarts = 0
        while room > 0 and (piece := self._mail.front(room * frame)):
            taken = handle.write(piece)
            if taken == 0:
                return
            if taken < 0:
                restarts += 1
                if restarts > _RESTARTS:
                    raise DeviceError(f"sound card {self._name} does not get going again")
                self._restart(handle, taken)
                continue
            restarts = 0
            room -= taken
            piece = piece[: taken * frame]
            self._progress.wrote(piece, taken, handle.buffer_frames * frame, time.monotonic())
            self._mail.taken(len(piece))

    def _restart(self, handle: PcmHandle, reason: int) -> None:
        """After an underrun or a suspend: get the card ready for the next write."""
        self._progress.broke_off(handle.format.rate, handle.period_frames // 4, time.monotonic())
        if reason == UNDERRUN:
            self.underruns += 1
            logger.debug("sound card %s: underrun %d", self._name, self.underruns)
        else:
            logger.info("sound card %s was suspended; going on", self._name)
        handle.drop()

    def _finish(self, handle: PcmHandle) -> None:
        """All sound is in the card: let it play out."""
        written = self._progress.position.written
        if not written:
            self._tell_drained()
        elif handle.whole_periods and self._progress.meant is None:
            # The rest of the last period, and one more: the card may run on before we see it.
            frames = -written % handle.period_frames + handle.period_frames
            self._progress.meant = written
            self._mail.put(memoryview(bytes(frames * handle.format.frame_bytes)), None)
        else:
            self._draining = True
            self._watch_the_end(handle)

    def _watch_the_end(self, handle: PcmHandle) -> None:
        over = handle.drained()
        if not over:
            self._look(handle)
            position, meant = self._progress.position, self._progress.meant
            if position.written and (meant is None or position.played < meant):
                return
            handle.drop()  # only silence is left
        self._draining = False
        self._progress.stopped(self._progress.position.written)
        self._tell_drained()

    def _stop(self) -> None:
        self._mail.forget()
        handle = self._handle
        if handle is not None and self._progress.position.written:
            handle.hold()
            self._look(handle)
            rest = self._progress.rest(handle.format)
            handle.drop()
            self._draining = False
            self._progress.stopped(self._progress.position.played)
            if rest:
                self._fade_out(handle, rest)
        self._tell_drained()

    def _fade_out(self, handle: PcmHandle, rest: bytes) -> None:
        """Go on for 10 ms from where the card was, ever softer: an abrupt end is a click."""
        frame = handle.format.frame_bytes
        rest = rest[: handle.format.frames_in(FADE_S) * frame]
        frames = len(rest) // frame
        silent = handle.period_frames if handle.whole_periods else 0
        tail = faded(PcmChunk(handle.format, rest), 1.0, 0.0)
        in_card = written = handle.write(bytes(tail.data) + bytes(silent * frame))
        end_s = time.monotonic() + _FADE_LIMIT_S
        while in_card > silent and time.monotonic() < end_s:
            time.sleep(_SHORTEST_PAUSE_S)
            room = handle.buffer_frames if handle.drained() else handle.avail()
            in_card = handle.buffer_frames - room if room >= 0 else 0
        handle.drop()
        self._progress.heard_also(max(0, min(frames, written - in_card)))

    def _close(self) -> None:
        self._mail.forget()
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                handle.hold()
                self._look(handle)
            except DeviceError as error:
                logger.debug("closing: %s", error)
            self._progress.stopped(self._progress.position.played)
            handle.close()
        self._draining = False
        self.format = None
        self._mail.fail(DeviceError(f"sound card {self._name} is not open"))
        self._tell_drained()

    def _fail(self, error: DeviceError, reply: Reply | None) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()
        self._draining = False
        self._progress.stopped(self._progress.position.played)
        replies, self._drain_replies = self._drain_replies, []
        self._mail.fail(error)
        for waiting in ([reply] if reply else []) + replies:
            waiting(error)

    def _tell_drained(self) -> None:
        replies, self._drain_replies = self._drain_replies, []
        for reply in replies:
            reply(None)
