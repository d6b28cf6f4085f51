"""Clients that attack, while a good one goes on; nothing of them may stay behind."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from kugel_bridge.gateway import cable, listener, reception
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.limits import NoLimits, Ticket
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import Usage
from tests.gateway.raw import BINARY, CLOSE, PING, Raw, frame, raw
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving
from tests.open_files import open_files
from tests.speech.test_espeak import children

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


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    told = caplog.get_records("call")
    assert [each for each in told if each.levelno >= logging.ERROR] == []


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    for name in ("HEAD_S", "BODY_S", "STUCK_S"):
        monkeypatch.setattr(reception, name, SHORT_S)
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough descriptors for both ends of a flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * FLOOD + 1_000
    if 0 <= hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


async def dripped(client: Raw, data: bytes) -> bytes:
    """The answer to bytes that come one by one, until the server has had enough."""
    try:
        for byte in data:
            await client.send(bytes([byte]))
            await asyncio.sleep(SHORT_S / 10)
            if client.reader.at_eof():
                break
        else:
            raise AssertionError("all of it was taken")
    except ConnectionError:
        pass
    return await ended(client)


# --- requests that never come to their end --------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("first", [b"", b"G", GET[:-2], b"GET /ws/tts HTTP/1.1\r\nUpgrade:"])
async def test_a_silent_connection_is_hung_up(first: bytes) -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(first)
        assert await ended(client) == b""


@pytest.mark.usefixtures("short")
async def test_a_head_that_drips_is_hung_up() -> None:
    async with attacked() as server, raw(server) as client:
        assert await dripped(client, GET) == b""


@pytest.mark.usefixtures("short")
async def test_a_second_head_that_drips_is_hung_up() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(GET)
        await client.head()
        assert b"HTTP/1.1" not in await dripped(client, GET)


@pytest.mark.usefixtures("short")
async def test_a_body_that_drips_is_hung_up() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(POST % 1000)
        assert b"200 OK" not in await dripped(client, b" " * 1000)


@pytest.mark.usefixtures("short")
async def test_an_idle_connection_is_kept_for_the_next_request() -> None:
    async with attacked() as server, raw(server) as client:
        for _ in range(2):
            await client.send(GET)
            assert b" 200 " in await client.head()
            await client.reader.readexactly(len('{"status":"healthy"}'))
            await asyncio.sleep(2 * SHORT_S)
        assert not client.reader.at_eof()


@pytest.mark.usefixtures("many_files")
async def test_thousands_of_silent_connections_are_bounded_and_displace_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Both ends of the flood share one event loop, which may take a while to come round.
    monkeypatch.setattr(reception, "HEAD_S", 2.0)
    async with attacked() as server:
        before = open_files()
        bare = []
        for number in range(FLOOD):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", server.port))
            bare.append(connection)
            if number % 200 == 0:
                await asyncio.sleep(0)
        async with wire(server) as talk:
            await talk.send(REQUEST)
            assert "final" in (await talk.until_end())[-1]
            # What may wait, and a few: the good clients, and those just being hung up.
            assert len(open_files() - before) - FLOOD <= listener.most_connections() // 2 + 50
        for connection in bare:
            connection.setblocking(True)
            connection.settimeout(WAIT_S)
            await asyncio.to_thread(_read_to_the_end, connection)
            connection.close()


def _read_to_the_end(connection: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""


async def test_connections_are_limited_and_the_limit_is_told() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener, "MAX_CONNECTIONS", 8)
        async with serving(ScriptedEngine()) as server, AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(wire(server)) for _ in range(7)]
            for request in (GET, None):
                async with raw(server) as client:
                    head = await (client.upgrade() if request is None else _head(client, request))
                    assert head.startswith(b"HTTP/1.1 503 ")
            await sockets[0].socket.close()
            async with raw(server) as client:
                assert (await client.upgrade()).startswith(b"HTTP/1.1 101 ")
            for talk in sockets[1:]:
                await talk.send(REQUEST)
                assert "final" in (await talk.until_end())[-1]


async def _head(client: Raw, request: bytes) -> bytes:
    await client.send(request)
    return await client.head()


async def test_two_hundred_sockets_fit_with_requests_beside_them() -> None:
    async with attacked() as server, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(wire(server)) for _ in range(200)]
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            assert (await client.get("/v1/models")).status_code == 200
        for talk in sockets[::20]:
            await talk.send(REQUEST)
            assert "final" in (await talk.until_end())[-1]


@pytest.mark.parametrize(("files", "most"), [(64, 32), (1024, 512), (100_000, 512), (4, 4)])
def test_connections_leave_files_for_the_rest_of_the_daemon(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert listener.most_connections() == most


# --- heads and bodies that are wrong --------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"TRACE /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"FOO /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /health\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"400"),
        (b"GET /he\xffalth HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /v1/voices?language=%FF%00 HTTP/1.1\r\nHost: \xff\r\n\r\n", b"403"),
        (GET[:-2] + b"Content-Length: -1\r\n\r\n", b"400"),
        (GET[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
async def test_a_strange_request_is_answered_and_forgotten(request_: bytes, status: bytes) -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(request_)
        assert (await client.head()).split()[1] in (status, b"200")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ws/tts?" + b"x" * 9_000 + b" HTTP/1.1\r\n",
        b"GET /ws/tts HTTP/1.1\r\n" + b"X: y\r\n" * 150,
        b"GET /ws/tts HTTP/1.1\r\nX: " + b"y" * 9_000 + b"\r\n",
        b"POST /ws/tts HTTP/1.1\r\nContent-Length: 5\r\n",
        b"GET /ws/tts HTTP/1.1\r\nContent-Length: 5\r\n",
        b"GET /ws/tts HTTP/1.1\r\nX: \xff\xfe\r\n",
    ],
)
@pytest.mark.parametrize("key", [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""])
async def test_a_strange_upgrade_is_answered_and_forgotten(head: bytes, key: bytes) -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(
            head
            + b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + b"Sec-WebSocket-Version: 13\r\n"
            + key
            + b"\r\n"
        )
        assert (await client.head()).split()[1] in (b"101", b"400", b"405", b"426")


async def test_garbage_in_the_middle_of_a_body_ends_the_connection() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(
            b"POST /v1/tts/generate HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
        )
        await client.send(b'{"tex\r\nnot a length\r\n')
        assert (await ended(client)).startswith(b"HTTP/1.1 400 ")


async def test_garbage_where_a_body_should_begin_is_answered_once() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n")
        assert (await ended(client)).count(b"HTTP/1.1 400 ") == 1


async def test_garbage_in_a_body_that_was_refused_ends_the_connection() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(
            b"POST /v1/tts/generate HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
        )
        assert (await client.head()).split()[1].startswith(b"4")
        await client.send(b"<html\r\nno length\r\n")
        await ended(client)


async def test_garbage_after_an_answer_has_begun_ends_the_connection() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, raw(server) as client:
        await client.send((POST % len(GENERATE)) + GENERATE)
        await client.head()
        await client.send(b"\x00\x01 nonsense\r\n\r\n")
        # It is looked at when the answer is complete.
        assert engine.hold is not None
        engine.hold.set()
        assert b"Invalid HTTP request received." in await ended(client)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(GET * 100 + GET[:-2] + b"Connection: close\r\n\r\n")
        assert (await ended(client)).count(b"HTTP/1.1 200 ") == 101


# --- messages that are wrong ----------------------------------------------------------


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_message_over_the_limit_is_closed_with_1009_that_can_be_read(path: str) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        # More than the kernel holds: closing now would reset, and the client would not see why.
        await client.send(frame(b"x" * 8_000_000))
        opcode, data = await client.frame()
        assert (opcode, data[:2]) == (CLOSE, (1009).to_bytes(2, "big"))
        assert await client.rest() == b""


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (frame(b"\xff\xfe{}"), 1007),
        (frame(b"x", 0x3), 1002),
        (frame(b"x", 0x0), 1002),
        (frame(b"", fin=False) + frame(b"", 0, fin=False) * 5_000, 1009),
        (b"\x81\x05hello", 1002),
        (frame(b"x" * 126, PING), 1002),
        (b"\xf1\x80" + bytes(4), 1002),
        (frame(b"\x00", CLOSE), 1002),
    ],
)
async def test_a_broken_frame_is_closed_with_its_code(path: str, attack: bytes, code: int) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        await client.send(attack)
        opcode, data = await client.frame()
        assert (opcode, int.from_bytes(data[:2], "big")) == (CLOSE, code)
        assert await client.rest() == b""


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"not JSON",
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"text": 1e999, "voice_id": NaN}',
        b'{"text": ' + b"9" * 10_000 + b"}",
        b'"' + b"x" * 1_000_000 + b'"',
    ],
)
async def test_a_senseless_message_is_refused_and_the_socket_goes_on(
    path: str, message: bytes
) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        for opcode in (1, BINARY):
            await client.send(frame(message, opcode))
            assert (await client.receive())["code"] == 400
        await client.say(ASK[path])
        while not (fields := await client.receive()).get("final"):
            assert "error" not in fields


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_message_in_many_fragments_is_one_message(path: str) -> None:
    text = json.dumps(ASK[path]).encode()
    parts = [frame(text[:1], fin=False)]
    parts += [frame(text[n : n + 1], 0, fin=n == len(text) - 1) for n in range(1, len(text))]
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        for part in parts:
            await client.send(part)
        while not (fields := await client.receive()).get("final"):
            assert "error" not in fields


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "message",
    ["x", '{"cancel": true}'],
)
async def test_ten_thousand_messages_are_answered_or_refused(path: str, message: str) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        reading = asyncio.ensure_future(ended(client))
        try:
            for _ in range(100):
                await client.send(frame(message) * 100)
            await client.send(frame(b"\x03\xe8", CLOSE))
        except ConnectionError:
            pass
        await reading


# --- clients that do not read, or vanish ----------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", SOCKETS)
async def test_a_socket_whose_client_does_not_read_is_cut(path: str) -> None:
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server, raw(server, receive_buffer=4_096) as client:
        await client.upgrade(path)
        await client.say(ASK[path])
        client.writer.transport.pause_reading()
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()
    assert engine.ended == 1


@pytest.mark.usefixtures("short")
async def test_an_answer_that_is_not_read_is_cut() -> None:
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server, raw(server, receive_buffer=4_096) as client:
        await client.send((POST % len(GENERATE)) + GENERATE)
        client.writer.transport.pause_reading()
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()


@pytest.mark.parametrize("path", [*SOCKETS, "/v1/tts/generate"])
async def test_a_client_that_ends_and_does_not_read_is_not_kept(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than what makes asyncio wait, so that only the end itself can set a clock.
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server:
        files = open_files()
        async with raw(server, receive_buffer=4_096) as client:
            await begun(client, path)
            client.writer.transport.pause_reading()
            client.writer.write_eof()
            await until(lambda: len(open_files() - files) == 1)


async def test_pings_whose_answers_are_not_read_end_the_socket() -> None:
    async with attacked() as server, raw(server, receive_buffer=4_096) as client:
        await client.upgrade()
        client.writer.transport.pause_reading()
        with pytest.raises(ConnectionError):
            # 26 MB; the kernel itself keeps some 7 MB of pings and answers.
            for _ in range(400):
                await client.send(frame(b"x" * 125, PING) * 500)


async def test_a_flood_of_pings_is_answered() -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade()
        await client.send(b"".join(frame(str(n), PING) for n in range(5_000)))
        assert [int((await client.frame())[1]) for _ in range(5_000)] == list(range(5_000))


@pytest.mark.parametrize(
    ("path", "how"),
    [
        *[(path, how) for path in SOCKETS for how in ("reset", "end", "close")],
        ("/v1/tts/generate", "reset"),
        ("/v1/tts/generate", "end"),
    ],
)
async def test_a_client_that_vanishes_ends_its_generation(path: str, how: str) -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    limits = Counted()
    async with serving(engine, limits=limits) as server:
        files = open_files()
        async with raw(server) as client:
            await begun(client, path)
            assert limits.tickets
            if how == "reset":
                client.reset()
            elif how == "end":
                client.writer.write_eof()
            else:
                await client.send(frame(b"\x03\xe8", CLOSE))
                client.writer.write_eof()
            async with asyncio.timeout(WAIT_S):
                await engine.over.wait()
        await until(lambda: not limits.tickets and not limits.sockets and open_files() <= files)


async def begun(client: Raw, path: str) -> None:
    """Ask, and return with the first sound."""
    if path == "/v1/tts/generate":
        await client.send((POST % len(GENERATE)) + GENERATE)
        assert b" 200 " in await client.head()
    else:
        await client.upgrade(path)
        await client.say(ASK[path])
        while "audio" not in await client.receive():
            pass


@pytest.mark.parametrize("path", [*SOCKETS, "/v1/tts/generate"])
async def test_a_client_that_vanishes_leaves_no_process_behind(path: str) -> None:
    before = children()
    async with serving(LocalEngine()) as server:
        for _ in range(3):
            async with raw(server) as client:
                text = "A long sentence that takes a while to say. " * 50
                asked = {"voice_id": 101, "text": text, "voice_settings": {"voice_id": 101}}
                if path == "/v1/tts/generate":
                    asked.pop("voice_settings")
                    body = json.dumps(asked).encode()
                    await client.send((POST % len(body)) + body)
                    await client.head()
                else:
                    await client.upgrade(path)
                    await client.say({**asked, "context_id": "c", "flush": True})
                    while "audio" not in await client.receive():
                        pass
                client.reset()
        await until(lambda: len(children()) <= len(before))
