"""What has come from the broker and waits its turn: bytes in, packets out, without a socket.

A broker may send thousands of announcements at once: Mosquitto 2.0 forgets our receive maximum as
soon as acknowledgements flow. Handling each takes a thousand times as long as taking it from the
socket, so whatever comes behind them, "stop" or the confirmation of what we sent, would wait for
seconds. Here it is found, and goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES, RECEIVE_MAXIMUM
from kugel_bridge.mqtt.topics import matches

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Some 25,000 announcements of usual length; beyond that the socket is left alone for a while."""
_OVERHEAD_BYTES = 64
"""What a packet costs beside its own bytes."""
_PUBLISH, _DISCONNECT = 3, 14
_QOS_BITS = 0x06
_LONGEST_HEAD_BYTES = 5
"""The kind and up to four digits of the length (MQTT 5.0, section 2.1)."""


class Inbox:
    """Packets in the order to handle them: the broker's answers, then orders, then messages.

    An order overtakes only a flood: more messages before it than a broker may send that keeps to
    our receive maximum. Otherwise, and among each other, orders and messages keep their order: who
    says something and then "clear" means what was said before.
    """

    def __init__(
        self, orders: Collection[str] = (), max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        """`orders` are filters of topics at QoS 0: for QoS 1 the protocol demands the order."""
        self._orders, self._max_bytes = orders, max_waiting_bytes
        self._rest = bytearray()
        self._forgotten = 0
        self._broken = False
        self._answers: deque[bytes] = deque()
        self._ordered: deque[tuple[int, bytes]] = deque()
        """Each with the number of messages that are to be taken before it."""
        self._messages: deque[bytes] = deque()
        self._taken = self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers) + len(self._ordered) + len(self._messages)

    @property
    def held_bytes(self) -> int:
        """Its size in memory, or nearly so."""
        return self._bytes + len(self._rest)

    @property
    def full(self) -> bool:
        """Whether it had better not be given more."""
        return len(self) > 0 and self.held_bytes >= self._max_bytes

    def put(self, data: bytes) -> None:
        """Take bytes as they come from the socket.

        Of a packet over our limit the beginning is kept: refusing to read it would bring it again
        with every connection, and what is left is still too long to be spoken. (With MQTT 5 the
        broker keeps it from us; older versions of the protocol have no such limit.)
        """
        self._rest += data
        start = 0
        while not self._broken and (head := _head(self._rest, start)) is not None:
            head_bytes, body_bytes = head
            if head_bytes > _LONGEST_HEAD_BYTES:
                self._broken = True  # nobody knows where it ends; paho finds what is wrong
                self._keep(bytes(self._rest[start : start + head_bytes]), head_bytes)
                break
            end = start + head_bytes + min(body_bytes, MAX_PACKET_BYTES)
            excess = max(0, body_bytes - MAX_PACKET_BYTES)
            if excess and len(self._rest) > end:
                surplus = min(len(self._rest) - end, excess - self._forgotten)
                del self._rest[end : end + surplus]
                self._forgotten += surplus
            if len(self._rest) < end or self._forgotten < excess:
                break
            self._forgotten = 0
            packet = bytes(self._rest[start:end])
            if excess:
                packet = packet[:1] + _digits(MAX_PACKET_BYTES) + packet[head_bytes:]
                head_bytes = 1 + len(_digits(MAX_PACKET_BYTES))
            self._keep(packet, head_bytes)
            start = end
        if self._broken:
            self._rest.clear()
        else:
            del self._rest[:start]

    def take(self) -> bytes | None:
        """The next packet to handle; None if there is none."""
        packet = self._next()
        if packet is not None:
            self._bytes -= len(packet) + _OVERHEAD_BYTES
        return packet

    def _next(self) -> bytes | None:
        if self._answers:
            return self._answers.popleft()
        if self._ordered:
            turn, packet = self._ordered[0]
            if not 0 < turn - self._taken <= RECEIVE_MAXIMUM:
                self._ordered.popleft()
                return packet
        if self._messages:
            self._taken += 1
            return self._messages.popleft()
        return None

    def _keep(self, packet: bytes, head_bytes: int) -> None:
        self._bytes += len(packet) + _OVERHEAD_BYTES
        kind = packet[0] >> 4
        # A goodbye ends everything, so it comes after what was sent before it.
        if kind not in (_PUBLISH, _DISCONNECT) and not self._broken:
            self._answers.append(packet)
        elif kind == _PUBLISH and self._is_order(packet, head_bytes):
            self._ordered.append((self._taken + len(self._messages), packet))
        else:
            self._messages.append(packet)

    def _is_order(self, packet: bytes, head_bytes: int) -> bool:
        if packet[0] & _QOS_BITS:
            return False
        begin = head_bytes + 2
        size = int.from_bytes(packet[head_bytes:begin], "big")
        topic = packet[begin : begin + size].decode(errors="replace")
        return any(matches(pattern, topic) for pattern in self._orders)


def _head(data: bytearray, start: int) -> tuple[int, int] | None:
    """The sizes of a packet's head and of its body, in bytes; None while the head is not whole.

    A head that is longer than heads can be is one byte too long.
    """
    body_bytes = shift = 0
    for index in range(start + 1, min(len(data), start + _LONGEST_HEAD_BYTES + 1)):
        digit = data[index]
        body_bytes |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return index + 1 - start, body_bytes
        if index == start + _LONGEST_HEAD_BYTES:
            return _LONGEST_HEAD_BYTES + 1, 0
    return None


def _digits(size: int) -> bytes:
    """A length as it is written in a head."""
    digits = bytearray()
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)
