from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from kugel_bridge.gateway import sockets
from kugel_bridge.gateway.engine import Piece, Spoken
from kugel_bridge.gateway.limits import NoLimits, Ticket
from kugel_bridge.gateway.outlet import Outlet
from kugel_bridge.gateway.textbuffer import Portion, TextBuffer
from kugel_bridge.gateway.turns import StreamSocket
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import NO_CREDITS, RATE_LIMITED, Refusal
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    NoCreditsError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.report import SourceKind
from tests.gateway.wire import Wire, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

stream = partial(wire, path="/ws/tts/stream")
CONFIG = {"voice_id": 1, "language": "en"}
ENDS = {"session_closed", "error", "interrupted"}


async def turn_of(socket: Wire) -> list[dict[str, Any]]:
    """The frames up to the end of a turn."""
    frames = []
    while True:
        frames.append(await socket.receive())
        if ENDS & set(frames[-1]):
            return frames


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    return [next(iter(frame)) for frame in frames]


def texts(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["text"] for frame in frames if "generation_started" in frame]


@dataclass
class WatchedLimits(NoLimits):
    """Lets in what it is told to, and notes what was spent and when it ended."""

    refuses: Refusal | None = None
    budget: int = 10_000
    begun: int = 0
    spent: list[int] = field(default_factory=list)
    ended: list[Usage | None] = field(default_factory=list)
    on_record: list[Usage | None] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, account: str) -> Ticket | Refusal:
        if self.refuses is not None:
            return self.refuses
        self.begun += 1
        return WatchedTicket(self)


@dataclass
class WatchedTicket:
    limits: WatchedLimits
    has_ended: bool = False

    def spend(self, characters: int) -> Refusal | None:
        self.limits.spent.append(characters)
        return NO_CREDITS if sum(self.limits.spent) > self.limits.budget else None

    async def end(self, usage: Usage | None) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.limits.ended.append(usage)
            self.limits.over.set()
            for _ in range(50):
                # A ledger writes in a thread: much may happen until then.
                await asyncio.sleep(0)
            self.limits.on_record.append(usage)


class SayingEngine(ScriptedEngine):
    """Gives words with its sound, and tells that it only stands in."""

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        await super().speak(request, voice, language)
        return Spoken(SourceKind.CACHE, self._said(request.text), reason="the cloud is away")

    async def _said(self, text: str) -> AsyncGenerator[Piece, None]:
        yield hum(0.1)
        yield WordTimings((WordTiming(text, 0, 100, 0, len(text)),))
        yield Usage(0.1, len(text), 0.5, "eur")


async def test_a_turn_is_spoken_sentence_by_sentence_and_billed_once() -> None:
    engine = ScriptedEngine([hum(0.25)])
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "Hello th"}, {"text": "ere. How are"}, {"text": " you?"})
        await socket.send({"flush": True})
        frames = await turn_of(socket)
    chunk = ["generation_started", "audio", "audio", "chunk_complete"]
    assert kinds(frames) == [*chunk, *chunk, "final", "session_closed"]
    assert texts(frames) == ["Hello there.", "How are you?"]
    sound = [frame for frame in frames if "audio" in frame]
    assert [(f["idx"], f["chunk_id"]) for f in sound] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    data = b"".join(base64.b64decode(frame["audio"]) for frame in sound)
    assert data == bytes(hum(0.25).data) * 2
    assert [f["audio_seconds"] for f in frames if "chunk_complete" in f] == [0.25, 0.25]
    totals = {"total_audio_seconds": 0.5, "total_text_chunks": 2, "total_audio_chunks": 4}
    assert frames[-2] == {"final": True} | totals
    assert frames[-1] == {"session_closed": True, "source": "local"} | totals | {
        "usage": {
            "audio_seconds": 0.5,
            "characters": len("Hello there. How are you?"),
            "cost_cents": 0.0,
            "currency": "eur",
            "model_id": "kugel-3.5",
        }
    }


async def test_configuration_text_and_flush_may_come_in_one_message() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(
            {"text": "Hallo.", "flush": True, "voice_id": "bert", "language": "de", "speed": 1.1}
        )
        await turn_of(socket)
        await socket.send({"text": "Nochmal.", "flush": True})
        await turn_of(socket)
    assert engine.asked == [("Hallo.", "Bert", "de", 1.1), ("Nochmal.", "Bert", "de", 1.1)]


async def test_a_sentence_is_spoken_while_the_text_goes_on() -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "Hello there. How"})
        assert texts([await socket.receive()]) == ["Hello there."]
        await socket.send({"text": " are you?", "flush": True})
        assert texts(await turn_of(socket)) == ["How are you?"]


async def test_stale_text_is_spoken_and_the_turn_goes_on() -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG | {"flush_timeout_ms": 1}, {"text": "Hello <spell>A"})
        frames = [await socket.receive() for _ in range(5)]
        assert kinds(frames)[-1] == "chunk_complete"
        assert texts(frames) == ["Hello"]
        await socket.send({"text": "B</spell>", "flush": True})
        frames = await turn_of(socket)
    assert texts(frames) == ["<spell>AB</spell>"]
    assert frames[-1]["total_text_chunks"] == 2
    assert frames[-1]["usage"]["characters"] == len("Hello <spell>AB</spell>")


async def test_a_full_buffer_is_spoken_without_the_end_of_a_sentence() -> None:
    async with serving(ScriptedEngine([hum(0.1)])) as server, stream(server) as socket:
        await socket.send(CONFIG | {"max_buffer_length": 100, "flush_timeout_ms": 60_000})
        await socket.send({"text": "word " * 30})
        first = await socket.receive()
        assert texts([first])[0].startswith("word word")
        await socket.send({"close": True})
        frames = [first, *await turn_of(socket)]
    assert " ".join(texts(frames)) == " ".join(["word"] * 30)
    assert frames[-1]["usage"]["characters"] == len("word " * 30)


async def test_a_forgotten_turn_ends_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = partial(StreamSocket, idle_s=0.05)
    monkeypatch.setitem(sockets.PATHS, "/ws/tts/stream", impatient)
    async with serving(ScriptedEngine([hum(0.1)])) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "Hello"})
        coming = asyncio.ensure_future(turn_of(socket))
        while not coming.done():
            # A ping shows that the client is there, not that it goes on.
            await asyncio.wait([coming, await socket.socket.ping()], return_when="FIRST_COMPLETED")
        frames = await coming
        assert kinds(frames) == [
            "warning",
            "generation_started",
            "audio",
            "chunk_complete",
            "final",
            "session_closed",
        ]
        # Without a turn there is nothing to forget.
        await socket.send({"flush": True})
        assert kinds([await socket.receive()]) == ["session_closed"]


async def test_text_gives_a_turn_another_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real_time, passed_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed_s)
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG | {"flush_timeout_ms": 60_000})
        for text in ("Hello", " ", ""):
            await socket.send({"text": text}, {"update_settings": {"speed": 1.1}})
            assert "settings_updated" in await socket.receive()
            passed_s += 4.5
        await socket.send({"update_settings": {"speed": 1.2}})
        assert "settings_updated" in await socket.receive()
        passed_s += 0.5
        await socket.send({"update_settings": {"speed": 1.0}})
        frames = await turn_of(socket)
    assert "warning" in next(kind for kind in kinds(frames) if kind != "settings_updated")
    assert texts(frames) == ["Hello"]


async def test_words_come_before_the_end_of_their_chunk_and_count_from_its_beginning() -> None:
    engine = SayingEngine()
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG | {"word_timestamps": True, "text": "One. Two.", "flush": True})
        frames = await turn_of(socket)
    chunk = ["generation_started", "audio", "word_timestamps", "chunk_complete"]
    assert kinds(frames) == [*chunk, *chunk, "final", "session_closed"]
    words = [frame for frame in frames if "word_timestamps" in frame]
    assert [
        (f["chunk_id"], f["word_timestamps"][0]["word"], f["word_timestamps"][0]["start_ms"])
        for f in words
    ] == [(0, "One.", 0), (1, "Two.", 0)]
    assert all(request.word_timestamps for request in engine.requests)


async def test_the_end_tells_who_spoke_and_what_it_cost() -> None:
    async with serving(SayingEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "One. Two.", "flush": True})
        end = (await turn_of(socket))[-1]
    assert (end["source"], end["fallback"]) == ("cache", "the cloud is away")
    assert end["usage"]["cost_cents"] == 1.0


async def test_turns_follow_each_other_in_the_order_of_their_texts() -> None:
    engine = ScriptedEngine([hum(0.1)])
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG)
        await socket.send(*[{"text": f"Number {n}.", "flush": True} for n in range(5)])
        turns = [await turn_of(socket) for _ in range(5)]
    assert [texts(turn) for turn in turns] == [[f"Number {n}."] for n in range(5)]
    assert all(turn[-1]["total_audio_chunks"] == 1 for turn in turns)
    assert all(turn[1]["idx"] == 0 for turn in turns)


async def test_nothing_to_speak_ends_at_once() -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send({"text": " ", "flush": True})
        frames = await turn_of(socket)
        assert kinds(frames) == ["final", "session_closed"]
        assert frames[-1]["total_audio_seconds"] == 0
        await socket.send({"end_session": True})
        assert kinds(await turn_of(socket)) == ["session_closed"]
        await socket.send(CONFIG | {"text": "...", "flush": True})
        assert kinds(await turn_of(socket)) == ["final", "session_closed"]


async def test_settings_are_answered_within_a_turn_and_count_from_the_next() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "One."}, {"update_settings": {"speed": 1.2}})
        assert (await socket.receive())["settings"] == {
            "cfg_scale": 2.0,
            "temperature": None,
            "speed": 1.2,
            "max_new_tokens": 2048,
            "language": "en",
            "normalize": True,
        }
        await socket.send({"update_settings": {"voice_id": 2}})
        assert (await socket.receive())["error_code"] == "VALIDATION_ERROR"
        await socket.send({"flush": True}, {"text": "Two.", "flush": True})
        await turn_of(socket)
        await turn_of(socket)
    assert engine.asked == [("One.", "Anna", "en", 1.0), ("Two.", "Anna", "en", 1.2)]


async def test_cancel_ends_the_turn_and_nothing_of_it_follows() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    limits = WatchedLimits()
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "One. Two. Thr"})
        assert kinds([await socket.receive(), await socket.receive()])[1] == "audio"
        await socket.send({"text": "Queued.", "flush": True}, {"text": "Turn two.", "flush": True})
        await socket.send({"cancel": True})
        assert await socket.receive() == {"interrupted": True}
        assert (engine.ended, limits.begun) == (1, 1)
        # What was heard is used up.
        assert limits.on_record == [Usage(0.2, len("One. "), 0.0, "eur", "kugel-3.5")]
        assert engine.hold is not None
        engine.hold.set()
        await socket.send({"text": "After.", "flush": True})
        assert texts(await turn_of(socket)) == ["After."]
    assert [asked[0] for asked in engine.asked] == ["One.", "After."]


async def test_a_turn_that_is_cancelled_at_once_is_never_heard() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG)
        for _ in range(20):
            await socket.send({"text": "No.", "flush": True}, {"cancel": True})
            frames = await turn_of(socket)
            while "interrupted" not in frames[-1]:
                frames = await turn_of(socket)
            assert frames[-1] == {"interrupted": True}
        await socket.send({"text": "Yes.", "flush": True})
        assert texts(await turn_of(socket)) == ["Yes."]


async def test_every_cancel_is_answered_also_without_a_turn() -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send({"cancel": True}, {"cancel": True})
        assert [await socket.receive() for _ in range(2)] == [{"interrupted": True}] * 2


async def test_close_socket_speaks_to_the_end_and_closes() -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "Bye.", "close_socket": True}, {"text": "Unheard."})
        assert kinds(await turn_of(socket))[-2:] == ["final", "session_closed"]
        assert await socket.closed() == 1000


@pytest.mark.parametrize(
    "message",
    ["{", "", "[]", "[" * 50_000, {"speed": 3}, {"update_settings": {"voice_id": 2}}, b"\x00"],
)
async def test_a_refused_message_between_turns_leaves_the_socket_as_it_was(
    message: dict[str, Any] | str | bytes,
) -> None:
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        if isinstance(message, bytes):
            await socket.socket.send(message)
        else:
            await socket.send(message)
        refusal = await socket.receive()
        assert (refusal["code"], refusal["error_code"]) == (400, "VALIDATION_ERROR")
        await socket.send(CONFIG | {"text": "Hi.", "flush": True})
        assert kinds(await turn_of(socket))[-1] == "session_closed"


async def test_a_turn_that_fails_while_it_is_spoken_is_spoken_no_further() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    limits = WatchedLimits()
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "One. Two."})
        assert "generation_started" in await socket.receive()
        assert "audio" in await socket.receive()
        await socket.send({"text": "x" * 10_000})
        assert (await socket.receive())["code"] == 413
        assert await socket.closed() == 4000
    assert engine.ended == 1
    assert [usage and usage.audio_s for usage in limits.on_record] == [0.2]


@pytest.mark.parametrize(
    ("messages", "status", "code"),
    [
        ([{"text": "Hi."}], 400, "MISSING_VOICE_ID"),
        ([{"text": "Hi.", "voice_id": 77}], 404, "NOT_FOUND"),
        ([CONFIG | {"text": "Hi.", "model_id": "gpt"}], 400, "VALIDATION_ERROR"),
        ([CONFIG | {"text": "Hi.", "speed": 5}], 400, "VALIDATION_ERROR"),
        ([CONFIG | {"text": 5, "flush": True}], 400, "VALIDATION_ERROR"),
        ([CONFIG | {"text": "x" * 60}, {"text": "x" * 60}], 413, "VALIDATION_ERROR"),
        ([CONFIG | {"text": "One. Two."}, "{"], 400, "VALIDATION_ERROR"),
    ],
)
async def test_a_failed_turn_ends_with_its_error_and_the_socket_with_it(
    messages: list[dict[str, Any] | str], status: int, code: str
) -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine, max_characters=100) as server, stream(server) as socket:
        await socket.send(*messages)
        frames = await turn_of(socket)
        assert (frames[-1]["code"], frames[-1]["error_code"]) == (status, code)
        assert await socket.closed() == 4000
    assert engine.ended == len(engine.asked)


@pytest.mark.parametrize(
    ("error", "code", "close"),
    [
        (RateLimitedError("no"), "RATE_LIMITED", 4029),
        (NoCreditsError("no"), "INSUFFICIENT_CREDITS", 4003),
        (ServiceUnavailableError("no"), "MODEL_UNAVAILABLE", 4500),
        (ProtocolError("no"), "INTERNAL_ERROR", 4000),
        (ZeroDivisionError("bug"), "INTERNAL_ERROR", 4000),
    ],
)
async def test_a_failing_engine_closes_with_the_code_of_its_error(
    error: BridgeError | Exception, code: str, close: int
) -> None:
    limits = WatchedLimits()
    engine = ScriptedEngine([hum(0.1)], then=error)
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "Hello.", "flush": True})
        assert (await turn_of(socket))[-1]["error_code"] == code
        assert await socket.closed() == close
    assert len(limits.ended) == limits.begun == 1


async def test_a_turn_over_the_limit_is_refused() -> None:
    limits = WatchedLimits(refuses=RATE_LIMITED)
    async with serving(ScriptedEngine(), limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "Hello.", "flush": True})
        assert (await socket.receive())["error_code"] == "RATE_LIMITED"
        assert await socket.closed() == 4029


async def test_a_budget_that_is_used_up_ends_the_turn_and_what_was_made_is_on_record() -> None:
    limits = WatchedLimits(budget=10)
    engine = ScriptedEngine([hum(0.25)])
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "One. Two. Three.", "flush": True})
        frames = await turn_of(socket)
        assert frames[-1]["error_code"] == "INSUFFICIENT_CREDITS"
        assert await socket.closed() == 4003
    assert texts(frames) == ["One.", "Two."]
    assert limits.spent == [5, 5, 6]
    assert [usage and usage.audio_s for usage in limits.ended] == [0.5]


async def test_one_ticket_lasts_from_the_first_text_to_the_end_of_the_turn() -> None:
    limits = WatchedLimits()
    async with serving(ScriptedEngine(), limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG, {"text": "One. Two"})
        assert "generation_started" in await socket.receive()
        assert (limits.begun, limits.ended) == (1, [])
        await socket.send({"flush": True})
        end = (await turn_of(socket))[-1]
        assert [usage and usage.to_fields() for usage in limits.on_record] == [end["usage"]]
        assert (limits.begun, limits.spent) == (1, [5, 3])


async def test_a_flood_of_turns_is_cut_off() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG, *[{"text": "Hello.", "flush": True}] * 20)
        assert (await turn_of(socket))[-1]["error_code"] == "RATE_LIMITED"
        assert await socket.closed() == 4029


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    limits = WatchedLimits()
    async with serving(engine, limits=limits) as server, asyncio.timeout(WAIT_S):
        async with stream(server) as socket:
            await socket.send(CONFIG, {"text": "One. Two"})
            await socket.receive()
            ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("gateway ")]
            assert len(ours) == 4
        await limits.over.wait()
        await asyncio.wait(ours)
    assert engine.over.is_set()
    assert len(limits.ended) == 1


async def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "Outlet", partial(Outlet, slow_reader_s=0.05))
    engine = ScriptedEngine([hum(1.0)] * 300)  # far more than all buffers between us can hold
    limits = WatchedLimits()
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "Hello.", "flush": True})
        async with asyncio.timeout(WAIT_S):
            await limits.over.wait()
        with pytest.raises(ConnectionClosedError):
            while True:
                assert "final" not in await socket.receive()
    assert [usage and usage.audio_s < 300 for usage in limits.ended] == [True]


async def test_the_end_of_the_server_lets_a_turn_finish_and_closes_idle_sockets() -> None:
    hold = asyncio.Event()
    engine = ScriptedEngine([hum(0.1), hum(0.1)], hold=hold)

    async def finish_once_the_server_ends(idle: list[Wire], busy: Wire) -> list[dict[str, Any]]:
        assert [await socket.closed() for socket in idle] == [1012] * 3
        hold.set()
        return await turn_of(busy)

    async with AsyncExitStack() as later, asyncio.TaskGroup() as tasks:
        async with serving(engine, grace_s=WAIT_S) as server:
            busy = await later.enter_async_context(stream(server))
            idle = [await later.enter_async_context(stream(server)) for _ in range(3)]
            engine.hold = None
            for socket in idle[1:]:
                await socket.send(CONFIG | {"text": "Hello.", "flush": True})
                await turn_of(socket)
            await idle[2].send({"text": "Hello.", "flush": True}, {"cancel": True})
            while "interrupted" not in await idle[2].receive():
                pass
            engine.hold = hold
            before = len(engine.asked)
            await busy.send(CONFIG | {"text": "Hello.", "flush": True})
            await busy.send({"text": "Not begun.", "flush": True})
            await busy.receive()
            rest = tasks.create_task(finish_once_the_server_ends(idle, busy))
        assert "session_closed" in (await rest)[-1]
        assert await busy.closed() == 1012
    assert len(engine.asked) == before + 1


async def test_the_end_of_the_server_cuts_a_turn_that_waits_for_text() -> None:
    async with AsyncExitStack() as later:
        async with serving(ScriptedEngine(), grace_s=0.05) as server:
            socket = await later.enter_async_context(stream(server))
            await socket.send(CONFIG, {"text": "Hello. And"})
            await socket.receive()
        async with asyncio.timeout(WAIT_S):
            assert await socket.closed() == 1012


async def test_texts_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = ScriptedEngine([], then=ZeroDivisionError("bug"))
    async with serving(engine) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "my secret diary", "flush": True})
        await turn_of(socket)
    assert "diary" not in caplog.text
    assert "15 characters" in caplog.text


async def test_only_what_was_spoken_is_billed_and_it_is_what_was_spent() -> None:
    limits = WatchedLimits(budget=40)
    text = "One two three four five six seven. " * 2 + "This is not spoken."
    async with serving(ScriptedEngine(), limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": text, "flush": True})
        assert (await turn_of(socket))[-1]["error_code"] == "INSUFFICIENT_CREDITS"
    assert limits.spent == [35, 35]
    assert [usage and usage.characters for usage in limits.ended] == [35]


async def test_a_turn_that_is_cancelled_in_its_first_words_is_billed_for_them_alone() -> None:
    limits, engine = WatchedLimits(), ScriptedEngine(hold=asyncio.Event())
    async with serving(engine, limits=limits) as server, stream(server) as socket:
        await socket.send(CONFIG | {"text": "One. " + "Never spoken. " * 500, "flush": True})
        while "audio" not in await socket.receive():
            pass
        await socket.send({"cancel": True})
        assert kinds(await turn_of(socket))[-1] == "interrupted"
    assert [usage and usage.characters for usage in limits.ended] == limits.spent == [len("One. ")]


async def test_stale_text_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    take = TextBuffer.take

    def watched(buffer: TextBuffer, *, final: bool) -> Portion | None:
        looked.append(final)
        return take(buffer, final=final)

    monkeypatch.setattr(TextBuffer, "take", watched)
    async with serving(ScriptedEngine()) as server, stream(server) as socket:
        await socket.send(CONFIG | {"flush_timeout_ms": 1}, {"text": "Hello"})
        while "chunk_complete" not in await socket.receive():
            pass
        for _ in range(3):
            await socket.send({"update_settings": {"speed": 1.1}})
            assert "settings_updated" in await socket.receive()
        assert looked == [False]
