"""The usual PUBLISH packet, read without paho: bytes in, values out.

paho builds a table of all properties there are for each message, with some 250 calls: a sixth of
the way from the socket to the sound.
"""

from __future__ import annotations

from typing import NamedTuple

KIND = 3
"""The upper half of a PUBLISH packet's first byte (MQTT 5.0, section 2.1.2)."""


class Publish(NamedTuple):
    """What a packet says."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    """0 at QoS 0, which has none."""


def plain_publish(packet: bytes, *, has_properties: bool) -> Publish | None:
    """The message in a whole packet; None for all that only paho can read, or has to complain of.

    That is QoS 2, a message with properties, and whatever breaks the protocol. `has_properties`
    tells whether packets have a place for them: they do in MQTT 5.
    """
    first = packet[0]
    qos = first >> 1 & 3
    if first >> 4 != KIND or qos > 1:
        return None
    try:
        start = 2
        while packet[start - 1] & 0x80:  # digits of the length; the last one has this bit clear
            start += 1
        topic_end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
        body = topic_end + 2 * qos
        if has_properties:
            if packet[body] != 0:  # their length
                return None
            body += 1
        topic = packet[start + 2 : topic_end].decode()
    except (IndexError, UnicodeDecodeError):
        return None
    mid = int.from_bytes(packet[topic_end : topic_end + 2], "big") if qos else 0
    if body > len(packet) or not topic or (qos and not mid):
        return None
    return Publish(topic, packet[body:], qos, bool(first & 1), bool(first & 8), mid)
