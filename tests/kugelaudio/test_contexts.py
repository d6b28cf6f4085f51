from __future__ import annotations

import contextlib
import json
import pickle
from collections import Counter
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kugel_bridge.kugelaudio.codes import TOO_MANY_CONTEXTS, Refusal
from kugel_bridge.kugelaudio.contexts import (
    MAX_CONTEXT_ID_CHARACTERS,
    MAX_CONTEXTS,
    CancelContexts,
    CloseContext,
    CloseSocket,
    Context,
    ContextRefusal,
    Contexts,
    ContextText,
    closed_frame,
    final_frame,
    interrupted_frame,
    parse_context_message,
)
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings, parse_frame
from kugel_bridge.kugelaudio.messages import Settings, UpdateSettings, Usage
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind
from tests.kugelaudio.test_wire import JSON

SDK_FIRST = """{"text": " ", "context_id": "narrator", "sample_rate": 16000, "normalize": true,
 "word_timestamps": false, "language": "en", "temperature": 0.3, "project_id": 42,
 "dictionary_ids": [7], "voice_settings": {"voice_id": 1, "cfg_scale": 2.2,
 "max_new_tokens": 1024}}"""


def text(ident: str = "c1", words: str = "Hello.", **fields: Any) -> ContextText:
    message = parse_context_message(json.dumps({"text": words, "context_id": ident} | fields))
    assert isinstance(message, ContextText)
    return message


def opened(contexts: Contexts, *args: Any, **fields: Any) -> Context:
    context = contexts.admit(text(*args, **fields))
    assert isinstance(context, Context)
    return context


def cost(audio_s: float = 0.5, cents: float | None = 0.25, characters: int = 6) -> Usage:
    return Usage(audio_s, characters, cents, None if cents is None else "eur", "kugel-3.5")


# --- messages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "Hi", "context_id": "a"}, ContextText("a", "Hi")),
        ({"text": "", "context_id": "a"}, ContextText("a")),
        ({"text": None, "context_id": "a", "flush": True}, ContextText("a", flush=True)),
        ({"flush": True, "context_id": "a", "later": 1}, ContextText("a", flush=True)),
        ({"close_context": True, "context_id": "a"}, CloseContext("a")),
        (
            {"close_context": True, "context_id": "a", "immediate": True},
            CloseContext("a", immediate=True),
        ),
        ({"cancel": True}, CancelContexts()),
        ({"cancel": True, "context_id": "a"}, CancelContexts("a")),
        ({"close_socket": True}, CloseSocket()),
        ({"update_settings": {"speed": 1.1}}, UpdateSettings(Settings(speed=1.1))),
        ({"text": "", "voice_id": 1071, "model_id": "kugel-3.5"}, None),
        ({"text": "whose?", "flush": True}, None),
        ({}, None),
    ],
)
def test_every_message_has_its_meaning(fields: dict[str, Any], message: object) -> None:
    assert parse_context_message(json.dumps(fields)) == message


@pytest.mark.parametrize(
    ("fields", "ident"),
    [
        ({"text": "Hi", "context_id": ""}, None),
        ({"text": "Hi", "context_id": 7}, None),
        ({"text": "Hi", "context_id": "\ud800"}, None),
        ({"text": "Hi", "context_id": "x" * (MAX_CONTEXT_ID_CHARACTERS + 1)}, None),
        ({"close_context": True}, None),
        ({"update_settings": {"voice_id": 2}}, None),
        ({"update_settings": {"speed": 3}}, None),
        ({"update_settings": []}, None),
        ({"text": 7, "context_id": "a"}, "a"),
        ({"text": "\ud800", "context_id": "a"}, "a"),
        ({"text": "Hi", "context_id": "a", "voice_settings": [1]}, "a"),
    ],
)
def test_an_impossible_message_is_a_refusal_that_names_its_context(
    fields: dict[str, Any], ident: str | None
) -> None:
    message = parse_context_message(json.dumps(fields))
    assert isinstance(message, ContextRefusal)
    assert message.context_id == ident
    assert message.refusal.code == "VALIDATION_ERROR"
    assert message.refusal.message != "Invalid request"


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_reading_a_message_raises_only_protocol_errors(message: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_context_message(message)


# --- settings -----------------------------------------------------------------------------


def test_settings_of_the_socket_stay_and_those_of_a_voice_do_not() -> None:
    contexts = Contexts()
    first = parse_context_message(SDK_FIRST)
    assert isinstance(first, ContextText)
    narrator = contexts.admit(first)
    assert isinstance(narrator, Context)
    other = opened(contexts, "other", voice_settings={"voice_id": 2})
    assert (narrator.request.voice_id, other.request.voice_id) == (1, 2)
    for request in (narrator.request, other.request):
        assert (request.sample_rate, request.language, request.temperature) == (16_000, "en", 0.3)
        assert (request.project_id, request.dictionary_ids) == (42, (7,))
    assert (narrator.request.cfg_scale, narrator.request.max_new_tokens) == (2.2, 1024)
    assert (other.request.cfg_scale, other.request.max_new_tokens) == (2.0, 2048)


def test_settings_in_the_wrong_place_have_no_effect() -> None:
    nested = {"voice_id": 1, "speed": 1.2, "temperature": 0.9, "sample_rate": 8000}
    context = opened(Contexts(), voice_settings=nested, cfg_scale=2.5, max_new_tokens=9, voice_id=3)
    request = context.request
    assert (request.voice_id, request.speed, request.temperature) == (1, 1.0, None)
    assert (request.sample_rate, request.cfg_scale, request.max_new_tokens) == (24_000, 2.0, 2048)


def test_voice_0_is_no_voice() -> None:
    contexts = Contexts()
    context = opened(contexts, voice_settings={"voice_id": 5})
    opened(contexts, voice_settings={"voice_id": 0})
    assert context.request.voice_id == 5


def test_updated_settings_are_for_contexts_created_afterwards() -> None:
    contexts = Contexts()
    before = opened(contexts, "before", language="de")
    frame = json.loads(contexts.update(Settings(speed=1.1, cfg_scale=1.5)))
    assert frame == {
        "settings_updated": True,
        "settings": {"language": "de", "speed": 1.1, "cfg_scale": 1.5},
    }
    after = opened(contexts, "after")
    own = opened(contexts, "own", voice_settings={"cfg_scale": 2.4})
    assert (before.request.speed, before.request.cfg_scale) == (1.0, 2.0)
    assert (after.request.speed, after.request.cfg_scale, after.request.language) == (
        1.1,
        1.5,
        "de",
    )
    assert (own.request.speed, own.request.cfg_scale) == (1.1, 2.4)


def test_a_message_may_still_configure_a_context_that_has_not_spoken() -> None:
    contexts = Contexts()
    context = opened(contexts, "c1", " ")
    opened(contexts, "c1", language="de", voice_settings={"voice_id": 2})
    assert (context.request.language, context.request.voice_id) == ("de", 2)
    context.started("Hallo.", 6)
    opened(contexts, "c1", language="fr", voice_settings={"voice_id": 3})
    assert (context.request.language, context.request.voice_id) == ("de", 3)
    assert opened(contexts, "c2").request.language == "fr"


@pytest.mark.parametrize(
    "fields",
    [
        {"speed": 3.0, "language": "de"},
        {"sample_rate": 12345, "language": "de"},
        {"output_format": "ulaw_8000", "sample_rate": 16_000, "language": "de"},
        {"language": "de", "voice_settings": {"voice_id": -1}},
        {"language": "de", "dictionary_ids": [1]},
    ],
)
@pytest.mark.parametrize("ident", ["known", "unknown"])
def test_what_is_refused_changes_nothing(fields: dict[str, Any], ident: str) -> None:
    contexts = Contexts()
    known = opened(contexts, "known")
    request = known.request
    refusal = contexts.admit(text(ident, **fields))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "VALIDATION_ERROR"
    assert (len(contexts), known.request) == (1, request)
    assert opened(contexts, "next").request.language is None


# --- the table ----------------------------------------------------------------------------


def test_only_text_creates_a_context() -> None:
    contexts = Contexts()
    assert contexts.admit(text("c1", "")) is None
    assert contexts.admit(text("c1", "", flush=True, language="de")) is None
    assert len(contexts) == 0
    assert opened(contexts, "c1", " ").request.language == "de"


def test_the_21st_context_is_refused_and_a_closed_one_makes_room() -> None:
    contexts = Contexts()
    first, *_ = [opened(contexts, f"c{n}") for n in range(MAX_CONTEXTS)]
    assert contexts.admit(text("more")) is TOO_MANY_CONTEXTS
    assert isinstance(contexts.admit(text("c3")), Context)
    contexts.close(first)
    assert isinstance(contexts.admit(text("more")), Context)


def test_a_context_that_is_being_closed_takes_no_text_but_is_still_there() -> None:
    contexts = Contexts()
    context = opened(contexts)
    context.is_closing = True
    for message in (text(), text("c1", "", flush=True)):
        assert isinstance(contexts.admit(message), Refusal)
    assert contexts.admit(text("c1", "")) is None
    contexts.close(context)
    assert opened(contexts) is not context


class Table(RuleBasedStateMachine):
    """Any messages in any order, and contexts that end in between."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts = Contexts()
        self.created: list[Context] = []
        self.closed: list[Context] = []
        self.audio_s = 0.0

    @rule(
        ident=st.integers(0, 24),
        words=st.sampled_from(["", " ", "Hi"]),
        flush=st.booleans(),
        fields=st.fixed_dictionaries(
            {},
            optional={
                "language": st.sampled_from(["de", "xx", 3]),
                "sample_rate": st.sampled_from([8000, 1, "x", 1e999]),
                "output_format": st.sampled_from(["ulaw_8000", "mp3"]),
                "voice_settings": st.sampled_from(
                    [None, {"voice_id": 1}, {"voice_id": "x" * 201}, {"cfg_scale": []}, 7]
                ),
            },
        ),
    )
    def say(self, ident: int, words: str, flush: bool, fields: dict[str, Any]) -> None:
        ident_ = f"c{ident}"
        before = self.contexts.find(ident_)
        try:
            message = parse_context_message(
                json.dumps({"context_id": ident_, "text": words, "flush": flush} | fields)
            )
        except ProtocolError:  # NaN and its like
            return
        if isinstance(message, ContextRefusal):
            assert message.context_id == ident_
            return
        assert isinstance(message, ContextText)
        result = self.contexts.admit(message)
        if isinstance(result, Context) and before is None:
            assert words
            self.created.append(result)
        elif result is not None and not isinstance(result, Refusal):
            assert result is before

    @rule()
    def crowd(self) -> None:
        for number in range(25):
            is_new = self.contexts.find(f"c{number}") is None
            is_full = len(self.contexts) == MAX_CONTEXTS
            self.say(ident=number, words=" ", flush=False, fields={})
            assert (self.contexts.find(f"c{number}") is None) == (is_new and is_full)

    @rule(words=JSON)
    def junk(self, words: Any) -> None:
        with contextlib.suppress(ProtocolError):
            parse_context_message(json.dumps(words))

    @rule(number=st.integers(0, 100), cents=st.none() | st.floats(0, 10))
    def speak(self, number: int, cents: float | None) -> None:
        live = [each for each in self.created if each not in self.closed]
        if live:
            context = live[number % len(live)]
            assert json.loads(context.started("Hi", 2))["context_id"] == context.id
            context.audio(bytes(4))
            context.completed(cost(0.5, cents), gen_ms=1)
            self.audio_s += 0.5

    @rule(number=st.integers(0, 100), gracefully=st.booleans())
    def close(self, number: int, gracefully: bool) -> None:
        live = [each for each in self.created if each not in self.closed]
        if live:
            context = live[number % len(live)]
            if gracefully and not context.is_closing:
                context.is_closing = True
                return
            frame = json.loads(self.contexts.close(context))
            assert (frame["context_closed"], frame["context_id"]) == (True, context.id)
            self.closed.append(context)

    @rule(speed=st.floats(0.8, 1.2))
    def update(self, speed: float) -> None:
        assert json.loads(self.contexts.update(Settings(speed=speed)))["settings"]["speed"] == speed

    @invariant()
    def there_are_never_more_than_twenty(self) -> None:
        assert len(self.contexts) == len(self.created) - len(self.closed) <= MAX_CONTEXTS

    @invariant()
    def every_id_is_live_once(self) -> None:
        live = [each for each in self.created if each not in self.closed]
        assert all(self.contexts.find(each.id) is each for each in live)
        assert max(Counter(each.id for each in live).values(), default=0) <= 1

    def teardown(self) -> None:
        for context in [each for each in self.created if each not in self.closed]:
            self.contexts.close(context)
        assert json.loads(self.contexts.session_closed()) == {
            "session_closed": True,
            "total_audio_seconds": self.audio_s,
        }


TestTable = Table.TestCase
TestTable.settings = hypothesis.settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    # How slow the machine is at the moment says nothing about the table.
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


# --- frames -------------------------------------------------------------------------------


def test_frames_are_numbered_within_their_context() -> None:
    contexts = Contexts()
    first, second = opened(contexts, 'a"\u00fc'), opened(contexts, "b")
    seen = []
    for context in (first, second, first):
        started = json.loads(context.started("Hello.", 6))
        sound = [json.loads(context.audio(bytes(4))) for _ in range(2)]
        words = json.loads(context.words(WordTimings((WordTiming("Hello", 0, 9, 0, 5),))))
        done = json.loads(context.completed(cost(), gen_ms=1.26))
        frames = [started, *sound, words, done]
        assert {frame["context_id"] for frame in frames} == {context.id}
        assert len({frame["chunk_id"] for frame in frames}) == 1
        seen.append((started["chunk_id"], [frame["idx"] for frame in sound]))
        assert (started["text"], done["audio_seconds"], done["gen_ms"]) == ("Hello.", 0.5, 1.3)
    assert seen == [(0, [0, 1]), (0, [0, 1]), (1, [2, 3])]


def test_the_sound_of_a_context_is_a_frame_that_clients_read() -> None:
    context = opened(Contexts(), output_format="ulaw_8000")
    context.started("Hello.", 6)
    frame = parse_frame(context.audio(bytes(8)))
    assert frame is not None
    assert json.loads(context.audio(bytes(8)))["samples"] == 8


def test_a_context_that_speaks_for_days_does_not_grow() -> None:
    context = opened(Contexts())

    def bytes_after(texts: int) -> int:
        for _ in range(texts):
            context.started("Hello.", 6)
            context.completed(cost(), gen_ms=1)
        return len(pickle.dumps(vars(context)))

    assert abs(bytes_after(500) - bytes_after(5)) < 100


def test_the_last_frame_tells_the_bill_and_what_had_to_fall_back() -> None:
    contexts = Contexts()
    silent, spoken = opened(contexts, "silent"), opened(contexts, "spoken")
    assert json.loads(contexts.close(silent)) == {"context_closed": True, "context_id": "silent"}
    for source, reason in (
        (SourceKind.CLOUD, ""),
        (SourceKind.LOCAL, "no connection"),
        (SourceKind.CLOUD, ""),
    ):
        spoken.started("Hello.", 6)
        spoken.spoken_by(source, reason)
        spoken.completed(cost(), gen_ms=1)
    closed = json.loads(contexts.close(spoken))
    assert closed["usage"]["audio_seconds"] == 1.5
    assert (closed["source"], closed["fallback"]) == ("local", "no connection")
    assert json.loads(contexts.session_closed())["total_audio_seconds"] == 1.5


def test_sound_of_a_text_that_broke_off_is_billed_once_and_at_an_unknown_cost() -> None:
    contexts = Contexts()
    context = opened(contexts)
    assert context.unfinished() is None
    context.started("Hello.", 6)
    assert context.unfinished() is None
    context.audio(bytes(2 * 24_000))
    assert context.unfinished() == Usage(1.0, 6, model_id="kugel-3.5")
    assert context.unfinished() is None
    context.started("Done.", 5)
    context.audio(bytes(2 * 12_000))
    context.completed(cost(0.5, 0.25, 5), gen_ms=1)
    assert context.unfinished() is None
    usage = json.loads(contexts.close(context))["usage"]
    assert (usage["audio_seconds"], usage["characters"], usage["cost_cents"]) == (1.5, 11, None)


@pytest.mark.parametrize("source", [SourceKind.LOCAL, SourceKind.CACHE])
def test_sound_that_broke_off_costs_nothing_where_all_of_it_would(source: SourceKind) -> None:
    contexts = Contexts()
    context = opened(contexts)
    context.started("Hello.", 6)
    context.spoken_by(source)
    context.audio(bytes(2 * 24_000))
    assert context.unfinished() == Usage(1.0, 6, 0.0, "eur", "kugel-3.5")
    closed = json.loads(contexts.close(context))
    assert (closed["usage"]["cost_cents"], closed["source"]) == (0.0, source.value)


def test_a_final_is_due_before_the_end_unless_the_last_text_broke_off() -> None:
    context = opened(Contexts())
    assert not context.is_final_due
    context.completed(cost(), gen_ms=1)
    assert context.is_final_due
    context.broke_off()
    assert not context.is_final_due


def test_answers_without_a_context_name_the_id_that_was_asked_for() -> None:
    assert json.loads(final_frame("a")) == {"final": True, "context_id": "a"}
    assert json.loads(closed_frame("a")) == {"context_closed": True, "context_id": "a"}
    assert json.loads(interrupted_frame("a")) == {"interrupted": True, "context_id": "a"}
    assert json.loads(interrupted_frame(None)) == {"interrupted": True}
