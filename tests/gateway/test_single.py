from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kugel_bridge.kugelaudio.messages import LANGUAGES, SpeechRequest, Usage
from tests.gateway.scripted_socket import ScriptedSocket
from tests.gateway.test_turns import SayingEngine, WatchedLimits
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import ScriptedEngine, hum, serving


@pytest.mark.parametrize("data", [b"", b"\x00\xff", json.dumps(REQUEST).encode()])
async def test_a_binary_message_is_refused_and_the_socket_lives_on(data: bytes) -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, wire(server) as socket:
        await socket.socket.send(data)
        refusal = await socket.receive()
        assert (refusal["code"], refusal["error_code"]) == (400, "VALIDATION_ERROR")
        assert "binary" in refusal["error"]
        await socket.send(REQUEST)
        assert "final" in (await socket.until_end())[-1]
    assert len(engine.asked) == 1


async def test_an_empty_message_is_no_json() -> None:
    async with serving(ScriptedEngine()) as server, wire(server) as socket:
        await socket.send("")
        refusal = await socket.receive()
        assert (refusal["error"], refusal["code"]) == ("Invalid JSON body", 400)


async def test_a_request_that_is_cancelled_at_once_is_never_heard() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as socket:
        for _ in range(20):
            await socket.send(REQUEST, {"cancel": True})
            assert (await socket.until_end())[-1] == {"interrupted": True}
        assert engine.hold is not None
        engine.hold.set()
        await socket.send(REQUEST | {"text": "Yes."})
        *sound, final = await socket.until_end()
        assert (final["debug"]["original_text"], final["chunks"]) == ("Yes.", len(sound))


async def test_cancel_drops_the_first_request_and_not_the_one_behind_it() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST, REQUEST | {"text": "Second."})
        await socket.receive()
        await socket.send({"cancel": True})
        assert (await socket.until_end())[-1] == {"interrupted": True}
        assert engine.hold is not None
        engine.hold.set()
        assert (await socket.until_end())[-1]["debug"]["original_text"] == "Second."


async def test_words_come_before_the_end_and_only_where_they_are_made() -> None:
    async with serving(SayingEngine()) as server, wire(server) as socket:
        await socket.send(REQUEST | {"word_timestamps": True})
        *_, words, final = await socket.until_end()
    assert words["word_timestamps"][0]["word"] == "Hello there."
    assert "final" in final


async def test_the_end_tells_who_spoke_and_why_nobody_better_did() -> None:
    async with serving(SayingEngine()) as server, wire(server) as socket:
        await socket.send(REQUEST)
        final = (await socket.until_end())[-1]
        assert (final["source"], final["fallback"]) == ("cache", "the cloud is away")
    async with serving(ScriptedEngine()) as server, wire(server) as socket:
        await socket.send(REQUEST)
        final = (await socket.until_end())[-1]
        assert final["source"] == "local"
        assert "fallback" not in final


async def test_a_bill_is_on_record_before_it_is_told() -> None:
    limits = WatchedLimits()
    async with serving(ScriptedEngine(), limits=limits) as server, wire(server) as socket:
        await socket.send(REQUEST)
        final = (await socket.until_end())[-1]
        assert [usage and usage.to_fields() for usage in limits.on_record] == [final["usage"]]
    assert limits.spent == [len("Hello there.")]


async def test_what_was_heard_of_a_cancelled_request_is_used_up() -> None:
    limits, engine = WatchedLimits(), ScriptedEngine(hold=asyncio.Event())
    async with serving(engine, limits=limits) as server, wire(server) as socket:
        await socket.send(REQUEST)
        await socket.receive()
        await socket.send({"cancel": True})
        await socket.until_end()
    assert limits.on_record == [Usage(0.2, 12, 0.0, "eur", "kugel-3.5")]


async def test_what_an_upstream_needs_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    more: dict[str, Any] = {"project_id": 42, "dictionary_ids": [7, 8], "speaker_prefix": False}
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST | more)
        await socket.until_end()
    assert engine.requests == [
        SpeechRequest(
            "Hello there.", "en", 1, project_id=42, dictionary_ids=(7, 8), speaker_prefix=False
        )
    ]


GOOD: list[dict[str, Any]] = [
    {"text": "x" * 100},
    {"text": " \n. x"},
    *[{"model_id": name} for name in ("kugel-3.5", "kugel-3", "kugel-2.5", "kugel-1-turbo")],
    {"model": "kugel-2"},
    {"voice_id": "anna"},
    {"voice_id": "1"},
    {"voice_id": 1.0},
    {"cfg_scale": -5},
    {"cfg_scale": 100},
    {"temperature": 0},
    {"temperature": 1.0},
    {"max_new_tokens": 1},
    {"max_new_tokens": 2048},
    *[{"sample_rate": rate} for rate in (8_000, 16_000, 22_050, 24_000.0, 44_100)],
    {"output_format": "pcm_22050", "sample_rate": 22_050},
    {"output_format": "ulaw_8000", "sample_rate": 24_000},
    {"normalize": False},
    *[{"language": language} for language in sorted(LANGUAGES)],
    {"language": None},
    {"speed": 0.8},
    {"speed": 1.2},
    {"project_id": 999},
    {"dictionary_ids": []},
    {"dictionary_ids": list(range(50)), "project_id": 1},
    {"word_timestamps": True},
    {"speaker_prefix": True},
    {"unknown": {"to": ["us"]}},
]


async def test_every_value_in_its_range_is_taken() -> None:
    engine = ScriptedEngine([hum(0.02)])
    async with serving(engine, max_characters=100) as server, wire(server) as socket:
        for fields in GOOD:
            await socket.send(REQUEST | fields)
            assert "final" in (await socket.until_end())[-1], fields


async def test_the_model_of_the_address_is_meant_where_the_message_names_none() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server:
        async with wire(server, "/ws/tts?model_id=kugel-3") as socket:
            for more in ({}, {"model_id": "kugel-2"}):
                await socket.send(REQUEST | more)
                await socket.until_end()
        async with wire(server, "/ws/tts?model_id=gpt") as socket:
            await socket.send(REQUEST)
            assert "model_id 'gpt'" in (await socket.receive())["error"]
            await socket.send(REQUEST | {"model_id": "kugel-2"})
            assert "final" in (await socket.until_end())[-1]
    assert [request.model_id for request in engine.requests] == ["kugel-3", "kugel-2", "kugel-2"]


VALIDATION = "VALIDATION_ERROR"
BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"text": None}, 400, VALIDATION),
    ({"text": ""}, 400, VALIDATION),
    ({"text": 5}, 400, VALIDATION),
    ({"text": "x" * 101}, 413, VALIDATION),
    ({"model_id": "gpt"}, 400, VALIDATION),
    ({"model_id": 3}, 400, VALIDATION),
    ({"voice_id": None}, 400, "MISSING_VOICE_ID"),
    ({"voice_id": ""}, 400, "MISSING_VOICE_ID"),
    ({"voice_id": 0}, 400, VALIDATION),
    ({"voice_id": -1}, 400, VALIDATION),
    ({"voice_id": 1.5}, 400, VALIDATION),
    ({"voice_id": False}, 400, VALIDATION),
    ({"voice_id": 77}, 404, "NOT_FOUND"),
    ({"voice_id": "nobody"}, 404, "NOT_FOUND"),
    ({"cfg_scale": "2"}, 400, VALIDATION),
    ({"temperature": -0.1}, 400, VALIDATION),
    ({"temperature": 1.1}, 400, VALIDATION),
    ({"temperature": "hot"}, 400, VALIDATION),
    ({"max_new_tokens": 0}, 400, VALIDATION),
    ({"max_new_tokens": 2049}, 400, VALIDATION),
    ({"max_new_tokens": 1.5}, 400, VALIDATION),
    ({"sample_rate": 0}, 400, VALIDATION),
    ({"sample_rate": 48_000}, 400, VALIDATION),
    ({"sample_rate": "24000"}, 400, VALIDATION),
    ({"output_format": "pcm_44100"}, 400, VALIDATION),
    ({"output_format": ""}, 400, VALIDATION),
    ({"output_format": 1}, 400, VALIDATION),
    ({"output_format": "pcm_16000", "sample_rate": 8_000}, 400, VALIDATION),
    ({"normalize": 1}, 400, VALIDATION),
    ({"language": "de-DE"}, 400, VALIDATION),
    ({"language": "DE"}, 400, VALIDATION),
    ({"language": ""}, 400, VALIDATION),
    ({"speed": 0.79}, 400, VALIDATION),
    ({"speed": 1.21}, 400, VALIDATION),
    ({"speed": True}, 400, VALIDATION),
    ({"project_id": "mine"}, 400, VALIDATION),
    ({"project_id": 1.5}, 400, VALIDATION),
    ({"dictionary_ids": [7]}, 400, VALIDATION),
    ({"dictionary_ids": 7, "project_id": 1}, 400, VALIDATION),
    ({"dictionary_ids": ["7"], "project_id": 1}, 400, VALIDATION),
    ({"dictionary_ids": [True], "project_id": 1}, 400, VALIDATION),
    ({"dictionary_ids": list(range(51)), "project_id": 1}, 400, VALIDATION),
    ({"word_timestamps": "yes"}, 400, VALIDATION),
    ({"speaker_prefix": 0}, 400, VALIDATION),
]


async def test_every_value_out_of_its_range_is_refused_with_its_status() -> None:
    engine = ScriptedEngine()
    async with serving(engine, max_characters=100) as server, wire(server) as socket:
        for fields, status, code in BAD:
            await socket.send(REQUEST | fields)
            refusal = await socket.receive()
            assert (refusal.get("code"), refusal.get("error_code")) == (status, code), fields
    assert engine.asked == []


async def test_a_request_whose_client_was_lost_has_ended_when_the_next_one_begins() -> None:
    socket = ScriptedSocket("/ws/tts", [json.dumps(REQUEST)] * 2, is_broken=True)
    engine = ScriptedEngine()
    async with asyncio.TaskGroup() as tasks:
        served = tasks.create_task(socket.serve(engine))
        while len(engine.asked) < 2 and not served.done():
            await asyncio.sleep(0)
        socket.leaves.set()
    assert len(engine.asked) == 2
