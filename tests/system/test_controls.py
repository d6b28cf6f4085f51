"""What people ask of a running bridge: settings and requests over MQTT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker import Mosquitto
from tests.gateway_server import ScriptedEngine, hum
from tests.house import ROOT, Caller, living, settings_for, speaking

LONG = {"text": "A long one", "id": "long"}


async def test_stop_ends_what_speaks_and_the_next_one_follows(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(5.0)])):
        await caller.say(LONG)
        await caller.event("started", "long")
        answer = await caller.request("stop")
        assert answer == {"data": {"stopped": 1}, "status": "ok"}
        ended = await caller.event()
    assert (ended["event_type"], ended["reason"]) == ("skipped", "stopped")
    assert ended["duration_ms"] < 5_000


async def test_skip_and_clear_end_what_they_name(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(3.0)])):
        await caller.say(LONG)
        await caller.event("started", "long")
        for name, tag in (("a", "x"), ("b", "y"), ("c", "z")):
            await caller.say({"text": name, "id": name, "tag": tag, "priority": "low"})
            await caller.event("queued", name)
        listed = await caller.request("queue")
        assert [row["id"] for row in listed["data"]["announcements"]] == ["long", "a", "b", "c"]
        await caller.request("skip", {"tag": "y"})
        skipped = await caller.event()
        assert (skipped["id"], skipped["reason"]) == ("b", "skipped by request")
        await caller.request("clear")
        cleared = [await caller.event(), await caller.event()]
        assert [(e["id"], e["reason"]) for e in cleared] == [("a", "cleared"), ("c", "cleared")]
        await caller.request("skip", "long")
        assert (await caller.event())["reason"] == "skipped by request"


async def test_a_newer_one_with_the_same_tag_replaces_what_waits(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(1.0)])):
        await caller.say(LONG)
        await caller.say({"text": "20 degrees", "id": "old", "tag": "temperature"})
        await caller.say({"text": "21 degrees", "id": "new", "tag": "temperature"})
        ends = await caller.outcomes(3)
    assert ends == {"old": "replaced", "long": "finished", "new": "finished"}


async def test_paused_it_waits_and_resumed_it_goes_on(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(1.0)])):
        await caller.say(LONG)
        await caller.event("started", "long")
        await caller.request("pause")
        await caller.state(state="paused", paused=True)
        await caller.say({"text": "Fire", "id": "fire", "priority": "critical"})
        assert (await caller.event())["id"] == "fire"
        await caller.request("resume")
        assert (await caller.event())["event_type"] == "finished"


async def test_muted_and_quiet_let_only_the_urgent_ones_through(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say("ON", topic="set/muted")
        await caller.state(muted=True)
        await caller.say({"text": "Unheard", "id": "m"})
        muted = await caller.event()
        assert (muted["event_type"], muted["reason"]) == ("skipped", "muted")
        await caller.say({"text": "Fire", "id": "fire", "priority": "critical"})
        await caller.event("finished", "fire")
        await caller.say("OFF", topic="set/muted")
        await caller.say("ON", topic="set/quiet")
        await caller.state(quiet=True, muted=False)
        await caller.say({"text": "Held", "id": "held"})
        assert (await caller.event("deferred", "held"))["reason"] == "quiet hours"
        await caller.say("OFF", topic="set/quiet")
        await caller.event("finished", "held")


async def test_the_state_shows_what_was_set(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        for name, value in (("volume", "40"), ("language", "de"), ("voice", "bert")):
            await caller.say(value, topic=f"set/{name}")
        state = await caller.state(volume=40, language="de", voice="bert")
        assert state["queue"] == {"waiting": 0, "deferred": 0}
        await caller.say("much", topic="set/volume")
        await caller.say("-5", topic="set/volume")
        await caller.state(volume=35)


async def test_replay_says_the_last_one_again(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        assert (await caller.request("replay"))["status"] == "error"
        await caller.say({"text": "Say it again", "id": "one"})
        await caller.event("finished", "one")
        answer = await caller.request("replay")
        again = await caller.event("finished", answer["data"]["id"])
    assert again["text"] == "Say it again"


async def test_questions_are_answered(broker: Mosquitto, caller: Caller, tmp_path: Path) -> None:
    engine = ScriptedEngine([hum(1.5)])
    async with speaking(tmp_path, broker.port, engine):
        phrase = "The washing machine is done."
        plan = await caller.request("explain", {"text": phrase})
        (part,) = plan["data"]["parts"]
        assert (part["source"], part["characters"]) == ("cloud", len(phrase))
        warmed = await caller.request("cache/warm", {"phrases": [phrase]})
        assert warmed["data"]["made"] == 1
        plan = await caller.request("explain", phrase)
        assert plan["data"]["parts"][0]["source"] == "cache"
        assert (await caller.request("cache/pin", phrase))["data"]["pinned"] is True
        stats = await caller.request("cache/stats")
        assert (stats["data"]["entries"], stats["data"]["pinned"]) == (1, 1)
        await caller.say({"text": phrase, "id": "one"})
        await caller.event("finished", "one")
        history = await caller.request("history", {"limit": 1})
        (row,) = history["data"]["announcements"]
        assert (row["id"], row["outcome"], row["source"]) == ("one", "finished", "cache")
        voices = await caller.request("voices", {"language": "de"})
        assert {voice["handle"] for voice in voices["data"]["voices"]} >= {"anna", "bert"}
        usage = await caller.request("usage")
        assert usage["data"]["days"][0]["characters"] == len(phrase)
        assert (await caller.request("health_check"))["data"]["healthy"] is True
        assert (await caller.request("alerts/check"))["data"] == {"alerts": []}
        for other in ("The dryer is done.", {"text": "The dryer is done."}):
            assert (await caller.request("cache/purge", other))["data"]["purged"] == 0
        for wrong in ({"phrase": phrase}, {"text": 7}, {"text": ""}):
            assert (await caller.request("cache/purge", wrong))["status"] == "error"
        purged = await caller.request("cache/purge", {"pinned": True})
        assert purged["data"]["purged"] == 1


@pytest.mark.parametrize("transaction", ["abc", 7, {"deep": [1, None]}])
async def test_a_transaction_comes_back_as_it_was(
    broker: Mosquitto, caller: Caller, tmp_path: Path, transaction: object
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        answer = await caller.request("queue", {"transaction": transaction})
        assert answer["transaction"] == transaction
        unknown = await caller.request("dance", {"transaction": transaction})
    assert (unknown["status"], unknown["data"]) == ("error", {})
    assert unknown["transaction"] == transaction
    assert "dance" in unknown["error"]


async def test_a_stored_alert_is_spoken_by_name(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    from kugel_bridge.audio.wav import wav_bytes

    (tmp_path / "smoke.wav").write_bytes(wav_bytes(hum(0.3)))
    alerts = {
        "water": {"text": {"en": "Water in the cellar", "de": "Wasser im Keller"}},
        "smoke": {"file": str(tmp_path / "smoke.wav")},
    }
    async with living(settings_for(tmp_path, broker.port, alerts=alerts)):
        await caller.say("smoke", topic="alert")
        recorded = await caller.event("finished")
        assert (recorded["source"], recorded["priority"]) == ("alert", "critical")
        await caller.say({"name": "water", "language": "de", "id": "w"}, topic="alert")
        assert (await caller.event("finished", "w"))["source"] == "local"
        await caller.say("earthquake", topic="alert")
        rejected = await caller.event()
        assert rejected["event_type"] == "rejected"
        assert "water" in rejected["reason"]


async def test_a_recording_that_is_missing_is_told_and_replaced_by_a_tone_until_it_is_there(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    from kugel_bridge.audio.wav import wav_bytes

    file = tmp_path / "smoke.wav"
    alerts = {"smoke": {"file": str(file)}}
    async with living(settings_for(tmp_path, broker.port, alerts=alerts)):
        health = await caller.heard_on(f"{ROOT}/health")
        assert str(file) in health["alerts"]["problems"]["smoke"]
        await caller.say("smoke", topic="alert")
        beeped = await caller.event("finished")
        assert (beeped["source"], beeped["text"]) == ("tone", "smoke")
        assert f"alert 'smoke' cannot be played: cannot read {file}" in beeped["reason"]
        checked = (await caller.request("health_check"))["data"]
        assert (checked["healthy"], "smoke" in checked["problem"]) == (False, True)
        (row,) = (await caller.request("alerts/check"))["data"]["alerts"]
        assert (row["ready"], str(file) in row["problem"]) == (False, True)
        file.write_bytes(wav_bytes(hum(0.3)))
        assert (await caller.request("alerts/check"))["data"]["alerts"] == [
            {"name": "smoke", "ready": True}
        ]
        await caller.say("smoke", topic="alert")
        assert (await caller.event("finished"))["source"] == "alert"
        assert (await caller.request("health_check"))["data"]["healthy"] is True


async def test_what_a_request_does_not_know_is_refused_and_nothing_is_done(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(3.0)])):
        await caller.say({"text": "A long one", "id": 7})
        await caller.event("started", "7")
        for verb in ("stop", "skip", "clear", "pause", "health_check", "usage", "cache/stats"):
            refused = await caller.request(verb, {"identity": 7, "transaction": 5})
            assert (refused["status"], refused["transaction"]) == ("error", 5)
            assert "not known here: 'identity'; the request takes " in refused["error"]
        assert "text: 5" in (await caller.request("explain", {"text": 5}))["error"]
        assert "pinned: 5" in (await caller.request("cache/pin", {"pinned": 5}))["error"]
        answer = await caller.request("skip", {"id": 7, "priority": 50})
        assert answer["data"] == {"skipped": 1}


async def test_a_button_that_says_press_names_nothing(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(3.0)])):
        await caller.say(LONG)
        await caller.event("started", "long")
        assert (await caller.request("stop", "PRESS"))["data"] == {"stopped": 1}


async def test_a_phrase_is_filled_in(broker: Mosquitto, caller: Caller, tmp_path: Path) -> None:
    phrases = {"door": {"text": "{who} is at the door"}}
    async with living(settings_for(tmp_path, broker.port, phrases=phrases)):
        await caller.say({"phrase": "door", "vars": {"who": "Mia"}, "id": "d"})
        assert (await caller.event("finished", "d"))["text"] == "Mia is at the door"
        await caller.say({"phrase": "door", "vars": {}})
        assert "vars.who" in (await caller.event())["reason"]


async def test_the_same_words_within_the_window_are_said_once(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say({"text": "Motion in the garden", "id": "a", "dedupe": 60})
        await caller.say({"text": "Motion in the garden", "id": "b", "dedupe": 60})
        ends = {}
        for _ in range(2):
            event = await caller.event()
            ends[event["id"]] = (event["event_type"], event.get("reason"))
    assert ends["a"][0] == "finished"
    assert ends["b"] == ("skipped", "duplicate")


async def test_a_full_queue_skips_the_least_urgent(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    queue = {"path": str(tmp_path / "queue.db"), "max_waiting": 2}
    async with speaking(tmp_path, broker.port, ScriptedEngine([hum(2.0)]), queue=queue):
        await caller.say(LONG)
        await caller.event("started", "long")
        for name in ("a", "b", "c"):
            await caller.say({"text": name, "id": name})
        skipped = await caller.event()
        assert (skipped["id"], skipped["reason"]) == ("c", "queue full")
        assert set((await caller.outcomes(3)).values()) == {"finished"}


async def test_a_will_tells_that_the_bridge_is_gone(broker: Mosquitto, tmp_path: Path) -> None:
    async with Caller(broker.port) as watcher:
        async with living(settings_for(tmp_path, broker.port)):
            assert await watcher.heard_on(f"{ROOT}/availability") == {"state": "online"}
        assert await watcher.heard_on(f"{ROOT}/availability") == {"state": "offline"}
