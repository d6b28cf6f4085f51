from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kugel_bridge.gateway.engine import Piece, Spoken
from kugel_bridge.gateway.limits import NoLimits, Ticket
from kugel_bridge.gateway.reciter import MAX_WAITING_FLUSHES
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import NO_CREDITS, RATE_LIMITED, Refusal
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.report import SourceKind
from tests.gateway.multi import PATH, VOICE, kinds, multi, say, until, with_patience
from tests.gateway.wire import Wire, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

CLOSE = {"close_context": True, "context_id": "c1"}


class Script(ScriptedEngine):
    """Gives the pieces that a function of the text makes up."""

    def __init__(self, pieces: Callable[[str], list[Piece | Exception]], reason: str = "") -> None:
        super().__init__()
        self.pieces, self.reason = pieces, reason

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        self.asked.append((request.text, voice.name, language, request.speed))

        async def pieces() -> AsyncGenerator[Piece, None]:
            for piece in self.pieces(request.text):
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return Spoken(SourceKind.LOCAL, pieces(), self.reason)


def failing_at(word: str, error: Exception) -> Script:
    return Script(lambda text: [hum(0.1), error] if word in text else [hum(0.1)])


# --- text ---------------------------------------------------------------------------------


async def test_text_without_a_flush_is_spoken_when_it_is_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch, stale_s=0.02)
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"text": "Hello the", "context_id": "c1"} | VOICE)
        frames = await until(socket, "chunk_complete")
        assert frames[1]["text"] == "Hello the"
        await socket.send({"text": "re.", "context_id": "c1", "flush": True})
        frames = await until(socket, "final")
    assert (frames[0]["text"], frames[0]["chunk_id"]) == ("re.", 1)


async def test_after_stale_text_comes_silence_and_then_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch, stale_s=0.02, idle_s=0.05)
    async with multi(ScriptedEngine()) as socket:
        # An open tag is held back until the end.
        await socket.send({"text": "Hello <spell>AB", "context_id": "c1"} | VOICE)
        frames = await until(socket, "context_closed")
    assert [f["text"] for f in frames if "text" in f] == ["Hello", "<spell>AB</spell>"]


async def test_a_sentence_is_spoken_once_the_next_one_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch)
    engine = ScriptedEngine()
    async with multi(engine) as socket:
        await socket.send({"text": "One. ", "context_id": "c1"} | VOICE)
        await socket.send({"text": "T", "context_id": "c1"})
        await until(socket, "chunk_complete")
        await socket.send({"text": "wo.", "context_id": "c1", "flush": True})
        assert kinds(await until(socket, "final")).count("chunk_complete") == 1
    assert [asked[0] for asked in engine.asked] == ["One.", "Two."]


@pytest.mark.parametrize("text", ["", " ", "..."])
async def test_a_flush_with_nothing_to_say_is_final_at_once(text: str) -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send({"text": " ", "context_id": "c1"})
        await until(socket, "context_created")
        await socket.send({"text": text, "context_id": "c1", "flush": True})
        assert await socket.receive() == {"final": True, "context_id": "c1"}


async def test_every_flush_has_its_own_final() -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send(say("c1", "One."), say("c1", "Two."), say("c1", ""))
        frames = [frame for _ in range(3) for frame in await until(socket, "final")]
    assert [f["text"] for f in frames if "text" in f] == ["One.", "Two."]
    assert kinds(frames)[-2:] == ["final", "final"]


async def test_text_that_waits_is_bounded_and_the_rest_goes_on() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine, max_characters=200) as socket:
        await socket.send(say("c1"))
        await until(socket, "audio")
        for text in ("a" * 150, "b" * 51, "c" * 50):
            await socket.send({"text": text, "context_id": "c1"})
        refusal = await socket.receive()
        assert (refusal["code"], refusal["context_id"]) == (413, "c1")
        assert engine.hold is not None
        engine.hold.set()
        await socket.send({"flush": True, "context_id": "c1"})
        await until(socket, "final")
        await until(socket, "final")
        await socket.send(say("c1", "d" * 200))
        await until(socket, "final")
    texts = [asked[0] for asked in engine.asked]
    assert "".join(texts[1:]) == "a" * 150 + "c" * 50 + "d" * 200


async def test_what_was_cancelled_waits_no_longer() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine, max_characters=200) as socket:
        await socket.send(say("c1"))
        await until(socket, "audio")
        for text in ("a" * 150, "b" * 150):
            await socket.send(say("c1", text), {"cancel": True})
            assert "error" not in kinds(await until(socket, "interrupted"))


async def test_flushes_that_wait_are_bounded() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine) as socket:
        await socket.send(say("c1"))
        await until(socket, "audio")
        for _ in range(MAX_WAITING_FLUSHES):
            await socket.send({"flush": True, "context_id": "c1"})
        refusal = await socket.receive()
        assert (refusal["error_code"], refusal["context_id"]) == ("RATE_LIMITED", "c1")
        assert engine.hold is not None
        engine.hold.set()
        for _ in range(MAX_WAITING_FLUSHES):
            await until(socket, "final")


async def test_words_are_timed_within_their_chunk_and_come_before_its_end() -> None:
    words = WordTimings((WordTiming("Hi", 0, 100, 0, 2),))
    async with multi(Script(lambda _: [hum(0.1), words])) as socket:
        await socket.send(say("c1", "One. Two.", word_timestamps=True))
        frames = await until(socket, "final")
    timed = [frame for frame in frames if "word_timestamps" in frame]
    assert [(f["chunk_id"], f["context_id"]) for f in timed] == [(0, "c1"), (1, "c1")]
    assert timed[0]["word_timestamps"][0]["word"] == "Hi"
    assert kinds(frames)[1:5] == [
        "generation_started", "audio", "word_timestamps", "chunk_complete"
    ]  # fmt: skip


async def test_the_bill_tells_the_cost_and_why_no_better_source_spoke() -> None:
    engine = Script(lambda _: [hum(0.1), Usage(0.1, 3, 0.25, "eur")], reason="no connection")
    async with multi(engine) as socket:
        await socket.send(say("c1", "One. Two."), CLOSE)
        closed = (await until(socket, "context_closed"))[-1]
    assert closed["usage"]["cost_cents"] == 0.5
    assert (closed["source"], closed["fallback"]) == ("local", "no connection")


# --- failures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"voice_settings": None}, 400, "MISSING_VOICE_ID"),
        ({"voice_settings": {"voice_id": 77}}, 404, "NOT_FOUND"),
        ({"voice_settings": {"voice_id": "nobody"}}, 404, "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_spoken_is_an_error_of_the_context(
    fields: dict[str, Any], status: int, code: str
) -> None:
    async with multi(ScriptedEngine()) as socket:
        await socket.send(say("c1", **fields))
        error = (await until(socket, "error"))[-1]
        assert (error["code"], error["error_code"], error["context_id"]) == (status, code, "c1")
        await socket.send(say("c1"))
        frames = await until(socket, "final")
        assert kinds(frames)[0] == "generation_started"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimitedError("no"), "RATE_LIMITED"),
        (InvalidRequestError("no"), "VALIDATION_ERROR"),
        (ServiceUnavailableError("no"), "MODEL_UNAVAILABLE"),
        (ProtocolError("no"), "INTERNAL_ERROR"),
        (ZeroDivisionError("bug"), "INTERNAL_ERROR"),
    ],
)
async def test_an_error_ends_what_was_flushed_and_nothing_else(
    error: BridgeError | Exception, code: str
) -> None:
    engine = failing_at("Bad", error)
    async with multi(engine) as socket:
        await socket.send(say("c1", "One. Bad. Never."), say("c1", "Two."), say("c2", "Three."))
        frames: list[dict[str, Any]] = []
        while kinds(frames).count("final") < 2:
            frames.append(await socket.receive())
        own = [frame for frame in frames if frame["context_id"] == "c1"]
        assert [f["error_code"] for f in own if "error" in f] == [code]
        assert kinds(own)[-4:] == ["generation_started", "audio", "chunk_complete", "final"]
        assert sorted(asked[0] for asked in engine.asked) == ["Bad.", "One.", "Three.", "Two."]
        await socket.send(CLOSE)
        usage = (await until(socket, "context_closed"))[-1]["usage"]
        # The sound before the error was heard too; what comes after it was not.
        assert (usage["characters"], usage["audio_seconds"]) == (len("One. Bad. Two."), 0.3)
        assert usage["cost_cents"] == 0.0


async def test_after_an_error_closing_promises_no_complete_sound() -> None:
    async with multi(failing_at("Bad", ServiceUnavailableError("no"))) as socket:
        await socket.send({"text": "One. Bad. Never.", "context_id": "c1"} | VOICE, CLOSE)
        frames = await until(socket, "context_closed")
    assert kinds(frames)[-2:] == ["error", "context_closed"]


async def test_an_engine_without_sound_is_an_error() -> None:
    async with multi(ScriptedEngine([])) as socket:
        await socket.send(say("c1"))
        assert (await until(socket, "error"))[-1]["error_code"] == "EMPTY_AUDIO"


async def test_an_error_forgets_what_was_collected_of_the_same_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch)
    engine = failing_at("Bad", ServiceUnavailableError("no"))
    async with multi(engine) as socket:
        await socket.send({"text": "Bad. And more", "context_id": "c1"} | VOICE)
        await until(socket, "error")
        await socket.send({"flush": True, "context_id": "c1"})
        assert await socket.receive() == {"final": True, "context_id": "c1"}
    assert [asked[0] for asked in engine.asked] == ["Bad."]


# --- limits -------------------------------------------------------------------------------


@dataclass
class Turnstile(NoLimits):
    """Lets in one generation at a time with so many characters each, and keeps a record."""

    characters: int = 1000
    gate: asyncio.Event | None = None
    """Nothing is on record before it is set."""
    begun: int = 0
    inside: int = 0
    ended: list[Usage | None] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)

    def begin(self, account: str) -> Ticket | Refusal:
        if self.inside:
            return RATE_LIMITED
        self.begun += 1
        self.inside += 1
        return _Pass(self)


@dataclass
class _Pass:
    turnstile: Turnstile
    has_ended: bool = False

    def spend(self, characters: int) -> Refusal | None:
        self.turnstile.spent.append(characters)
        return NO_CREDITS if sum(self.turnstile.spent) > self.turnstile.characters else None

    async def end(self, usage: Usage | None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self.turnstile.inside -= 1
        if self.turnstile.gate is not None:
            await self.turnstile.gate.wait()
        self.turnstile.ended.append(usage)


async def test_a_generation_takes_one_ticket_and_a_context_as_many_as_it_has_flushes() -> None:
    limits = Turnstile()
    async with multi(ScriptedEngine(), limits=limits) as socket:
        await socket.send({"text": " ", "context_id": "c1"} | VOICE)
        await until(socket, "context_created")
        assert limits.begun == 0
        await socket.send(say("c1", "One. Two. Three."))
        await until(socket, "final")
        assert (limits.begun, limits.inside, limits.spent) == (1, 0, [6, 5, 6])
        assert [usage and usage.characters for usage in limits.ended] == [17]
        await socket.send(say("c1", ""), say("c1", "Four."), CLOSE)
        await until(socket, "context_closed")
    assert (limits.begun, limits.inside) == (2, 0)
    assert [usage and usage.audio_s for usage in limits.ended] == [1.5, 0.5]


async def test_a_generation_beyond_the_limit_is_refused_and_the_socket_stays() -> None:
    limits = Turnstile()
    engine = ScriptedEngine(hold=asyncio.Event())
    async with multi(engine, limits=limits) as socket:
        await socket.send(say("a"))
        await until(socket, "audio")
        await socket.send(say("b"))
        error = (await until(socket, "error"))[-1]
        assert (error["error_code"], error["context_id"]) == ("RATE_LIMITED", "b")
        assert engine.hold is not None
        engine.hold.set()
        await until(socket, "final")
        # The slot is free as soon as the client has read `final`.
        await socket.send(say("b"))
        assert kinds(await until(socket, "final"))[0] == "generation_started"


async def test_a_budget_that_is_used_up_ends_the_generation() -> None:
    limits = Turnstile(characters=10)
    async with multi(ScriptedEngine(), limits=limits) as socket:
        await socket.send(say("c1", "One. Two. Three."))
        frames = await until(socket, "error")
        assert frames[-1]["error_code"] == "INSUFFICIENT_CREDITS"
        assert [usage and usage.characters for usage in limits.ended] == [10]
        await socket.send(CLOSE)
        assert kinds(await until(socket, "context_closed")) == ["context_closed"]


async def test_what_is_told_is_on_record_before() -> None:
    limits = Turnstile(gate=asyncio.Event())
    async with multi(ScriptedEngine(), limits=limits) as socket:
        await socket.send(say("c1"))
        await until(socket, "chunk_complete")
        # An answer from the reader shows that `final` is not merely on its way.
        await socket.send({"update_settings": {"speed": 1.1}})
        assert kinds(await until(socket, "settings_updated")) == ["settings_updated"]
        assert limits.gate is not None
        limits.gate.set()
        assert kinds(await until(socket, "final")) == ["final"]
        assert len(limits.ended) == 1


@pytest.mark.parametrize("how", ["cancel", "immediate", "leave", "error"])
async def test_a_ticket_ends_however_the_generation_does(how: str) -> None:
    limits = Turnstile()
    engine = ScriptedEngine(hold=None if how == "error" else asyncio.Event())
    if how == "error":
        engine.then = ServiceUnavailableError("no")
    async with serving(engine, limits=limits) as server, wire(server, PATH) as socket:
        await socket.send(say("c1"))
        await until(socket, "audio")
        await end(socket, how)
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()
    assert (limits.begun, limits.inside) == (1, 0)
    sent_s = 0.4 if how == "error" else 0.2
    assert limits.ended == [Usage(sent_s, len("Hello there."), 0.0, "eur", "kugel-3.5")]


async def end(socket: Wire, how: str) -> None:
    if how == "cancel":
        await socket.send({"cancel": True})
        await until(socket, "interrupted")
    elif how == "immediate":
        await socket.send(CLOSE | {"immediate": True})
        await until(socket, "context_closed")
    elif how == "leave":
        await socket.socket.close()
    else:
        await until(socket, "error")
