"""A whole house on one account: bridges, gateways one behind the other, and one service."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kugel_bridge.kugelaudio.messages import SpeechRequest
from tests.broker import Mosquitto, free_port
from tests.gateway.in_front import client_for, in_front
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving
from tests.house import Caller, Daemon, eventually, living, settings_for

PHRASE = "The washing machine is done."


async def test_a_daemon_speaks_through_two_gateways(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.3), hum(0.5)])
    async with (
        serving(engine) as a,
        in_front(a.url, tmp_path / "b") as front,
        serving(front.engine) as b,
        Daemon(tmp_path, settings_for(tmp_path, broker.port, gateway=b.url)) as daemon,
    ):
        await caller.state(state="idle")
        await caller.say(PHRASE)
        finished = await caller.event("finished")
        assert (finished["source"], finished["characters"]) == ("cloud", len(PHRASE))
        assert abs(finished["duration_ms"] - 800) <= 1
        await caller.say(PHRASE)
        assert (await caller.event("finished"))["source"] == "cache"
        assert await daemon.end() == 0
        assert "Traceback" not in daemon.log
    assert len(engine.asked) == 1


async def test_an_announcement_and_a_request_for_the_same_phrase_are_one(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.3), hum(0.5)], hold=asyncio.Event())
    assert engine.hold is not None
    port = free_port()
    own = {
        "enabled": True,
        "port": port,
        "engine": "upstream",
        "fallback": False,
        "usage_path": str(tmp_path / "usage.db"),
    }
    async with serving(engine) as service:
        settings = settings_for(tmp_path, broker.port, gateway=service.url)
        async with living({**settings, "gateway": own}):
            await caller.say(PHRASE)
            await caller.event("started")
            client = client_for(f"http://127.0.0.1:{port}")
            async with asyncio.timeout(WAIT_S):
                chunks = client.stream(SpeechRequest(PHRASE, "en", "anna"))
                heard = [bytes((await anext(chunks)).data)]
                engine.hold.set()
                heard += [bytes(chunk.data) async for chunk in chunks]
            assert b"".join(heard) == bytes(hum(0.3).data) + bytes(hum(0.5).data)
            assert (await caller.event("finished"))["source"] == "cloud"
            # And what the one has had made, the other finds.
            other = SpeechRequest("Dinner is ready.", "en", 1)
            async with asyncio.timeout(WAIT_S):
                assert [chunk async for chunk in client.stream(other)]
            await eventually(lambda: len(list((tmp_path / "cache").rglob("*.pcm"))) == 2)
            await caller.say("Dinner is ready.")
            assert (await caller.event("finished"))["source"] == "cache"
    assert [text for text, *_ in engine.asked] == [PHRASE, "Dinner is ready."]
