"""What the event loop and a sound card's thread hand each other: sound, orders, replies."""

from __future__ import annotations

import contextlib
import enum
import queue
import threading
from collections import deque
from collections.abc import Callable

from kugel_bridge.model.errors import DeviceError

Reply = Callable[[DeviceError | None], None]
"""Told once, from the card's thread: done, or what went wrong."""


class Order(enum.Enum):
    """What a sink asks for besides sound."""

    OPEN = enum.auto()
    DRAIN = enum.auto()
    STOP = enum.auto()
    CLOSE = enum.auto()


class Mailbox:
    """Bounded by its users: a sink asks `when_room` before it puts sound in."""

    def __init__(self) -> None:
        self.failure: DeviceError | None = DeviceError("not open")
        """Why sound cannot be taken now; None while the card is open."""
        self.pending_bytes = 0
        """Sound that waits; one value, that any thread may read."""
        # Not a condition: waking a thread through one takes it twice as long to the sound card.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._orders: deque[tuple[Order, Reply]] = deque()
        self._pending: deque[memoryview] = deque()
        self._room_replies: list[tuple[int, Reply]] = []
        self._started_replies: list[Reply] = []
        self._closed = False

    # --- for the event loop ---------------------------------------------------------------

    def ask(self, order: Order, reply: Reply) -> None:
        """Have `order` carried out; `reply` is called when it is."""
        with self._lock:
            self._orders.append((order, reply))
        self._bell.put(None)

    def put(self, data: memoryview, started: Reply | None) -> None:
        """Hand over whole frames; `started` is told when the card has taken some of them.

        Raises DeviceError while the card is not open.
        """
        with self._lock:
            if self.failure is not None:
                # The same error is raised for each write: its traceback must not grow.
                raise self.failure.with_traceback(None)
            is_news = not self._pending
            self._pending.append(data)
            self.pending_bytes += len(data)
            if started is not None:
                self._started_replies.append(started)
        if is_news:
            self._bell.put(None)

    def when_room(self, full_bytes: int, refill_bytes: int, reply: Reply) -> bool:
        """False when less than `full_bytes` wait; else `reply` tells when it is `refill_bytes`."""
        with self._lock:
            if self.pending_bytes < full_bytes:
                return False
            self._room_replies.append((refill_bytes, reply))
            return True

    def close(self) -> None:
        """The thread shall end as soon as it looks here."""
        self._closed = True
        self._bell.put(None)

    # --- for the thread -------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True when the thread shall end."""
        return self._closed

    def wait(self, pause_s: Callable[[], float | None]) -> bool:
        """Sleep as long as `pause_s` says (s, None = until there is something); True if it slept.

        What comes after it was asked rings the bell, so nothing is slept over.
        """
        while not self._bell.empty():
            self._bell.get()  # rung for what is seen in the next line
        pause = 0.0 if self._orders or self._closed else pause_s()
        if pause == 0.0:
            return False
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=pause)
        return True

    def next_order(self) -> tuple[Order, Reply] | None:
        """The oldest order, if there is one."""
        with self._lock:
            return self._orders.popleft() if self._orders else None

    def front(self, most_bytes: int) -> memoryview:
        """The next sound, at most so much; it stays until it is `taken`. Empty: there is none."""
        # Only the thread takes from the front, so no lock is needed to look there.
        return self._pending[0][:most_bytes] if self._pending else memoryview(b"")

    def taken(self, size: int) -> None:
        """The card took `size` bytes of the front."""
        with self._lock:
            head = self._pending.popleft()
            if len(head) > size:
                self._pending.appendleft(head[size:])
            self.pending_bytes -= size
            told, self._started_replies = self._started_replies, []
        for reply in told:
            reply(None)
        self._tell_room()

    def forget(self) -> None:
        """Drop the sound that waits; those who wait for room or for its start are told."""
        with self._lock:
            self._pending.clear()
            self.pending_bytes = 0
            told, self._started_replies = self._started_replies, []
        for reply in told:
            reply(None)
        self._tell_room()

    def fail(self, error: DeviceError) -> None:
        """Drop the sound that waits, and tell everybody who waits, now and later, why."""
        with self._lock:
            self.failure = error
            self._pending.clear()
            self.pending_bytes = 0
            told = [reply for _, reply in self._room_replies] + self._started_replies
            self._room_replies, self._started_replies = [], []
        for reply in told:
            reply(error)

    def _tell_room(self) -> None:
        if not self._room_replies:
            return
        with self._lock:
            pending = self.pending_bytes
            told = [reply for most, reply in self._room_replies if pending <= most]
            self._room_replies = [item for item in self._room_replies if pending > item[0]]
        for reply in told:
            reply(None)
