"""What waits to be sent: bounded, and of a retained topic only the last value."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from kugel_bridge.mqtt.message import Outgoing

MAX_EVENTS = 12_000
"""Ten thousand messages at once have an outcome each. Mosquitto 2.0 sends them faster than it may,
and takes twenty of ours at a time: so long they have to wait here."""
MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_ANSWERS = 100
"""More than may be under way; a caller who hears nothing asks again."""
CROWDED_AT = 100
"""So many events leave in some tens of milliseconds. Who makes more has to wait for that."""


class Outbox:
    """Messages in the order to send them: retained ones first, then answers, then events."""

    def __init__(
        self, max_events: int = MAX_EVENTS, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self._max_events, self._max_bytes = max_events, max_event_bytes
        self._retained: OrderedDict[str, Outgoing] = OrderedDict()
        self._answers: deque[Outgoing] = deque(maxlen=MAX_ANSWERS)
        self._events: deque[Outgoing] = deque()
        self._bytes = 0
        self.dropped = 0
        """Events given up for lack of room, the oldest first."""

    def __len__(self) -> int:
        return len(self._retained) + len(self._answers) + len(self._events)

    @property
    def crowded(self) -> bool:
        """Whether events are made faster than the broker takes them."""
        return len(self._events) >= CROWDED_AT

    def put(self, message: Outgoing, *, is_answer: bool = False) -> None:
        """Take a message; a retained one replaces what waits for its topic.

        An answer does not wait for events: somebody who said "stop" looks at the clock.
        """
        if is_answer:
            self._answers.append(message)
            return
        if message.retain:
            self._retained[message.topic] = message
            self._retained.move_to_end(message.topic)
            return
        self._events.append(message)
        self._bytes += len(message.payload)
        self._shrink()

    def put_back(self, messages: Iterable[Outgoing]) -> None:
        """Take back, in front, what was sent and never confirmed; newer values win."""
        for message in reversed(list(messages)):
            if message.retain:
                if message.topic not in self._retained:
                    self._retained[message.topic] = message
                    self._retained.move_to_end(message.topic, last=False)
            else:
                self._events.appendleft(message)
                self._bytes += len(message.payload)
        self._shrink()

    def take(self) -> Outgoing | None:
        """The next message to send; None if there is none."""
        if self._retained:
            return self._retained.popitem(last=False)[1]
        if self._answers:
            return self._answers.popleft()
        if not self._events:
            return None
        message = self._events.popleft()
        self._bytes -= len(message.payload)
        return message

    def _shrink(self) -> None:
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._bytes -= len(self._events.popleft().payload)
            self.dropped += 1
