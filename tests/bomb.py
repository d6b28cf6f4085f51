"""A service that sends a frame nobody allowed: little on the wire, enormous when unpacked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import zlib
from collections.abc import AsyncIterator

NEGOTIATED = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
"""A header line with which it claims that packing was agreed upon."""
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""


@contextlib.asynccontextmanager
async def bombing(extension: str = "") -> AsyncIterator[str]:
    """64 MB of zeros in 64 KB for every request; whatever is said then, it stays connected."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(64_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = b"\xc1\x7f" + len(bomb[:-4]).to_bytes(8, "big") + bomb[:-4]  # the first bit: packed

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = re.search(r"(?i)sec-websocket-key: (\S+)", head)[1]  # type: ignore[index]
            proof = hashlib.sha1(f"{key}{_GUID}".encode()).digest()
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + base64.b64encode(proof)
                + f"\r\n{extension}\r\n".encode()
            )  # fmt: skip
            await reader.readexactly(2)
            writer.write(frame)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
