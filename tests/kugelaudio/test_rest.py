from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kugel_bridge.kugelaudio.codes import RefusedError
from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)

KEY = "ka_very-secret"


@asynccontextmanager
async def http(*answers: bytes, pause_s: float = 0.0) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that sends the same bytes to everybody, in pieces, and notes the requests."""
    seen: list[str] = []

    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
            for piece in answers:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    for writer in writers:
        writer.transport.abort()


def answer(body: str, status: str = "200 OK", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n"
        f"Connection: close\r\n{headers}\r\n{body}"
    ).encode()


async def test_all_pages_of_voices_are_fetched_with_the_key_in_a_header_only() -> None:
    body = '{"voices": [{"id": 1, "name": "Anna"}], "total": 3, "limit": 1, "offset": 0}'
    async with http(answer(body)) as (url, seen):
        voices = await Catalogue(url, KEY, 5).voices("de")
    assert [voice.name for voice in voices] == ["Anna"] * 3
    assert [f"offset={n}" in seen[n] for n in range(3)] == [True] * 3
    assert all(f"Authorization: Bearer {KEY}" in request for request in seen)
    assert all("language=de" in request.splitlines()[0] for request in seen)
    assert all(KEY not in request.splitlines()[0] for request in seen)


async def test_a_list_that_promises_more_than_it_has_comes_to_an_end() -> None:
    body = '{"voices": [], "total": 300, "limit": 100, "offset": 0}'
    async with http(answer(body)) as (url, seen):
        assert await Catalogue(url, KEY, 5).voices() == []
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (answer('{"error": "x", "error_code": "UNAUTHORIZED"}', "401 No"), UnauthorizedError),
        (answer("", "403 No"), UnauthorizedError),
        (answer("{}", "404 No"), InvalidRequestError),
        (answer("<html>", "502 Bad"), ServiceUnavailableError),
        (answer("<html>"), ProtocolError),
        (answer('{"models": 5}'), ProtocolError),
        (answer("", "302 Found", "Location: http://127.0.0.1:1/\r\n"), ServiceUnavailableError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", ServiceUnavailableError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ServiceUnavailableError),
        (b"", ServiceUnavailableError),
        (answer(" " * (5 * 1024 * 1024)), ProtocolError),
    ],
)
async def test_every_bad_answer_has_its_class(raw: bytes, kind: type[BridgeError]) -> None:
    async with http(raw) as (url, _):
        with pytest.raises(BridgeError) as caught:
            await Catalogue(url, KEY, 5).models()
    assert type(caught.value) in (kind, RefusedError)
    assert isinstance(caught.value, kind)
    assert KEY not in repr(caught.value)


async def test_retry_after_is_kept() -> None:
    async with http(answer("{}", "429 Slow", "Retry-After: 12\r\n")) as (url, _):
        with pytest.raises(RateLimitedError) as caught:
            await Catalogue(url, KEY, 5).usage()
    assert caught.value.retry_after_s == 12


async def test_a_slow_drip_ends_at_the_deadline_for_the_whole_answer() -> None:
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[b" "] * 999]
    async with http(*drip, pause_s=0.02) as (url, _):
        with pytest.raises(TooSlowError):
            await Catalogue(url, KEY, 0.3).models()


async def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServiceUnavailableError):
        await Catalogue(f"http://127.0.0.1:{port}", KEY, 5).models()


async def test_the_key_is_never_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with http(answer("{}", "401 No")) as (url, _):
        catalogue = Catalogue(url, KEY, 5)
        with pytest.raises(UnauthorizedError):
            await catalogue.usage()
    assert KEY not in caplog.text
    assert KEY not in repr(catalogue)


async def test_a_voice_is_asked_for_by_name_and_may_be_none() -> None:
    async with http(answer('{"id": 7, "name": "Anna"}')) as (url, seen):
        voice = await Catalogue(url, KEY, 5).voice("../ann a")
    assert voice is not None
    assert voice.id == 7
    assert seen[0].startswith("GET /v1/voices/..%2Fann%20a HTTP")
    async with http(answer('{"error": "Voice not found"}', "404 Not Found")) as (url, _):
        assert await Catalogue(url, KEY, 5).voice(7) is None
    async with http(answer('{"error": "no"}', "400 Bad Request")) as (url, _):
        with pytest.raises(InvalidRequestError):
            await Catalogue(url, KEY, 5).voice(7)


async def test_an_answer_that_quotes_our_key_does_not_bring_it_into_errors() -> None:
    body = f'{{"error": "not for {KEY}"}}'.encode()
    head = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with http(head + body) as (url, _):
        with pytest.raises(UnauthorizedError, match="not for") as raised:
            await Catalogue(url, KEY, 5.0).models()
    assert KEY not in repr(raised.value)
