"""A paho client that is fed packet by packet from an inbox, instead of reading its socket.

So what matters more is handled first, and nobody waits while one call works off many packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from kugel_bridge.mqtt.inbox import Inbox

_READ_BYTES = 64 * 1024
"""At a time: sorting them takes a few milliseconds, in which no sound is fed to a card. More than
the 16 KiB of a TLS record: a part of one left in there would not wake the selector."""


class FedClient(Client):
    """paho's client; only how it reads is ours."""

    def __init__(
        self, inbox: Inbox, take: Callable[[bytes], bool], *args: Any, **options: Any
    ) -> None:
        """`take` is offered each packet; paho handles those for which it returns False.

        `args` and `options` are paho's.
        """
        super().__init__(*args, **options)
        self._inbox, self._take = inbox, take
        self._meal = memoryview(b"")
        self._end: bytes | OSError | None = None

    @property
    def hungry(self) -> bool:
        """Whether `receive` would read."""
        return self._end is None and not self._inbox.full

    @property
    def waiting(self) -> bool:
        """Whether there is something for `step` to do."""
        return len(self._inbox) > 0 or self._end is not None

    def receive(self) -> None:
        """Read once from the socket, without handling anything."""
        if not self.hungry:
            return
        try:
            data = super()._sock_recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end = error
        else:
            if data:
                # paho's own note: who sends is not dead, though an answer to a ping may be late.
                self._last_bytes_received = time.monotonic()
                self._inbox.put(data)
            else:
                self._end = data

    def step(self) -> MQTTErrorCode:
        """Handle one packet; the end of the connection comes after the last one."""
        packet = self._inbox.take()
        if packet is not None and self._take(packet):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._meal = memoryview(packet or b"")
        return self.loop_read()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._meal:
            piece, self._meal = self._meal[:bufsize], self._meal[bufsize:]
            return bytes(piece)
        if self._end is None or len(self._inbox) > 0:
            raise BlockingIOError
        if isinstance(self._end, OSError):
            raise self._end
        return self._end
