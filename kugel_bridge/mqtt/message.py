"""Messages as they come from a broker and go to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Ack:
    """Tells the broker that one message is safe with us; calling it again is harmless.

    It belongs to the connection the message came over. Once that is gone it does nothing: the
    broker counts anew, and a late number would acknowledge another message.
    """

    __slots__ = ("_send",)

    def __init__(self, send: Callable[[], None] | None = None) -> None:
        """`send` is None for QoS 0, where nobody waits for an answer."""
        self._send = send

    def __call__(self) -> None:
        """Acknowledge the message, if that is still possible."""
        send, self._send = self._send, None
        if send is not None:
            send()

    @property
    def pending(self) -> bool:
        """Whether the broker still waits for it, as far as we know."""
        return self._send is not None


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """One message from the broker; the lower fields exist in MQTT 5 only."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    ack: Ack
    expiry_s: int | None = None
    """What is left of its life (s) when it arrives."""
    response_topic: str | None = None
    correlation: bytes | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to the broker."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    correlation: bytes | None = None
    """MQTT 5; left out on older connections."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us, retained, when we vanish; we do on leaving."""

    topic: str
    payload: bytes
