from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.reciter import Reciter
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from tests.gateway.multi import PATH, VOICE, kinds, multi, say, until, with_patience
from tests.gateway.wire import Wire, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

# --- creating, speaking, closing ----------------------------------------------------------


async def test_a_context_from_its_first_text_to_its_bill() -> None:
    async with multi(ScriptedEngine([hum(0.2), hum(0.2)])) as socket:
        await socket.send({"text": " ", "context_id": "c1"} | VOICE)
        assert await socket.receive() == {"context_created": True, "context_id": "c1"}
        await socket.send({"text": "Once upon ", "context_id": "c1"})
        await socket.send({"text": "a time.", "context_id": "c1", "flush": True})
        frames = await until(socket, "final")
        await socket.send({"close_context": True, "context_id": "c1"})
        frames += await until(socket, "context_closed")
    assert {frame["context_id"] for frame in frames} == {"c1"}
    assert kinds(frames) == [
        "generation_started", "audio", "audio", "chunk_complete", "final", "final", "context_closed"
    ]  # fmt: skip
    assert frames[0]["text"] == "Once upon a time."
    assert [frame["idx"] for frame in frames[1:3]] == [0, 1]
    assert frames[3].pop("gen_ms") >= 0
    assert frames[3] == {
        "chunk_complete": True,
        "context_id": "c1",
        "chunk_id": 0,
        "audio_seconds": 0.4,
    }
    assert frames[-1]["source"] == "local"
    assert "fallback" not in frames[-1]
    assert frames[-1]["usage"] == {
        "audio_seconds": 0.4,
        "characters": len(" Once upon a time."),
        "cost_cents": 0.0,
        "currency": "eur",
        "model_id": "kugel-3.5",
    }


async def test_the_first_text_creates_a_context_too() -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send(say("c1"))
        assert kinds(await until(socket, "final"))[:2] == ["context_created", "generation_started"]


async def test_messages_that_mean_nothing_get_no_answer() -> None:
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send(
            {"text": "", "voice_id": 1071, "model_id": "kugel-3.5"},
            {"text": "", "context_id": "nobody"},
            {"context_id": "nobody"},
            {"text": "whose?", "flush": True},
            {},
            {"flush": True, "context_id": "nobody"},
        )
        assert await socket.receive() == {"final": True, "context_id": "nobody"}
    assert engine.asked == []


async def test_a_keep_alive_gets_no_answer_and_no_sound() -> None:
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send({"text": " ", "context_id": "c1"}, {"text": "", "context_id": "c1"})
        await socket.send({"flush": True, "context_id": "c1"})
        assert kinds(await until(socket, "final")) == ["context_created", "final"]
    assert engine.asked == []


async def test_a_closed_context_without_speech_has_neither_final_nor_bill() -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"text": " ", "context_id": "c1"})
        await socket.send({"close_context": True, "context_id": "c1"})
        await until(socket, "context_created")
        assert await socket.receive() == {"context_closed": True, "context_id": "c1"}


async def test_an_unknown_context_can_be_closed() -> None:
    async with multi(ScriptedEngine()) as socket:
        for more in ({}, {"immediate": True}):
            await socket.send({"close_context": True, "context_id": "c1"} | more)
            assert await socket.receive() == {"context_closed": True, "context_id": "c1"}


async def test_closing_speaks_what_waits_first() -> None:
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send({"text": "One. Two. And", "context_id": "c1"} | VOICE)
        await socket.send({"close_context": True, "context_id": "c1"})
        frames = await until(socket, "context_closed")
    assert [asked[0] for asked in engine.asked] == ["One.", "Two.", "And"]
    assert [f["chunk_id"] for f in frames if "chunk_complete" in f] == [0, 1, 2]
    assert [f["idx"] for f in frames if "audio" in f] == list(range(len(engine.asked) * 3))
    assert kinds(frames)[-2:] == ["final", "context_closed"]
    assert frames[-1]["usage"]["audio_seconds"] == 1.5


async def test_closing_at_once_ends_the_work_and_bills_what_went_out() -> None:
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send(say("c1"))
        await until(socket, "final")
        engine.hold = asyncio.Event()
        await socket.send(say("c1", "More."))
        await until(socket, "audio")
        await socket.send({"close_context": True, "context_id": "c1", "immediate": True})
        (closed,) = await until(socket, "context_closed")
        assert engine.ended == 2
    assert closed["usage"] == {
        "audio_seconds": 0.7,
        "characters": len("Hello there.More."),
        "cost_cents": 0.0,
        "currency": "eur",
        "model_id": "kugel-3.5",
    }


async def test_a_context_on_its_way_out_takes_no_text_and_can_still_be_cut_off() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        await socket.send(say("c1"))
        await until(socket, "audio")
        await socket.send({"close_context": True, "context_id": "c1"}, say("c1", "More."))
        refusal = await socket.receive()
        assert (refusal["code"], refusal["context_id"]) == (400, "c1")
        await socket.send({"close_context": True, "context_id": "c1", "immediate": True})
        assert kinds(await until(socket, "context_closed")) == ["context_closed"]
        await socket.send({"close_context": True, "context_id": "c1"})
        assert kinds(await until(socket, "context_closed")) == ["context_closed"]


async def test_a_closed_id_begins_anew() -> None:
    async with multi(ScriptedEngine()) as socket:
        seen = []
        for _ in range(2):
            await socket.send(say("c1"), {"close_context": True, "context_id": "c1"})
            frames = await until(socket, "context_closed")
            assert frames[0] == {"context_created": True, "context_id": "c1"}
            seen.append([(f["idx"], f["chunk_id"]) for f in frames if "audio" in f])
            assert frames[-1]["usage"]["audio_seconds"] == 0.5
    assert seen[0] == seen[1]


@pytest.mark.parametrize("immediate", [False, True])
async def test_a_socket_keeps_nothing_of_closed_contexts(immediate: bool) -> None:
    async with multi(ScriptedEngine()) as socket:
        for ident in ("a", "b", "open"):
            await socket.send(say(ident))
            await until(socket, "final")
        for ident in ("a", "b"):
            close = {"close_context": True, "context_id": ident, "immediate": immediate}
            await socket.send(close)
            await until(socket, "context_closed")
        await socket.send({"cancel": True})
        await until(socket, "interrupted")
        gc.collect()
        left = [each for each in gc.get_objects() if isinstance(each, Reciter)]
    assert [reciter.context.id for reciter in left] == ["open"]


async def test_the_bill_is_for_all_generations_of_a_context() -> None:
    async with multi(ScriptedEngine()) as socket:
        for _ in range(2):
            await socket.send(say("c1"))
            await until(socket, "final")
        await socket.send({"close_context": True, "context_id": "c1"})
        usage = (await until(socket, "context_closed"))[-1]["usage"]
    assert (usage["audio_seconds"], usage["characters"]) == (1.0, 24)


# --- cancelling ---------------------------------------------------------------------------


async def test_cancelling_one_context_leaves_the_others_and_itself_open() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        for ident in ("a", "b"):
            await socket.send(say(ident, "One. Two."))
            await until(socket, "audio")
        await socket.send({"cancel": True, "context_id": "a"})
        assert await socket.receive() == {"interrupted": True, "context_id": "a"}
        assert engine.ended == 1
        assert engine.hold is not None
        engine.hold.set()
        frames = await until(socket, "final")
        assert {frame["context_id"] for frame in frames} == {"b"}
        await socket.send({"text": "Again.", "context_id": "a", "flush": True})
        frames = await until(socket, "final")
        assert {frame["context_id"] for frame in frames} == {"a"}
        assert kinds(frames)[0] == "generation_started"
    assert [asked[0] for asked in engine.asked] == ["One.", "One.", "Two.", "Again."]


async def test_cancelling_all_spares_those_that_are_being_closed() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        for ident in ("a", "b", "leaving"):
            await socket.send(say(ident))
            await until(socket, "audio")
        await socket.send({"close_context": True, "context_id": "leaving"}, {"cancel": True})
        assert await socket.receive() == {"interrupted": True}
        assert engine.ended == 2
        assert engine.hold is not None
        engine.hold.set()
        frames = await until(socket, "context_closed")
        assert {frame["context_id"] for frame in frames} == {"leaving"}


async def test_a_context_that_is_being_closed_is_closed_when_it_is_cancelled() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        await socket.send(say("a"))
        await until(socket, "audio")
        await socket.send(
            {"close_context": True, "context_id": "a"}, {"cancel": True, "context_id": "a"}
        )
        assert kinds(await until(socket, "context_closed")) == ["interrupted", "context_closed"]


async def test_cancelling_forgets_the_beginning_of_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch)
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        await socket.send({"text": "One. Two and", "context_id": "a"} | VOICE)
        await until(socket, "audio")
        await socket.send({"cancel": True}, {"flush": True, "context_id": "a"})
        assert kinds(await until(socket, "final")) == ["interrupted", "final"]
    assert [asked[0] for asked in engine.asked] == ["One."]


@pytest.mark.parametrize("more", [{}, {"context_id": "nobody"}])
async def test_cancelling_nothing_is_harmless(more: dict[str, str]) -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"cancel": True} | more)
        assert await socket.receive() == {"interrupted": True} | more


async def test_cancelling_and_closing_in_one_breath_works_before_anything_runs() -> None:
    async with multi(ScriptedEngine()) as socket:
        for number in range(50):
            ident = f"c{number}"
            await socket.send(
                say(ident),
                {"cancel": True},
                {"close_context": True, "context_id": ident, "immediate": True},
            )
            frames = await until(socket, "context_closed")
            assert kinds(frames)[-2:] == ["interrupted", "context_closed"]


# --- settings, limits, malformed messages -------------------------------------------------


async def test_settings_are_the_socket_s_and_voices_are_the_context_s() -> None:
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send(say("a", "A.", language="de", sample_rate=8000))
        frames = await until(socket, "final")
        await socket.send(say("b", "B.", voice_settings={"voice_id": "bert"}))
        frames += await until(socket, "final")
        await socket.send({"update_settings": {"speed": 1.1}})
        assert await socket.receive() == {
            "settings_updated": True,
            "settings": {"language": "de", "speed": 1.1},
        }
        for ident in ("b", "c"):
            await socket.send(say(ident, f"{ident}!"))
            await until(socket, "final")
    assert engine.asked == [
        ("A.", "Anna", "de", 1.0),
        ("B.", "Bert", "de", 1.0),
        ("b!", "Anna", "de", 1.0),
        ("c!", "Anna", "de", 1.1),
    ]
    assert {frame["sr"] for frame in frames if "audio" in frame} == {8000}


async def test_the_21st_context_is_refused_while_the_others_go_on() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        for number in range(20):
            await socket.send({"text": " ", "context_id": f"c{number}"} | VOICE)
            await until(socket, "context_created")
        await socket.send(say("c0"))
        await until(socket, "audio")
        await socket.send(say("c20"))
        refusal = await socket.receive()
        assert refusal["error_code"] == "TOO_MANY_CONTEXTS"
        assert (refusal["code"], refusal["context_id"]) == (429, "c20")
        assert engine.hold is not None
        engine.hold.set()
        await until(socket, "final")
        await socket.send({"close_context": True, "context_id": "c7"})
        await until(socket, "context_closed")
        await socket.send(say("c20"))
        assert kinds(await until(socket, "final"))[0] == "context_created"


@pytest.mark.parametrize(
    ("message", "ident"),
    [
        ("{", None),
        ("[]", None),
        ("[" * 50_000, None),
        ({"text": "Hi", "context_id": ""}, None),
        ({"text": "Hi", "context_id": 1}, None),
        ({"text": "Hi", "context_id": "x" * 201}, None),
        ({"close_context": True}, None),
        ({"update_settings": {"voice_id": 2}}, None),
        ({"text": 1, "context_id": "c1"}, "c1"),
        ({"text": "Hi", "context_id": "c1", "speed": 9}, "c1"),
        ({"text": "Hi", "context_id": "c1", "voice_settings": {"voice_id": -1}}, "c1"),
    ],
)
async def test_a_bad_message_is_refused_and_the_socket_lives_on(
    message: dict[str, Any] | str, ident: str | None
) -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send(message)
        refusal = await socket.receive()
        assert (refusal["code"], refusal["error_code"]) == (400, "VALIDATION_ERROR")
        assert refusal.get("context_id") == ident
        await socket.send(say("c1"))
        assert kinds(await until(socket, "final"))[0] == "context_created"


# --- side by side -------------------------------------------------------------------------


class Choir(ScriptedEngine):
    """Begins when all its voices are there; from then on each has sound ready at any time."""

    def __init__(self, voices: int, chunks: list[PcmChunk]) -> None:
        super().__init__(chunks)
        self.barrier = asyncio.Barrier(voices)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        async def pieces() -> AsyncGenerator[PcmChunk, None]:
            await self.barrier.wait()
            for chunk in self.chunks:
                yield chunk

        return Spoken(SourceKind.LOCAL, pieces())


@pytest.mark.parametrize(
    "chunks", [[hum(0.2)] * 30, [hum(6.0)], [hum(0.01)] * 600], ids=["even", "large", "small"]
)
async def test_contexts_with_sound_ready_take_turns_frame_by_frame(chunks: list[PcmChunk]) -> None:
    voices = 7
    async with multi(Choir(voices, chunks)) as socket:
        for number in range(voices):
            await socket.send(say(f"c{number}"))
        frames: list[dict[str, Any]] = []
        while kinds(frames).count("final") < voices:
            frames.append(await socket.receive())
    sound = [frame["context_id"] for frame in frames if "audio" in frame]
    assert len(sound) >= voices * 30
    # A row of as many frames as there are contexts has one frame of each, wherever it begins.
    rounds = [set(sound[n : n + voices]) for n in range(len(sound) - voices + 1)]
    assert {len(each) for each in rounds} == {voices}


async def test_an_endless_context_does_not_keep_messages_from_being_heard() -> None:
    engine = ScriptedEngine([hum(1.0)] * 3600)
    async with multi(engine) as socket:
        await socket.send(say("long"))
        await until(socket, "audio")
        await socket.send({"cancel": True, "context_id": "long"})
        assert len(await until(socket, "interrupted")) < 3600
        assert engine.ended == 1


# --- how a socket ends --------------------------------------------------------------------


async def test_close_socket_ends_all_contexts_and_tells_the_sum() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        for ident in ("a", "b"):
            await socket.send(say(ident))
            await until(socket, "audio")
        await socket.send({"text": " ", "context_id": "silent"}, {"close_socket": True})
        await socket.send(say("late"))
        assert engine.hold is not None
        await until(socket, "context_closed")
        engine.hold.set()
        frames = await until(socket, "session_closed")
        assert await socket.closed() == 1000
    assert sorted(f["context_id"] for f in frames if "context_closed" in f) == ["a", "b"]
    assert frames[-1] == {"session_closed": True, "total_audio_seconds": 1.0}


async def test_close_socket_without_contexts() -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"close_socket": True})
        assert await socket.receive() == {"session_closed": True, "total_audio_seconds": 0}
        assert await socket.closed() == 1000


@pytest.mark.parametrize("last", [[], [{"close_socket": True}]], ids=["at once", "while closing"])
async def test_a_client_that_leaves_ends_all_work(last: list[dict[str, Any]]) -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, asyncio.timeout(WAIT_S):
        async with wire(server, PATH) as socket:
            for ident in ("a", "b", "c"):
                await socket.send(say(ident))
                await until(socket, "audio")
            await socket.send({"text": " ", "context_id": "idle"}, *last)
            await until(socket, "context_created")
        while engine.ended < 3:
            engine.over.clear()
            await engine.over.wait()
        while left := [t for t in asyncio.all_tasks() if t.get_name().startswith("gateway ")]:
            await asyncio.wait(left)


async def test_a_client_that_leaves_in_the_middle_of_speech_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = ScriptedEngine([hum(1.0)] * 3600)
    async with serving(engine) as server, asyncio.timeout(WAIT_S):
        async with wire(server, PATH) as socket:
            await socket.send(say("a"), say("b"))
            await until(socket, "audio")
        while engine.ended < 2:
            engine.over.clear()
            await engine.over.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_end_of_the_server_closes_idle_sockets_with_1012(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch)
    async with asyncio.timeout(WAIT_S), AsyncExitStack() as later:
        async with serving(ScriptedEngine(), grace_s=3600) as server:
            socket = await later.enter_async_context(wire(server, PATH))
            await socket.send(say("a"), {"text": "waits", "context_id": "b"} | VOICE)
            await until(socket, "final")
        assert await socket.closed() == 1012


async def test_the_end_of_the_server_lets_generations_finish() -> None:
    hold = asyncio.Event()
    engine = ScriptedEngine([hum(0.1), hum(0.1)], hold=hold)

    async def finish_once_the_server_ends(idle: Wire, busy: Wire) -> list[dict[str, Any]]:
        assert await idle.closed() == 1012
        hold.set()
        return [*await until(busy, "final"), *await until(busy, "final")]

    async with AsyncExitStack() as later, asyncio.TaskGroup() as tasks:
        async with serving(engine, grace_s=WAIT_S) as server:
            busy = await later.enter_async_context(wire(server, PATH))
            idle = await later.enter_async_context(wire(server, PATH))
            for ident in ("a", "b"):
                await busy.send(say(ident))
                await until(busy, "audio")
            rest = tasks.create_task(finish_once_the_server_ends(idle, busy))
        assert {f["context_id"] for f in await rest if "final" in f} == {"a", "b"}
        assert await busy.closed() == 1012


async def test_the_end_of_the_server_does_not_wait_for_what_is_cut_off() -> None:
    async def cut_off_once_the_server_ends(idle: Wire, busy: Wire) -> int | None:
        assert await idle.closed() == 1012
        await busy.send({"close_context": True, "context_id": "a", "immediate": True})
        await until(busy, "context_closed")
        return await busy.closed()

    async with asyncio.timeout(WAIT_S), AsyncExitStack() as later, asyncio.TaskGroup() as tasks:
        async with serving(ScriptedEngine(hold=asyncio.Event()), grace_s=3600) as server:
            busy = await later.enter_async_context(wire(server, PATH))
            idle = await later.enter_async_context(wire(server, PATH))
            await busy.send(say("a"))
            await until(busy, "audio")
            code = tasks.create_task(cut_off_once_the_server_ends(idle, busy))
        assert await code == 1012


async def test_the_end_of_the_server_leaves_a_socket_its_own_end() -> None:
    hold = asyncio.Event()

    async def finish_once_the_server_ends(idle: Wire, ending: Wire) -> list[dict[str, Any]]:
        assert await idle.closed() == 1012
        hold.set()
        return await until(ending, "session_closed")

    async with asyncio.timeout(WAIT_S), AsyncExitStack() as later, asyncio.TaskGroup() as tasks:
        async with serving(ScriptedEngine(hold=hold), grace_s=3600) as server:
            ending = await later.enter_async_context(wire(server, PATH))
            idle = await later.enter_async_context(wire(server, PATH))
            await ending.send(say("a"))
            await until(ending, "audio")
            await ending.send({"text": " ", "context_id": "b"}, {"close_socket": True})
            await until(ending, "context_closed")
            rest = tasks.create_task(finish_once_the_server_ends(idle, ending))
        assert (await rest)[-1]["total_audio_seconds"] == 0.5
        assert await ending.closed() == 1000


async def test_a_silent_context_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with_patience(monkeypatch, idle_s=0.05)
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"text": " ", "context_id": "silent"} | VOICE)
        assert kinds(await until(socket, "context_closed")) == ["context_created", "context_closed"]
        await socket.send({"text": "Unfinished", "context_id": "c1"} | VOICE)
        frames = await until(socket, "context_closed")
    assert frames[1]["text"] == "Unfinished"
    assert kinds(frames)[-2:] == ["final", "context_closed"]
    assert frames[-1]["usage"]["characters"] == len("Unfinished")


async def test_a_keep_alive_keeps_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    with_patience(monkeypatch, idle_s=0.5)
    async with multi(ScriptedEngine()) as socket:
        for ident in ("kept", "silent"):
            await socket.send({"text": " ", "context_id": ident} | VOICE)
            await until(socket, "context_created")
        async with asyncio.TaskGroup() as tasks:
            closed = tasks.create_task(until(socket, "context_closed"))
            while not closed.done():
                await socket.send({"text": "", "context_id": "kept"})
                await asyncio.wait([closed], timeout=0.01)
    assert [frame["context_id"] for frame in closed.result()] == ["silent"]


@pytest.mark.parametrize("data", [b"", b"\x00\xff", json.dumps(say("c1")).encode()])
async def test_a_binary_message_is_refused_and_the_socket_lives_on(data: bytes) -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.socket.send(data)
        refusal = await socket.receive()
        assert (refusal["code"], refusal["error_code"]) == (400, "VALIDATION_ERROR")
        assert "binary" in refusal["error"]
        await socket.send(say("c1"))
        assert "final" in (await until(socket, "final"))[-1]
