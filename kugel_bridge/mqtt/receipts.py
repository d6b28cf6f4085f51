"""Acknowledgements on their way to the broker: in order, and no faster than what they set off.

A broker that keeps to our receive maximum sends one message for each. Mosquitto 2.0.11 sends a
whole window of twenty: acknowledged as soon as they are safe, twenty bring four hundred, and those
bring all the rest, to wait for seconds here instead of there. So a flood is asked for little by
little; what it has brought is safe meanwhile, acknowledged or not.
"""

from __future__ import annotations

from collections import deque

from kugel_bridge.mqtt.broker import RECEIVE_MAXIMUM

EVERY_S = 0.005
"""Between two steps of a flood: one acknowledgement, and twenty messages to handle."""
QUIET_STEPS = 40
"""When so many brought nothing the flood is over, unless the network is slower than that."""
AT_ONCE = 100
"""Sending each costs a Pi 0.3 ms, in which it does nothing else."""

Receipt = tuple[int, int]
"""The packet id of a message, and its QoS."""


class Receipts:
    """What may be acknowledged and was not yet."""

    def __init__(self) -> None:
        self._held: deque[Receipt] = deque()
        self.is_flooded = False
        """The broker has sent more than it may."""
        self._arrived = self._quiet_steps = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, receipt: Receipt) -> None:
        """A message is safe, or done with."""
        self._held.append(receipt)

    def take(self, most: int = AT_ONCE) -> list[Receipt]:
        """The next ones, whatever they set off."""
        return [self._held.popleft() for _ in range(min(most, len(self._held)))]

    def take_due(self, *, handled: int, unread: int, unacknowledged: int) -> list[Receipt]:
        """Those to send now; of a flood, no sooner than a step after the last ones.

        `handled` counts all messages so far, `unread` those that arrived and were not handled,
        `unacknowledged` those that were and have no acknowledgement.
        """
        # A broker that did it once does it again.
        self.is_flooded |= unacknowledged + unread > RECEIVE_MAXIMUM
        if not self.is_flooded:
            return self.take()
        quiet, self._arrived = handled + unread == self._arrived, handled + unread
        self._quiet_steps = self._quiet_steps + 1 if quiet else 0
        if unread >= RECEIVE_MAXIMUM:
            return []
        return self.take(AT_ONCE if self._quiet_steps >= QUIET_STEPS else 1)
