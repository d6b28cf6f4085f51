"""A TCP proxy that misbehaves on command: delays, throttles, cuts, stalls, resets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """What to do to the bytes that the server sends; may be changed while connections are open."""

    target: tuple[str, int]
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    cut_after: int | None = None
    """End each connection politely after so many bytes."""
    reset_after: int | None = None
    """The same, with a TCP reset."""
    accepted: int = 0
    port: int = 0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear it to stall: connections stay open, nothing passes."""
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset_all(self) -> None:
        """End every open connection with a TCP reset."""
        for writer in list(self._clients):
            _reset(writer)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.accepted += 1
        self._clients.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
            try:
                async with asyncio.TaskGroup() as tasks:
                    up = tasks.create_task(self._up(reader, upstream_writer))
                    await self._down(upstream_reader, writer)
                    up.cancel()
            finally:
                upstream_writer.close()
        except (OSError, ExceptionGroup):
            pass  # either side went away, which is what a proxy lives with
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
            # Nor does the end of a connection get through a cable that is cut.
            await self.flowing.wait()
        finally:
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(4096):
            await self.flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            limit = self.cut_after if self.cut_after is not None else self.reset_after
            if limit is not None and passed + len(data) >= limit:
                writer.write(data[: limit - passed])
                await writer.drain()
                if self.reset_after is not None:
                    _reset(writer)
                return
            passed += len(data)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        # Closing with a linger time of 0 sends RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxying(port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free loopback port in front of `port`."""
    proxy = Proxy(("127.0.0.1", port))
    proxy.flowing.set()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset_all()
