"""A client made of bare TCP, for what no library would send, and to see what is on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from tests.gateway_server import WAIT_S

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(data: bytes | str, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """A masked frame, as clients send them."""
    payload = data.encode() if isinstance(data, str) else data
    first, size = (0x80 if fin else 0) | opcode, len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    # A mask of zeros leaves the data as they are.
    return head + bytes(4) + payload


class Listening(Protocol):
    """A server on a loopback port."""

    @property
    def port(self) -> int: ...


class Raw:
    """One TCP connection; every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(WAIT_S):
            await self.writer.drain()

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send objects as text frames."""
        await self.send(b"".join(frame(json.dumps(message)) for message in messages))

    async def upgrade(self, path: str = "/ws/tts") -> bytes:
        """Become a WebSocket; the head of the answer."""
        await self.send(UPGRADE % path.encode())
        return await self.head()

    async def head(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """The opcode and the data of the next frame."""
        async with asyncio.timeout(WAIT_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def receive(self) -> dict[str, Any]:
        """The next text frame as an object."""
        opcode, data = await self.frame()
        assert opcode == TEXT, (opcode, data)
        return json.loads(data)

    async def rest(self) -> bytes:
        """Everything up to the end; a reset raises ConnectionResetError."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()

    def reset(self) -> None:
        """Go away with a TCP reset."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def raw(server: Listening, *, receive_buffer: int | None = None) -> AsyncIterator[Raw]:
    """A connection; with `receive_buffer` the kernel keeps about so many unread bytes of it."""
    bare = socket.socket()
    if receive_buffer is not None:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    bare.setblocking(False)
    async with asyncio.timeout(WAIT_S):
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=bare, limit=1 << 24)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
