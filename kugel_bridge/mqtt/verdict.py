"""What becomes of a connection: the broker's welcome, or why there is none any more."""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass

from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kugel_bridge.model.errors import RetryableError

SEND_WINDOW = 20
"""Messages sent and not yet confirmed; the rest waits in the outbox, where it can be replaced."""

# MQTT 5.0, section 2.4; paho translates the codes of 3.1.1 into these.
_VERSION = 132
_PUZZLED = (128, 129, 130)
"""Unspecified, malformed, protocol error: perhaps it does not know our version."""
_REFUSED = (133, 134, 135, 138, 140, 144, 149, 154, 155)
"""Client id, login, rights, ban, sizes and features: only a person can change that."""
_TAKEN_OVER = 142


class Version(enum.Enum):
    """The protocol versions we speak, the better one first."""

    MQTT_5 = "5"
    MQTT_3_1_1 = "3.1.1"


class End(enum.Enum):
    """Why a connection ended, as far as the next try depends on it."""

    LOST = enum.auto()
    UNANSWERED = enum.auto()
    """Closed or silent before the broker's first word: perhaps it does not know our version."""
    VERSION = enum.auto()
    REFUSED = enum.auto()
    """Login or client id; a person has to act."""
    TAKEN_OVER = enum.auto()


class WireError(RetryableError):
    """A connection could not be made, or ended."""

    def __init__(self, reason: str, end: End) -> None:
        super().__init__(reason)
        self.end = end


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the broker said when it took us."""

    session_present: bool
    send_window: int = SEND_WINDOW
    max_packet_bytes: int | None = None
    max_qos: int = 1

    @classmethod
    def of(cls, session_present: bool, properties: Properties | None) -> Welcome:
        """From the answer to our login; its limits exist in MQTT 5 only."""
        return cls(
            session_present,
            min(SEND_WINDOW, getattr(properties, "ReceiveMaximum", SEND_WINDOW)),
            getattr(properties, "MaximumPacketSize", None),
            getattr(properties, "MaximumQoS", 1),
        )


def refusal(broker: object, code: ReasonCode) -> WireError:
    """The broker's no to our login."""
    ends = {_VERSION: End.VERSION, **dict.fromkeys(_PUZZLED, End.UNANSWERED)}
    ends.update(dict.fromkeys(_REFUSED, End.REFUSED))
    return WireError(f"{broker} refused us: {code}", ends.get(code.value, End.LOST))


def dismissal(code: ReasonCode) -> WireError:
    """The broker's goodbye."""
    if code.value == _TAKEN_OVER:
        return WireError("another client has taken over our client id", End.TAKEN_OVER)
    end = End.REFUSED if code.value in _REFUSED else End.LOST
    return WireError(f"the broker closed the connection: {code}", end)


def failure(broker: object, error: Exception) -> WireError:
    """No connection at all."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate of {broker} is refused: {error.verify_message}"
        if "not yet valid" in error.verify_message:
            reason += " (is the clock of this machine right?)"
        # Not End.REFUSED: a clock that is set a moment later cures it.
        return WireError(reason, End.LOST)
    if isinstance(error, ssl.SSLError):
        return WireError(f"the TLS handshake with {broker} failed: {error}", End.LOST)
    if isinstance(error, OSError):
        return WireError(f"{broker} cannot be reached: {error or 'timed out'}", End.LOST)
    return WireError(f"cannot connect to {broker}: {error}", End.LOST)
