from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from kugel_bridge.gateway.metrics import MeteredEngine, Metrics
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import ServiceUnavailableError
from tests.gateway.test_rest import asking
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import VOICES, WAIT_S, ScriptedEngine, hum, serving

KEY = "ka_very-secret"
LINE = re.compile(
    r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+'
    r"|# HELP [a-z_]+ [^\n]+|# TYPE [a-z_]+ (counter|gauge|histogram)"
)


def figures(text: str) -> dict[str, float]:
    """Every figure by its name and labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("kugel_gateway_"): float(value) for name, _, value in lines}


async def scraped(client: httpx.AsyncClient) -> dict[str, float]:
    return figures((await client.get("/metrics", headers={"X-API-Key": KEY})).text)


async def test_the_figures_are_in_the_format_of_prometheus() -> None:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        await client.post("/v1/tts/generate", json=REQUEST)
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    for line in answer.text.splitlines():
        assert LINE.fullmatch(line), line


async def test_requests_sound_and_characters_are_counted() -> None:
    engine = ScriptedEngine([hum(0.5)])
    async with serving(engine, keys=[KEY]) as server, asking(server) as client:
        client.headers["X-API-Key"] = KEY
        await client.post("/v1/tts/generate", json=REQUEST)
        await client.post("/v1/tts/generate", json={})
        await client.get("/v1/voices/1")
        await client.get("/v1/voices/anna")
        async with wire(server, f"/ws/tts?api_key={KEY}") as socket:
            await socket.send(REQUEST)
            await socket.until_end()
            seen = await scraped(client)
        with pytest.raises(InvalidStatus):
            async with wire(server):
                pass
        after = await scraped(client)
        text = (await client.get("/metrics")).text
    assert seen['requests_total{path="/v1/tts/generate",status="200"}'] == 1
    assert seen['requests_total{path="/v1/tts/generate",status="400"}'] == 1
    assert seen['requests_total{path="/v1/voices/{id}",status="200"}'] == 2
    assert seen['requests_total{path="/ws/tts",status="101"}'] == 1
    assert after['requests_total{path="/ws/tts",status="401"}'] == 1
    assert seen["sockets_open"] == 1
    assert seen["generations_under_way"] == 0
    assert seen['generations_total{source="local",outcome="finished"}'] == 2
    assert seen['audio_seconds_total{source="local"}'] == 1.0
    assert seen["characters_total"] == 2 * len(REQUEST["text"])  # type: ignore[arg-type]
    assert seen["first_audio_seconds_count"] == 2
    assert seen['first_audio_seconds_bucket{le="+Inf"}'] == 2
    assert KEY not in text
    assert "anna" not in text


async def test_paths_that_people_make_up_share_one_line() -> None:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        for number in range(20):
            await client.get(f"/nothing/{number}")
            await client.get(f"/v1/voices/{number}/x")
        seen = await scraped(client)
    assert seen['requests_total{path="other",status="404"}'] == 40
    assert not [name for name in seen if "nothing" in name]


def request() -> SpeechRequest:
    return SpeechRequest(text="Hello", language="en", voice_id=1)


async def test_what_ends_early_is_told_apart() -> None:
    metrics = Metrics([])
    hold = asyncio.Event()
    engine = MeteredEngine(ScriptedEngine(hold=hold), metrics)
    spoken = await engine.speak(request(), VOICES[0], "en")
    assert figures(metrics.text())["generations_under_way"] == 1
    await anext(spoken.pieces)
    await spoken.pieces.aclose()
    unread = await engine.speak(request(), VOICES[0], "en")
    await unread.pieces.aclose()
    failing = MeteredEngine(ScriptedEngine(then=ServiceUnavailableError("gone")), metrics)
    broken = await failing.speak(request(), VOICES[0], "en")
    with pytest.raises(ServiceUnavailableError):
        async for _ in broken.pieces:
            pass
    await broken.pieces.aclose()
    seen = figures(metrics.text())
    assert seen["generations_under_way"] == 0
    assert seen['generations_total{source="local",outcome="broken_off"}'] == 2
    assert seen['generations_total{source="local",outcome="failed"}'] == 1
    assert seen['audio_seconds_total{source="local"}'] == pytest.approx(0.25 + 0.5)


class MuteEngine(ScriptedEngine):
    async def speak(self, *anything: object) -> object:  # type: ignore[override]
        if self.hold is not None:
            await self.hold.wait()
        raise ServiceUnavailableError("no engine")


async def test_what_never_was_heard_has_no_source() -> None:
    metrics = Metrics([])
    with pytest.raises(ServiceUnavailableError):
        await MeteredEngine(MuteEngine(), metrics).speak(request(), VOICES[0], "en")
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        waiting = MeteredEngine(MuteEngine(hold=asyncio.Event()), metrics)
        task = tasks.create_task(waiting.speak(request(), VOICES[0], "en"))
        await asyncio.sleep(0)
        assert figures(metrics.text())["generations_under_way"] == 1
        task.cancel()
    seen = figures(metrics.text())
    assert seen["generations_under_way"] == 0
    assert seen['generations_total{source="none",outcome="failed"}'] == 1
    assert seen['generations_total{source="none",outcome="broken_off"}'] == 1


def test_the_buckets_of_the_first_sound_add_up() -> None:
    metrics = Metrics([])
    for seconds in (0.001, 0.01, 0.03, 4.0, 99.0):
        metrics.heard(seconds)
    seen = figures(metrics.text())
    assert seen['first_audio_seconds_bucket{le="0.01"}'] == 2
    assert seen['first_audio_seconds_bucket{le="0.05"}'] == 3
    assert seen['first_audio_seconds_bucket{le="5"}'] == 4
    assert seen['first_audio_seconds_bucket{le="10"}'] == 4
    assert seen['first_audio_seconds_bucket{le="+Inf"}'] == seen["first_audio_seconds_count"] == 5
    assert seen["first_audio_seconds_sum"] == pytest.approx(103.041)
