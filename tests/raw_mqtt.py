"""Somebody at the broker without a client library's scruples: any bytes, any flags, any length."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Self

TIMEOUT_S = 30.0
_PIECE = 1 << 20
"""Huge payloads are made piece by piece: the memory of this process is measured too."""


class RawClient:
    """One MQTT 3.1.1 session over a plain socket."""

    def __init__(self, port: int, client_id: str = "raw", *, clean: bool = True) -> None:
        """`clean=False` takes up the session that the broker keeps under that client id."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        name = client_id.encode()
        body = b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + b"\x00\x3c" + _string(name)
        self._socket.sendall(b"\x10" + remaining_length(len(body)) + body)
        first, answer = self._packet()
        if first != 0x20 or answer[1] != 0:
            raise ConnectionError(f"the broker refused {client_id}: {answer!r}")
        self.session_present = bool(answer[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(packet)

    def publish(
        self,
        topic: bytes | str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        dup: bool = False,
        mid: int = 1,
    ) -> None:
        """Publish whatever is given; with QoS 1 return when the broker has it."""
        self.send(publish_packet(topic, payload, qos=qos, retain=retain, dup=dup, mid=mid))
        if qos:
            first, answer = self._packet()
            assert (first, answer) == (0x40, mid.to_bytes(2, "big"))

    def publish_huge(self, topic: str, size: int) -> None:
        """Publish `size` bytes with QoS 1; return when the broker has them."""
        head = _string(topic.encode()) + b"\x00\x01"
        self.send(b"\x32" + remaining_length(len(head) + size) + head)
        piece = b"x" * _PIECE
        for sent in range(0, size, _PIECE):
            self._socket.sendall(piece[: size - sent])
        assert self._packet()[0] == 0x40

    def waiting(self) -> list[tuple[str, bytes]]:
        """What the broker holds for this session: (topic, payload), none of it acknowledged.

        It is sent before the answer to a ping, as far as the window for unacknowledged ones goes.
        """
        self.send(b"\xc0\x00")
        found = []
        for first, body in iter(self._packet, (0xD0, b"")):
            if first & 0xF0 == 0x30:
                size = int.from_bytes(body[:2], "big")
                rest = body[2 + size :]
                found.append((body[2 : 2 + size].decode(), rest[2:] if first & 0x06 else rest))
        return found

    def is_closed(self) -> bool:
        """Wait until the broker hangs up; False if it does not."""
        try:
            for _ in self._bytes():
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def _packet(self) -> tuple[int, bytes]:
        (first,) = self._exactly(1)
        length = shift = 0
        while True:
            (digit,) = self._exactly(1)
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._socket.recv(count - len(found))
            if not piece:
                raise ConnectionError("the broker hung up")
            found += piece
        return found

    def _bytes(self) -> Iterator[bytes]:
        while piece := self._socket.recv(4096):
            yield piece


def publish_packet(
    topic: bytes | str,
    payload: bytes,
    *,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    mid: int = 1,
    five: bool = False,
) -> bytes:
    """A PUBLISH packet; `five` adds the empty properties of MQTT 5."""
    name = topic if isinstance(topic, bytes) else topic.encode()
    body = _string(name) + (mid.to_bytes(2, "big") if qos else b"")
    body += (b"\x00" if five else b"") + payload
    first = 0x30 | dup << 3 | qos << 1 | retain
    return bytes([first]) + remaining_length(len(body)) + body


def held_by_broker(port: int, client_id: str) -> list[bytes]:
    """The payloads that a client, which is away, has not acknowledged."""
    with RawClient(port, client_id, clean=False) as session:
        assert session.session_present, f"the broker has no session of {client_id}"
        return [payload for _, payload in session.waiting()]


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def remaining_length(size: int) -> bytes:
    """A packet's length as MQTT writes it."""
    digits = bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(digits)
