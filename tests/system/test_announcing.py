"""From a message at the broker to frames at the card, with everything real in between."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kugel_bridge.audio.loudness import amplified, gain_factor
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from tests.broker import Mosquitto
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import ROOT, Caller, living, settings_for, speaking
from tests.simcard import SimCard

SIM = {"main": {"sink": "alsa:sim"}}
PHRASE = "The washing machine is done."


def heard_by(engine: ScriptedEngine) -> bytes:
    return b"".join(bytes(chunk.data) for chunk in engine.chunks)


async def test_a_message_is_heard_frame_for_frame(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.3), hum(0.5)])
    async with speaking(tmp_path, broker.port, engine, zones=SIM):
        await caller.say(PHRASE)
        started = await caller.event("started")
        finished = await caller.event("finished")
        assert card.heard() == heard_by(engine)
    assert [text for text, *_ in engine.asked] == [PHRASE]
    assert started["source"] == "cloud"
    assert finished["characters"] == len(PHRASE)
    assert abs(finished["duration_ms"] - 800) <= 1
    assert [e["event_type"] for e in caller.events] == ["queued", "started", "finished"]
    assert len({e["id"] for e in caller.events}) == 1


async def test_the_second_time_comes_from_the_cache_and_sounds_the_same(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.5)])
    async with speaking(tmp_path, broker.port, engine, zones=SIM):
        await caller.say(PHRASE)
        await caller.event("finished")
        await caller.say(PHRASE)
        again = await caller.event("finished")
        assert card.heard() == heard_by(engine) * 2
    assert (again["source"], again["characters"]) == ("cache", 0)
    assert len(engine.asked) == 1


async def test_a_volume_in_the_topic_makes_it_quieter(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.4)])
    async with speaking(tmp_path, broker.port, engine, zones=SIM):
        await caller.say("Hello", topic="say/35")
        await caller.event("finished")
    expected = amplified(PcmChunk(SPEECH_FORMAT, heard_by(engine)), gain_factor(35))
    assert card.heard() == bytes(expected.data)


async def test_all_zones_share_one_request(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.5)])
    zones = {"hall": {"sink": "null:"}, "kitchen": {"sink": "null:"}}
    async with speaking(tmp_path, broker.port, engine, zones=zones):
        await caller.say({"text": PHRASE, "id": "both"}, topic="zone/all/say")
        ends = [await caller.event(), await caller.event()]
    assert {e["zone"] for e in ends} == {"hall", "kitchen"}
    assert {e["event_type"] for e in ends} == {"finished"}
    assert len(engine.asked) == 1
    assert sum(e["characters"] for e in ends) == len(PHRASE)


async def test_urgent_ones_go_first_and_what_they_cut_goes_on(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.0)])
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "Long", "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Later", "id": "later"})
        await caller.say({"text": "Fire", "id": "fire", "priority": "critical"})
        await caller.event("preempted", "long")
        order = [(await caller.event())["id"] for _ in range(3)]
    assert order == ["fire", "long", "later"]


async def test_what_stops_being_true_while_it_waits_is_not_spoken(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.6)])
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "Long", "id": "long"})
        await caller.say({"text": "Soon stale", "id": "stale", "ttl": 1})
        assert await caller.outcomes(2) == {"long": "finished", "stale": "expired"}
    assert [text for text, *_ in engine.asked] == ["Long"]


async def test_the_broker_counts_an_expiry_of_mqtt_5(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.6)])
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "Long", "id": "long"})
        await caller.say({"text": "Stale", "id": "stale"}, MessageExpiryInterval=1)
        assert await caller.outcomes(2) == {"long": "finished", "stale": "expired"}


async def test_a_retained_request_is_rejected_and_not_spoken(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say({"text": "For ever", "id": "kept"}, retain=True)
        rejected = await caller.event()
        assert (rejected["event_type"], rejected["id"]) == ("rejected", "kept")
        assert rejected["reason"] == "retained"
        await caller.say({"text": "Fresh", "id": "fresh"})
        assert (await caller.event())["id"] == "fresh"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{" + "x" * 10, "JSON"),
        ('{"text": 5}', "text"),
        ('{"text": "x", "volume": true}', "volume"),
        ('{"text": "x", "priority": "loud"}', "priority"),
        ('{"text": "x", "zones": "cellar"}', "cellar"),
        ('{"text": "x", "chime": "no-such-chime"}', "no-such-chime"),
        ('{"segments": [{"alert": "no-such-alert"}]}', "no-such-alert"),
        (json.dumps({"text": "x" * 5_001}), "5000"),
        ("*** \u2728", "say"),
    ],
)
async def test_bad_input_is_rejected_with_a_reason_and_harms_nothing(
    broker: Mosquitto, caller: Caller, tmp_path: Path, payload: str, reason: str
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say(payload, ContentType="application/json" if payload[0] == "{" else "")
        rejected = await caller.event()
        assert rejected["event_type"] == "rejected"
        assert reason in rejected["reason"]
        await caller.say({"text": "Next", "id": "next"})
        assert (await caller.event())["event_type"] == "finished"


async def test_the_same_id_is_spoken_once_and_answered_twice(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine()
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "Once", "id": "one", "reply_to": "kugel/reply/a"})
        await caller.event("finished", "one")
        assert (await caller.heard_on("kugel/reply/a"))["event_type"] == "finished"
        await caller.say({"text": "Once", "id": "one", "reply_to": "kugel/reply/b"})
        assert (await caller.heard_on("kugel/reply/b"))["event_type"] == "finished"
        await caller.say({"text": "Other", "id": "two"})
        await caller.event("finished", "two")
    assert [text for text, *_ in engine.asked] == ["Once", "Other"]
    assert [e["event_type"] for e in caller.events if e["id"] == "one"].count("finished") == 1


async def test_what_cannot_be_read_counts_as_rejected_and_is_the_last_outcome(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say({"text": "Hello", "id": "odd", "reply_to": f"{ROOT}/availability"})
        assert "a bridge writes there" in (await caller.event())["reason"]
        async with asyncio.timeout(30):
            while (last := (await caller.state())["last"]) is None:
                pass
        assert (last["id"], last["outcome"], last["zone"]) == ("odd", "rejected", "main")
        counts = (await caller.request("health_check"))["data"]["announcements"]
        assert counts == {"rejected": 1}


async def test_a_response_topic_gets_the_outcome_with_its_correlation(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say("Hello", ResponseTopic="kugel/reply/me", CorrelationData=b"\x00\xff7")
        message = await caller.next("kugel/reply/me")
    assert json.loads(message.payload)["event_type"] == "finished"
    assert message.properties.CorrelationData == b"\x00\xff7"


async def test_segments_follow_each_other_without_a_gap_of_their_own(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.2)])
    async with speaking(tmp_path, broker.port, engine, zones=SIM):
        await caller.say(json.dumps(["One", {"pause": 250}, {"text": "Two"}]))
        await caller.event("finished")
    spoken = heard_by(engine)
    assert card.heard() == spoken + bytes(SPEECH_FORMAT.silence(0.25).data) + spoken


async def test_a_long_text_is_asked_for_in_parts_ahead_of_need(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.5)])
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(12))
    cloud = {"max_characters": 200}
    async with serving(engine) as gateway:
        settings = settings_for(tmp_path, broker.port, gateway=gateway.url, zones=SIM)
        settings["cloud"] |= cloud
        async with living(settings):
            await caller.say({"text": text, "id": "long"})
            await caller.event("started", "long")
            engine.over.clear()
            await engine.over.wait()
            # The second part was made while the first one was still being heard.
            assert len(card.heard()) < len(heard_by(engine))
            finished = await caller.event("finished", "long")
    parts = [asked for asked, *_ in engine.asked]
    assert len(parts) > 1
    assert " ".join(parts) == text
    assert all(len(part) <= 200 for part in parts)
    assert finished["characters"] == sum(map(len, parts))
    assert card.heard() == heard_by(engine) * len(parts)


async def test_a_lead_in_and_a_tail_are_played_around_it(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.2)])
    zones = {"main": {"sink": "alsa:sim", "lead_in_ms": 100, "tail_ms": 50}}
    async with speaking(tmp_path, broker.port, engine, zones=zones):
        await caller.say("One")
        await caller.event("finished")
    lead, tail = SPEECH_FORMAT.silence(0.1), SPEECH_FORMAT.silence(0.05)
    assert card.heard() == bytes(lead.data) + heard_by(engine) + bytes(tail.data)


async def test_what_is_published_while_the_bridge_is_away_is_spoken_when_it_comes(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, broker.port)
    async with living(settings):
        await caller.state(state="idle")
    await caller.say({"text": "Meanwhile", "id": "m"})
    async with living(settings):
        assert await caller.outcomes(1) == {"m": "finished"}


async def test_state_availability_info_and_health_are_retained(
    broker: Mosquitto, tmp_path: Path
) -> None:
    secret = "ka_very-secret-key"
    settings = settings_for(
        tmp_path, broker.port, cloud={"api_key": secret, "base_url": "http://127.0.0.1:9"}
    )
    async with living(settings), Caller(broker.port) as late:
        kept = {}
        async with asyncio.timeout(30):
            while len(kept) < 4:
                message = await late._peer.next()
                if message.retain:
                    kept[message.topic] = message.payload.decode()
    assert set(kept) == {f"{ROOT}/{name}" for name in ("availability", "state", "info", "health")}
    assert json.loads(kept[f"{ROOT}/availability"]) == {"state": "online"}
    assert not any(secret in payload for payload in kept.values())
    state = json.loads(kept[f"{ROOT}/state"])
    assert (state["state"], state["audio"], state["speaking"]) == ("idle", "ok", False)
    # Nobody was there when the program began: what is kept is from the time after.
    assert state["cloud"] == "unreachable"
    assert json.loads(kept[f"{ROOT}/health"])["mqtt"]["connected"] is True
