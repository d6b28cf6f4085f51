"""Between a broker and one client: when each message was handed on, and when it was acknowledged.

A process of its own, so that nobody's work delays its clock:

    .venv/bin/python -m benchmarks.wiretap BROKER_PORT TOPIC

It tells its port on the first line; when its input ends, it tells what it saw on the second.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

READ_BYTES = 64 * 1024
CONNECT, PUBLISH, PUBACK = 1, 3, 4
TELL_LIMIT_BYTES = 64 * 1024 * 1024
"""What it saw comes as one line."""


class Passed(NamedTuple):
    """One message of QoS 1 on its way to the client (monotonic s of this machine)."""

    payload: str
    given_s: float
    """Before its last byte was handed to the client's socket."""
    acknowledged_s: float | None
    """After its acknowledgement was read."""


class Packets:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """First byte and body of each packet that ends in `data`."""
        self._rest += data
        start = 0
        while (found := _packet(self._rest, start)) is not None:
            first, begin, end = found
            yield first, self._rest[begin:end]
            start = end
        self._rest = self._rest[start:]


class Wiretap:
    """What passed through."""

    def __init__(self, topic: str) -> None:
        self._topic = topic.encode()
        self._open: dict[int, tuple[str, float]] = {}
        self._done: list[Passed] = []
        self._client_speaks_5 = False

    def down(self, packets: Iterator[tuple[int, bytes]]) -> None:
        """The broker sends these to the client."""
        now_s = monotonic()
        for first, body in packets:
            size = int.from_bytes(body[:2], "big")
            if first >> 4 == PUBLISH and first & 0x06 and body[2 : 2 + size] == self._topic:
                mid = int.from_bytes(body[2 + size : 4 + size], "big")
                # No property list of a broker's reaches the size where its length takes two bytes.
                begin = 5 + size + body[4 + size] if self._client_speaks_5 else 4 + size
                self._open[mid] = body[begin:].decode(), now_s

    def up(self, packets: Iterator[tuple[int, bytes]]) -> None:
        """The client sent these to the broker."""
        now_s = monotonic()
        for first, body in packets:
            if first >> 4 == CONNECT:
                self._client_speaks_5 = body[6] == 5
            elif first >> 4 == PUBACK:
                mid = int.from_bytes(body[:2], "big")
                if mid in self._open:
                    self._done.append(Passed(*self._open.pop(mid), now_s))

    def passed(self) -> list[Passed]:
        """Every message, in the order of their acknowledgements; those without one last."""
        return self._done + [Passed(*begun, None) for begun in self._open.values()]


class Tap:
    """The wiretap's process, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port

    async def passed(self) -> list[Passed]:
        """What it saw; it ends with that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        return [Passed(*row) for row in json.loads(await self._process.stdout.readline())]


@asynccontextmanager
async def tapping(broker_port: int, topic: str) -> AsyncIterator[Tap]:
    """A wiretap in front of a broker on this machine."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.wiretap", str(broker_port), topic),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=TELL_LIMIT_BYTES,
    )
    assert process.stdout is not None
    try:
        yield Tap(process, int(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def tap(broker_port: int, topic: str) -> None:
    """Listen until the input ends, then tell."""
    wiretap = Wiretap(topic)

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("127.0.0.1", broker_port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_carry(broker, to_client, wiretap.down))
            tasks.create_task(_carry(client, to_broker, wiretap.up))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(wiretap.passed()), flush=True)


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    look: Callable[[Iterator[tuple[int, bytes]]], None],
) -> None:
    packets = Packets()
    while data := await reader.read(READ_BYTES):
        look(packets.of(data))
        writer.write(data)
        await writer.drain()
    writer.close()


def _packet(data: bytes, start: int) -> tuple[int, int, int] | None:
    """First byte, begin and end of the body; None if it is not whole."""
    size = shift = 0
    for index in range(start + 1, len(data)):
        size |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            begin = index + 1
            return (data[start], begin, begin + size) if begin + size <= len(data) else None
    return None


if __name__ == "__main__":
    asyncio.run(tap(int(sys.argv[1]), sys.argv[2]))
