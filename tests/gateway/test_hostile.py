"""Clients that attack with connections, heads and bodies, while a good one goes on."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
from contextlib import AsyncExitStack, suppress

import httpx
import pytest

from kugel_bridge.gateway import listener, reception
from kugel_bridge.gateway.reception import HttpReception
from tests.gateway.attack import (
    FLOOD,
    GENERATE,
    GET,
    POST,
    SHORT_S,
    attacked,
    ended,
    until,
)
from tests.gateway.raw import Raw, raw
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, serving
from tests.open_files import open_files

pytestmark = pytest.mark.usefixtures("no_errors_logged")


def is_named(head: bytes) -> None:
    """Every answer tells its name, and an error is one of the API."""
    assert b"\r\nx-request-id: req_" in head.lower()
    assert b"\r\nx-kugel-bridge: gateway\r\n" in head.lower()
    assert head.split()[1] in (b"101", b"200") or b"content-type: application/json" in head.lower()


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
                    assert b"\r\nretry-after: 1\r\n" in head.lower()
                    is_named(head)
                    assert json.loads(await client.rest())["error_code"] == "MODEL_UNAVAILABLE"
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


@pytest.mark.parametrize(
    "request_",
    [
        # Answered, and kept for a next request that does not come.
        GET,
        # Refused before a body that does not come.
        POST % 10,
    ],
)
async def test_who_has_no_key_and_holds_on_to_connections_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 16)
    async with serving(ScriptedEngine(), keys=["right"]) as server, AsyncExitStack() as stack:
        for _ in range(20):
            stranger = await stack.enter_async_context(raw(server))
            await stranger.send(request_)
            assert (await stranger.head()).split()[1] in (b"200", b"401")
        async with AsyncExitStack() as owners:
            # Side by side, so that a newcomer is not safe because it is the only one.
            for _ in range(4):
                owner = await owners.enter_async_context(raw(server))
                await owner.send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: right\r\n\r\n")
                assert b" 200 " in await owner.head()
            async with raw(server) as owner:
                assert b" 101 " in await owner.upgrade("/ws/tts?api_key=right")


async def test_the_clock_of_a_head_runs_from_the_connection_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reception, "HEAD_S", 1.0)
    async with serving(ScriptedEngine()) as server, raw(server) as client:
        # The connection is taken when a later one has its answer.
        async with raw(server) as other:
            await other.send(GET)
            await other.head()
        # What begins to count from now on counts for ever.
        monkeypatch.setattr(reception, "HEAD_S", 10 * WAIT_S)
        await client.send(b"G")
        assert await ended(client) == b""


async def test_of_a_connection_that_was_reset_nothing_is_kept() -> None:
    async with serving(ScriptedEngine()) as server:
        async with raw(server) as client:
            await client.send(GET)
            await client.head()
            client.reset()
        await until(lambda: not any(isinstance(each, HttpReception) for each in gc.get_objects()))


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
        head = await client.head()
        assert head.split()[1] in (status, b"200")
        is_named(head)


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
        head = await client.head()
        assert head.split()[1] in (b"101", b"400", b"405", b"426")
        is_named(head)


async def test_garbage_in_the_middle_of_a_body_ends_the_connection() -> None:
    async with attacked() as server, raw(server) as client:
        await client.send(
            b"POST /v1/tts/generate HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
        )
        await client.send(b'{"tex\r\nnot a length\r\n')
        answer = await ended(client)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
            "error": "Invalid HTTP request received.",
            "error_code": "VALIDATION_ERROR",
            "code": 400,
        }


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
