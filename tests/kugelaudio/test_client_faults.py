"""The client against everything that goes wrong while a service answers."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

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
from tests.kugelaudio.scripted_service import (
    FINAL,
    HELLO,
    KEY,
    SHORT_S,
    WAIT_S,
    News,
    client_of,
    failure,
    running,
    said,
    service,
    silence,
    sound,
    speak,
)
from tests.proxy import proxying

pytestmark = pytest.mark.usefixtures("no_tasks_left")


# --- in the middle of a request ------------------------------------------------------


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


# --- requests that are given up ------------------------------------------------------


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
