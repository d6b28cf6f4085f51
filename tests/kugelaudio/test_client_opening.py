"""The client and its socket before anything is asked: opening, refused, idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket as sockets

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.standing import FIRST_BACKOFF_S
from kugel_bridge.model.errors import (
    BridgeError,
    NoCreditsError,
    RateLimitedError,
    RetryableError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.model.status import CloudStatus
from tests.clock import ManualClock
from tests.house import eventually
from tests.kugelaudio.scripted_service import (
    KEY,
    SHORT_S,
    News,
    answering,
    client_of,
    failure,
    running,
    said,
    service,
    speak,
)
from tests.proxy import proxying

pytestmark = pytest.mark.usefixtures("no_tasks_left")


# --- the upgrade ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (401, UnauthorizedError, CloudStatus.UNAUTHORIZED),
        (403, UnauthorizedError, CloudStatus.UNAUTHORIZED),
        (402, NoCreditsError, CloudStatus.NO_CREDITS),
        (429, RateLimitedError, CloudStatus.LIMITED),
        (503, ServiceUnavailableError, CloudStatus.UNREACHABLE),
        (404, ServiceUnavailableError, CloudStatus.UNREACHABLE),
        (200, ServiceUnavailableError, CloudStatus.UNREACHABLE),
    ],
)
async def test_a_refused_upgrade_has_its_class_and_status(
    status: int, kind: type[BridgeError], shown: CloudStatus
) -> None:
    news = News()
    async with service() as cloud:
        cloud.refuse = answering(status, b"<html>no</html>")
        error = await failure(client_of(cloud.url, news))
    assert type(error) is kind
    assert news.statuses == [shown]
    assert KEY not in repr(error)


@pytest.mark.parametrize("status", [429, 503])
async def test_the_retry_after_of_a_refused_upgrade_is_kept(status: int) -> None:
    async with service() as cloud:
        cloud.refuse = answering(status, Retry_After="17")
        client = client_of(cloud.url)
        error = await failure(client)
        assert isinstance(error, RateLimitedError | ServiceUnavailableError)
        assert error.retry_after_s == 17
        assert isinstance(client.available, type(error))
        assert 16 < (client.available.retry_after_s or 0) < 20


async def test_a_refused_key_stops_all_asking() -> None:
    async with service() as cloud:
        cloud.refuse = answering(401)
        async with running(client_of(cloud.url, news := News())) as client:
            await news.until(CloudStatus.UNAUTHORIZED)
            for _ in range(5):
                assert isinstance(await failure(client), UnauthorizedError)
            assert isinstance(client.available, UnauthorizedError)
        assert len(cloud.upgrades) == 1


async def test_one_failed_upgrade_is_one_failure_however_many_wait_for_it() -> None:
    answer = asyncio.Event()

    async def refuse(connection: ServerConnection, request: Request) -> Response | None:
        await answer.wait()
        return answering(503)(connection, request)

    async with service() as cloud:
        cloud.refuse = refuse
        client = client_of(cloud.url, max_generations=8, clock=ManualClock())
        async with running(client), asyncio.TaskGroup() as tasks:
            await eventually(lambda: len(cloud.upgrades) == 1)
            waiting = [tasks.create_task(failure(client)) for _ in range(8)]
            await asyncio.sleep(0)
            answer.set()
        assert all(type(each.result()) is ServiceUnavailableError for each in waiting)
        assert len(cloud.upgrades) == 1
        assert waited_s(client) <= FIRST_BACKOFF_S


async def test_a_failed_upgrade_of_a_request_is_one_failure() -> None:
    async with service() as cloud:
        cloud.refuse = answering(503)
        client = client_of(cloud.url, clock=ManualClock())
        await failure(client)
        assert waited_s(client) <= FIRST_BACKOFF_S


def waited_s(client: SpeechClient) -> float:
    """How long nobody should ask (s)."""
    assert isinstance(client.available, RetryableError)
    assert client.available.retry_after_s is not None
    return client.available.retry_after_s


async def test_a_refused_key_is_forgotten_once_it_is_taken_though_requests_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kugel_bridge.kugelaudio.standing.PAUSE_S", SHORT_S)
    monkeypatch.setattr("kugel_bridge.kugelaudio.client.SHAKY_S", 0.0)
    answer, news = asyncio.Event(), News()

    async def refuse(connection: ServerConnection, request: Request) -> Response | None:
        await answer.wait()
        return None if len(cloud.upgrades) > 1 else answering(401)(connection, request)

    async with service() as cloud:
        cloud.refuse = refuse
        async with running(client_of(cloud.url, news)) as client, asyncio.TaskGroup() as tasks:
            await eventually(lambda: len(cloud.upgrades) == 1)
            waiting = tasks.create_task(failure(client))
            await asyncio.sleep(0)
            answer.set()
            assert isinstance(await waiting, UnauthorizedError)
            await news.until(CloudStatus.OK)
    assert news.statuses == [CloudStatus.UNAUTHORIZED, CloudStatus.OK]


async def test_a_service_that_comes_back_is_found_by_itself() -> None:
    news = News()
    async with service() as cloud:
        cloud.refuse = answering(503)
        async with running(client_of(cloud.url, news)) as client:
            await news.until(CloudStatus.UNREACHABLE)
            cloud.refuse = lambda _c, _r: None
            await news.until(CloudStatus.OK)
            assert client.available is None
            assert await said(client)


async def test_a_closed_port_is_unreachable_and_a_request_still_tries() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = client_of(f"http://127.0.0.1:{port}")
    for _ in range(2):
        error = await failure(client)
        assert isinstance(error, ServiceUnavailableError)
        assert "cannot be reached" in str(error)


async def test_a_host_without_address_is_named_as_such() -> None:
    error = await failure(client_of("http://nowhere.invalid"))
    assert isinstance(error, ServiceUnavailableError)


async def test_a_server_that_speaks_something_else_is_unavailable() -> None:
    async def smtp(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(smtp, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(client_of(f"http://127.0.0.1:{port}"))
    assert isinstance(error, ServiceUnavailableError)
    assert KEY not in repr(error)


async def test_a_repeated_failure_is_logged_loudly_only_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "kugel_bridge")
    async with service() as cloud:
        cloud.refuse = answering(503)
        client = client_of(cloud.url)
        for _ in range(3):
            await failure(client)
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(loud) == 1


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_service_that_quotes_our_key_does_not_bring_it_into_errors(status: int) -> None:
    def quoting(connection: ServerConnection, request: Request) -> Response:
        body = f'{{"error": "not for {KEY}", "error_code": "X"}}'.encode()
        return Response(status, "Refused", Headers(), body)

    async with service() as cloud:
        cloud.refuse = quoting
        client = client_of(cloud.url)
        error, told = await failure(client), client.available
    assert KEY not in f"{error!r} {told!r}"
    assert "not for" in str(error)


# --- the idle socket -----------------------------------------------------------------


async def test_a_socket_closed_while_idle_is_never_an_error() -> None:
    async with service() as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        await said(client)
        for socket in list(cloud.open):
            await socket.close(1001)
        assert await said(client)


async def test_a_socket_reset_while_idle_is_never_an_error() -> None:
    async with (
        service() as cloud,
        proxying(cloud.port) as proxy,
        running(client_of(f"http://127.0.0.1:{proxy.port}")) as client,
    ):
        await said(client)
        proxy.reset_all()
        assert await said(client)


async def test_a_socket_that_closes_on_the_request_gets_one_fresh_connection() -> None:
    async def close_first(socket: ServerConnection) -> None:
        if len(cloud.upgrades) == 1:
            await socket.recv()
            await socket.close(1012)
        await speak(socket)

    async with service(close_first) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        assert await said(client)
        assert len(cloud.upgrades) == 2


async def test_a_fresh_connection_that_closes_too_is_an_error() -> None:
    async def close_all(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1001)

    async with service(close_all) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        assert isinstance(await failure(client), ServiceUnavailableError)


async def test_a_socket_that_went_silent_while_idle_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SHAKY_S", "SETTLED_S", "PING_INTERVAL_S", "PING_TIMEOUT_S"):
        monkeypatch.setattr(f"kugel_bridge.kugelaudio.client.{name}", 0.1)
    async with (
        service() as cloud,
        proxying(cloud.port) as proxy,
        running(client_of(f"http://127.0.0.1:{proxy.port}")) as client,
    ):
        await said(client)
        proxy.flowing.clear()
        await eventually(lambda: proxy.accepted >= 2)
        proxy.flowing.set()
        await eventually(lambda: len(cloud.upgrades) >= 2)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (4001, CloudStatus.UNAUTHORIZED),
        (4003, CloudStatus.NO_CREDITS),
        (4029, CloudStatus.LIMITED),
        (1013, CloudStatus.UNREACHABLE),
    ],
)
async def test_a_service_that_accepts_and_closes_is_not_stormed(
    code: int, shown: CloudStatus
) -> None:
    news = News()
    async with service(lambda socket: socket.close(code)) as cloud:
        async with running(client_of(cloud.url, news)):
            await news.until(shown)
        assert len(cloud.upgrades) <= 2
