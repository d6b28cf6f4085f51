"""A gateway under attack, with a good client who is to notice nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.limits import NoLimits, Ticket
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import Usage
from tests.gateway.raw import Raw
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, serving
from tests.open_files import open_files

SHORT_S = 0.2
FLOOD = 2_000
SOCKETS = ("/ws/tts", "/ws/tts/stream", "/ws/tts/multi")
ASK = {
    "/ws/tts": REQUEST,
    "/ws/tts/stream": REQUEST | {"flush": True},
    "/ws/tts/multi": {
        "text": "Hello there.",
        "context_id": "c",
        "flush": True,
        "voice_settings": {"voice_id": 1},
    },
}
GENERATE = json.dumps(REQUEST).encode()
POST = (
    b"POST /v1/tts/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Counted(NoLimits):
    """Lets everything in and knows what has not been given back."""

    sockets: int = 0
    tickets: set[Ticket] = field(default_factory=set)

    def open_socket(self, account: str) -> Refusal | None:
        self.sockets += 1
        return None

    def close_socket(self, account: str) -> None:
        self.sockets -= 1

    def begin(self, account: str) -> Ticket | Refusal:
        ticket = _Ticket(self)
        self.tickets.add(ticket)
        return ticket


class _Ticket:
    def __init__(self, limits: Counted) -> None:
        self._limits = limits

    def spend(self, characters: int) -> Refusal | None:
        return None

    async def end(self, usage: Usage | None) -> None:
        self._limits.tickets.discard(self)


async def until(condition: Callable[[], bool]) -> None:
    """Return when it is so; a hang is an error."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def attacked(engine: Engine | None = None) -> AsyncIterator[GatewayServer]:
    """A gateway with a good client, who is served before, during and after the attack.

    When the attacker has gone, no descriptor and no task is left, and nothing is
    open, under way or on the books.
    """
    limits = Counted()
    async with serving(engine or ScriptedEngine(), limits=limits) as server:
        over, served = asyncio.Event(), asyncio.Event()
        files, tasks = open_files(), len(asyncio.all_tasks())
        async with asyncio.TaskGroup() as group:
            group.create_task(_good_client(server, over, served))
            await served.wait()
            yield server
            served.clear()
            await served.wait()
            over.set()
        await until(lambda: open_files() <= files)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert (limits.sockets, limits.tickets) == (0, set())


async def _good_client(server: GatewayServer, over: asyncio.Event, served: asyncio.Event) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        while not over.is_set():
            assert (await client.get("/health")).status_code == 200
            async with wire(server) as talk:
                for _ in range(2):
                    await talk.send({**REQUEST, "voice_id": "anna"})
                    assert "final" in (await talk.until_end())[-1]
            served.set()
            # A customer, not an attacker: between two texts there is some time.
            await asyncio.sleep(SHORT_S / 10)


async def ended(client: Raw) -> bytes:
    """What came before the server hung up, by whichever means."""
    got = b""
    async with asyncio.timeout(WAIT_S):
        try:
            while part := await client.reader.read(65536):
                got += part
        except ConnectionError:
            pass
    return got
