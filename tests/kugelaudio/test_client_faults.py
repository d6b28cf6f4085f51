"""The client against everything that goes wrong between it and a service."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket as sockets
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.status import CloudStatus
from tests.bomb import bombing
from tests.house import eventually
from tests.kugelaudio.scripted_service import (
    FINAL,
    HELLO,
    KEY,
    WAIT_S,
    News,
    client_of,
    failure,
    running,
    said,
    service,
    sound,
    speak,
)
from tests.proxy import proxying

SHORT_S = 0.2
Refuser = Callable[[ServerConnection, Request], Response | None]


def answering(status: int, body: bytes = b"", **headers: str) -> Refuser:
    """Refuse every upgrade."""

    def refuse(_: ServerConnection, __: Request) -> Response:
        fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        fields["Content-Length"] = str(len(body))
        return Response(status, http.HTTPStatus(status).phrase, fields, body)

    return refuse


async def silence(socket: ServerConnection) -> None:
    """Take requests and say nothing; pings are answered by the library."""
    async for _ in socket:
        pass


# --- the upgrade ----------------------------------------------------------------------


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
        assert client.available is not None
        assert 16 < client.retry_in_s < 20


async def test_a_refused_key_stops_all_asking() -> None:
    async with service() as cloud:
        cloud.refuse = answering(401)
        async with running(client_of(cloud.url, news := News())) as client:
            await news.until(CloudStatus.UNAUTHORIZED)
            for _ in range(5):
                assert isinstance(await failure(client), UnauthorizedError)
            assert client.retry_in_s > 800
        assert len(cloud.upgrades) == 1


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


async def test_a_server_that_never_answers_the_upgrade_is_too_slow() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(client_of(f"http://127.0.0.1:{port}", connect_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)


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


# --- the idle socket ------------------------------------------------------------------


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


async def test_a_slow_listener_does_not_lose_a_long_speech(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SHAKY_S", "SETTLED_S", "PING_INTERVAL_S", "PING_TIMEOUT_S"):
        monkeypatch.setattr(f"kugel_bridge.kugelaudio.client.{name}", 0.05)
    frames = 200

    async def burst(socket: ServerConnection) -> None:
        await socket.recv()
        for _ in range(frames):
            await socket.send(sound(samples=4_800))
        await socket.send(FINAL)

    request = SpeechRequest("A long story. " * 10, "en", 1)
    async with service(burst) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        heard = 0
        async for _ in client.stream(request):
            heard += 1
            if heard == 1:
                # Many ping intervals, with a pong that would wait behind all that sound.
                await asyncio.sleep(0.5)
    assert heard == frames


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


# --- in the middle of a request ---------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, ServiceUnavailableError),
        (1001, ServiceUnavailableError),
        (1009, InvalidRequestError),
        (1011, ServiceUnavailableError),
        (1012, ServiceUnavailableError),
        (1013, ServiceUnavailableError),
        (4000, ServiceUnavailableError),
        (4001, UnauthorizedError),
        (4003, NoCreditsError),
        (4029, RateLimitedError),
        (4500, ServiceUnavailableError),
        (4999, ServiceUnavailableError),
    ],
)
async def test_a_close_in_mid_sound_is_an_error_and_is_not_asked_again(
    code: int, kind: type[BridgeError]
) -> None:
    requests = 0

    async def break_off(socket: ServerConnection) -> None:
        nonlocal requests
        await socket.recv()
        requests += 1
        await socket.send(sound())
        await socket.close(code)

    async with service(break_off) as cloud:
        heard = 0
        with pytest.raises(kind):
            async for _ in client_of(cloud.url).stream(HELLO):
                heard += 1
    assert heard == 1
    assert requests == 1


async def test_a_reset_in_mid_sound_is_an_error() -> None:
    async with service() as cloud, proxying(cloud.port) as proxy:
        proxy.reset_after = 1500
        error = await failure(client_of(f"http://127.0.0.1:{proxy.port}"))
    assert isinstance(error, ServiceUnavailableError)


async def test_a_connection_cut_inside_a_frame_is_an_error() -> None:
    async with service() as cloud, proxying(cloud.port) as proxy:
        proxy.cut_after = 1500
        error = await failure(client_of(f"http://127.0.0.1:{proxy.port}"))
    assert isinstance(error, ServiceUnavailableError)


async def test_no_first_sound_is_too_slow_though_pings_are_answered() -> None:
    async with service(silence) as cloud:
        error = await failure(client_of(cloud.url, first_audio_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)
    assert "no sound within" in str(error)


async def test_frames_without_sound_do_not_buy_time() -> None:
    async def chatter(socket: ServerConnection) -> None:
        await socket.recv()
        while True:
            await socket.send('{"warning": "nearly there"}')
            await asyncio.sleep(0.01)

    async with service(chatter) as cloud:
        error = await failure(client_of(cloud.url, first_audio_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)


async def test_a_stall_in_mid_sound_is_too_slow() -> None:
    async def stall(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sound())
        await silence(socket)

    async with service(stall) as cloud:
        error = await failure(client_of(cloud.url, stall_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)
    assert "no further sound" in str(error)


async def test_the_time_a_listener_takes_is_not_held_against_the_service() -> None:
    async with service() as cloud:
        chunks = 0
        async for _ in client_of(cloud.url, stall_timeout_s=SHORT_S).stream(HELLO):
            chunks += 1
            await asyncio.sleep(2 * SHORT_S)
    assert chunks == 2


@pytest.mark.parametrize(
    "frame",
    [
        "<html>502 Bad Gateway</html>",
        '{"audio": "AAA',
        '{"audio": "????", "enc": "pcm_s16le", "sr": 24000}',
        '{"audio": "AAAA", "enc": "pcm_s16le", "sr": 24000}',
        '{"audio": "AAAAAAAA", "enc": "pcm_s16le", "sr": 96000}',
        "[" * 50_000,
        b"\x00\x01",
    ],
)
async def test_garbage_is_a_protocol_error_and_ends_the_socket(frame: str | bytes) -> None:
    async def garble(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(frame)
        await silence(socket)

    async with service(garble) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        first = next(iter(cloud.open))
        assert isinstance(await failure(client), ProtocolError)
        async with asyncio.timeout(WAIT_S):
            await first.wait_closed()


async def test_an_oversize_frame_is_refused_and_not_asked_for_again() -> None:
    async def flood(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sound(samples=1_000_000))

    async with service(flood) as cloud:
        error = await failure(client_of(cloud.url))
    assert isinstance(error, InvalidRequestError)
    assert "too big" in str(error)


async def test_who_breaks_the_protocol_is_left_though_he_stays() -> None:
    async with bombing() as url:
        error = await failure(client_of(url))
    assert not isinstance(error, TooSlowError)
    assert "1002" in str(error)


async def test_sound_without_end_is_cut_off() -> None:
    async def endless(socket: ServerConnection) -> None:
        await socket.recv()
        while True:
            await socket.send(sound(samples=24_000))

    async with service(endless) as cloud:
        error = await failure(client_of(cloud.url), SpeechRequest("Hi.", "en", 1))
    assert isinstance(error, ProtocolError)


async def test_a_finish_without_sound_is_an_error() -> None:
    async def nothing(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(FINAL)

    async with service(nothing) as cloud:
        error = await failure(client_of(cloud.url))
    assert isinstance(error, ServiceUnavailableError)


async def test_an_error_frame_has_its_class_and_a_bad_request_keeps_the_socket() -> None:
    async def refuse(socket: ServerConnection) -> None:
        async for _ in socket:
            await socket.send(
                '{"error": "Voice not found", "error_code": "NOT_FOUND", "code": 404}'
            )

    news = News()
    async with service(refuse) as cloud, running(client_of(cloud.url, news)) as client:
        await cloud.until_open(1)
        for _ in range(3):
            assert isinstance(await failure(client), InvalidRequestError)
        assert len(cloud.upgrades) == 1
        assert client.available is None
    assert news.statuses == [CloudStatus.OK]


async def test_a_rate_limit_in_mid_connection_holds_the_next_request_back() -> None:
    requests = 0

    async def limit(socket: ServerConnection) -> None:
        nonlocal requests
        async for _ in socket:
            requests += 1
            await socket.send('{"error": "slow", "error_code": "RATE_LIMITED", "code": 429}')

    async with service(limit) as cloud:
        client = client_of(cloud.url)
        assert isinstance(await failure(client), RateLimitedError)
        assert isinstance(client.available, RateLimitedError)
        assert isinstance(await failure(client), RateLimitedError)
    assert requests == 1


# --- requests that are given up -----------------------------------------------------------


async def test_late_frames_of_an_abandoned_request_never_reach_the_next_one() -> None:
    release = asyncio.Event()

    async def late(socket: ServerConnection) -> None:
        number = 0
        async for message in socket:
            if "cancel" in str(message):
                continue
            number = len(cloud.upgrades)
            await socket.send(sound(number))
            if number == 1:
                await release.wait()
            for _ in range(5):
                await socket.send(sound(number))
            await socket.send(FINAL)

    async with service(late) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        stream = client.stream(HELLO)
        async with asyncio.timeout(WAIT_S):
            await anext(stream)
        await stream.aclose()
        release.set()
        chunks = await said(client)
    assert len(chunks) == 6
    assert {bytes(chunk.data[:2]) for chunk in chunks} == {b"\x02\x00"}


async def test_an_abandoned_request_is_cancelled_at_the_service() -> None:
    cancelled = asyncio.Event()

    async def watch(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sound())
        async for message in socket:
            if message == '{"cancel":true}':
                cancelled.set()

    async with service(watch) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        stream = client.stream(HELLO)
        async with asyncio.timeout(WAIT_S):
            await anext(stream)
            await stream.aclose()
            await cancelled.wait()


async def test_a_cancelled_task_frees_its_place_and_a_new_socket_is_warmed() -> None:
    async with service(silence) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORT_S):
                    await said(client)
        cloud.script = speak
        await cloud.until_open(1)
        assert await said(client)


async def test_sound_after_the_end_is_dropped_and_the_socket_with_it() -> None:
    lied = asyncio.Event()

    async def lie(socket: ServerConnection) -> None:
        async for _ in socket:
            for frame in (sound(1), FINAL, sound(99)):
                await socket.send(frame)
            # The pong comes after what was sent before the ping was taken in.
            await (await socket.ping())
            lied.set()

    async with service(lie) as cloud, running(client_of(cloud.url)) as client:
        for _ in range(5):
            chunks = await said(client)
            assert [bytes(chunk.data[:2]) for chunk in chunks] == [b"\x01\x00"]
            # The next request finds the lie waiting on the socket.
            await lied.wait()
            lied.clear()


async def test_a_slow_drip_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kugel_bridge.kugelaudio.client.GRACE_S", SHORT_S)

    async def drip(socket: ServerConnection) -> None:
        await socket.recv()
        while True:
            await socket.send(sound(samples=1))
            await asyncio.sleep(SHORT_S / 4)

    async with service(drip) as cloud:
        error = await failure(client_of(cloud.url))
    assert isinstance(error, TooSlowError)
    assert "not done" in str(error)


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


@pytest.fixture(autouse=True)
async def no_tasks_are_left_behind() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if "kugelaudio" in task.get_name()]
    assert left == []


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


@pytest.mark.parametrize("said", [f'{{"error": "{KEY}", "code": 404}}', KEY])
async def test_a_frame_that_quotes_our_key_does_not_bring_it_into_errors(said: str) -> None:
    async def quoting(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(said)

    async with service(quoting) as cloud:
        error = await failure(client_of(cloud.url))
    assert KEY not in repr(error)


async def test_a_close_that_quotes_our_key_does_not_bring_it_into_errors() -> None:
    async def quoting(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4001, f"key {KEY}")

    async with service(quoting) as cloud:
        error = await failure(client_of(cloud.url))
    assert KEY not in repr(error)
