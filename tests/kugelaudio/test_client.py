"""The client against a service that behaves; its faults are in the files beside this one."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from websockets.asyncio.server import ServerConnection

from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmFormat
from kugel_bridge.model.status import CloudStatus
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


async def test_sound_arrives_and_usage_and_status_are_told() -> None:
    news = News()
    async with service() as cloud:
        chunks = await said(client_of(cloud.url, news))
    assert [chunk.frames for chunk in chunks] == [480, 480]
    assert {chunk.format for chunk in chunks} == {SPEECH_FORMAT}
    assert [usage.characters for usage in news.usages] == [12]
    assert news.statuses == [CloudStatus.OK]


async def test_it_works_without_run_and_leaves_no_socket_behind() -> None:
    async with service() as cloud:
        client = client_of(cloud.url)
        await said(client)
        await said(client)
        await cloud.until_open(0)
        assert len(cloud.upgrades) == 2


async def test_the_warm_socket_is_open_before_the_first_request_and_used_again() -> None:
    async with service() as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        for _ in range(3):
            await said(client)
            assert client.is_warm
        assert len(cloud.upgrades) == 1


async def test_the_end_of_run_closes_the_warm_socket() -> None:
    async with service() as cloud:
        async with running(client_of(cloud.url)):
            await cloud.until_open(1)
        await cloud.until_open(0)


async def test_the_request_is_complete_and_in_nfc() -> None:
    seen: list[str] = []

    async def note(socket: ServerConnection) -> None:
        async for message in socket:
            seen.append(str(message))
            await socket.send(sound())
            await socket.send(FINAL)

    async with service(note) as cloud:
        await said(client_of(cloud.url), SpeechRequest("Gru\u0308ße", "de", "anna", speed=1.1))
        path = cloud.upgrades[0].path
    fields = json.loads(seen[0])
    assert fields["text"] == "Gr\u00fcße"
    assert (fields["language"], fields["voice_id"], fields["speed"]) == ("de", "anna", 1.1)
    assert path == f"/ws/tts?api_key={KEY}&model_id=kugel-3.5"


async def test_one_generation_at_a_time_in_the_order_of_asking() -> None:
    at_once = most = 0
    order: list[str] = []

    async def count(socket: ServerConnection) -> None:
        nonlocal at_once, most
        async for message in socket:
            order.append(json.loads(message)["text"])
            at_once += 1
            most = max(most, at_once)
            await socket.send(sound())
            at_once -= 1
            await socket.send(FINAL)

    async with service(count) as cloud, running(client_of(cloud.url)) as client:
        texts = [f"number {n}" for n in range(6)]
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            for text in texts:
                tasks.create_task(said(client, SpeechRequest(text, "en", 1)))
    assert most == 1
    assert order == texts


async def test_several_generations_where_the_account_allows_them() -> None:
    both = asyncio.Barrier(2)

    async def together(socket: ServerConnection) -> None:
        async for _ in socket:
            await both.wait()
            await socket.send(sound())
            await socket.send(FINAL)

    async with (
        service(together) as cloud,
        running(client_of(cloud.url, max_generations=2)) as client,
        asyncio.timeout(WAIT_S),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(said(client))
        tasks.create_task(said(client))


async def test_another_rate_than_asked_for_is_taken_as_stated() -> None:
    async def slow(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sound().replace('"sr":24000', '"sr":16000'))
        await socket.send(FINAL)

    async with service(slow) as cloud:
        chunks = await said(client_of(cloud.url))
    assert chunks[0].format == PcmFormat(16_000)


async def test_g711_is_decoded_when_it_was_asked_for() -> None:
    async def telephone(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"audio":"////","enc":"mulaw","idx":0,"sr":8000,"samples":3}')
        await socket.send(FINAL)

    async with service(telephone) as cloud:
        wanted = SpeechRequest("Hello", "en", 1, output_format="ulaw_8000")
        chunks = await said(client_of(cloud.url), wanted)
        assert chunks[0].format == PcmFormat(8_000)
        assert chunks[0].frames == 3
        assert "not asked for" in str(await failure(client_of(cloud.url)))


@pytest.mark.parametrize("url", ["", "api.example", "ftp://host", "http://", "http://h:99999"])
def test_an_unusable_address_is_told_when_built(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cloud\.base_url"):
        client_of(url)


async def test_a_path_prefix_is_kept() -> None:
    async with service() as cloud:
        await said(client_of(cloud.url + "/base/"))
        assert cloud.upgrades[0].path.startswith("/base/ws/tts?")


async def test_the_key_is_never_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def refuse(socket: ServerConnection) -> None:
        await socket.close(4001, "bad key")

    printed: list[str] = []
    async with service() as cloud:
        async with running(client_of(cloud.url)) as client:
            await said(client)
            printed.append(repr(client))
        cloud.script = refuse
        printed.append(repr(await failure(client_of(cloud.url))))
        port = cloud.port
    printed.append(repr(await failure(client_of(f"http://127.0.0.1:{port}"))))
    assert KEY not in caplog.text
    assert not any(KEY in line for line in printed)


async def test_a_key_that_cannot_travel_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SpeechClient(
            "http://127.0.0.1:1",
            "secret\r\nX: y",
            model_id="m",
            connect_timeout_s=1,
            first_audio_timeout_s=1,
            stall_timeout_s=1,
        )
    assert "secret" not in str(caught.value)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with service(speak) as cloud:
        assert await said(client_of(cloud.url), HELLO)
