from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.generation import Generator, refusal_for
from kugel_bridge.gateway.upstream import stand_in
from kugel_bridge.gateway.voices import ESPEAK_VOICES
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.frames import AudioFrame, Finished, WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    RateLimitedError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cloud import CloudSource
from tests.broker import free_port
from tests.gateway.in_front import (
    HELLO,
    TEXT,
    PrivateVoices,
    client_for,
    in_front,
    rest_of,
    sound_of,
)
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving
from tests.kugelaudio.scripted_service import service

PRICE = Usage(0.0, cost_cents=0.25, currency="eur")
WORDS = WordTimings((WordTiming("Dinner", 0, 200, 0, 6), WordTiming("is", 220, 300, 7, 9)))
ANNA = Voice(1, "Anna", "anna", ("en",))


def engine_with(*pieces: object, **options: Any) -> ScriptedEngine:
    return ScriptedEngine(pieces, **options)  # type: ignore[arg-type] # it gives on what it gets


# --- one phrase, one request ----------------------------------------------------------------


@pytest.mark.parametrize("own", ["1", "anna"])
@pytest.mark.parametrize("asked", [1, "1", "anna"])
async def test_a_phrase_of_the_bridge_is_found_whatever_the_voice_is_called(
    tmp_path: Path, own: str, asked: int | str
) -> None:
    upstream = engine_with(hum(1.0))
    async with (
        serving(upstream) as service,
        in_front(service.url, tmp_path, own_voice=own) as front,
    ):
        source = CloudSource(front.client, voice=own, model="kugel-3.5", origin=service.url)
        key = source.key(Utterance(text=TEXT, language="en"))
        assert front.cache is not None
        recording = front.cache.begin(key)
        assert recording is not None
        recording.add(hum(1.0))
        assert await recording.commit()
        came_from, pieces = await front.said(dataclasses.replace(HELLO, voice_id=asked))
    assert came_from is SourceKind.CACHE
    assert sound_of(pieces) == hum(1.0).data
    assert not upstream.asked


async def test_every_format_is_the_same_phrase(tmp_path: Path) -> None:
    upstream = engine_with(hum(0.5), hum(0.5))
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        telephone = dataclasses.replace(HELLO, output_format="ulaw_8000")
        assert (await front.said(telephone))[0] is SourceKind.CLOUD
        await front.kept()
        for other in (HELLO, dataclasses.replace(HELLO, sample_rate=44_100)):
            came_from, pieces = await front.said(other)
            assert came_from is SourceKind.CACHE
            assert len(sound_of(pieces)) == 48_000
    assert [request.delivery[1] for request in upstream.requests] == [24_000]


async def test_text_is_the_same_however_its_letters_are_put_together(tmp_path: Path) -> None:
    upstream = engine_with(hum(1.0))
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        await front.said(SpeechRequest("Cafe\u0301", "en", 1))
        await front.kept()
        came_from, _ = await front.said(SpeechRequest("Caf\u00e9", "en", 1))
    assert came_from is SourceKind.CACHE


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Dinner is late."},
        {"voice_id": 2},
        {"model_id": "kugel-3"},
        {"language": "de"},
        {"normalize": False},
        {"speed": 1.1},
        {"cfg_scale": 1.5},
        {"temperature": 0.2},
        {"max_new_tokens": 1000},
        {"project_id": 42},
        {"project_id": 42, "dictionary_ids": (7,)},
        {"dictionary_ids": ()},
    ],
    ids=str,
)
async def test_whatever_changes_the_sound_is_asked_for_again_and_reaches_the_service(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    upstream = engine_with(hum(1.0))
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        await front.said()
        await front.kept()
        came_from, _ = await front.said(dataclasses.replace(HELLO, **change))
    assert came_from is SourceKind.CLOUD
    sent = upstream.requests[-1]
    assert {name: getattr(sent, name) for name in change} == change


async def test_who_comes_later_hears_all_of_it_and_who_leaves_ends_it_only_as_the_last() -> None:
    upstream = engine_with(hum(0.5), hum(0.5), PRICE, hold=asyncio.Event())
    assert upstream.hold is not None
    async with serving(upstream) as service, in_front(service.url) as front:
        one, two = await front.begun(), await front.begun()
        await one.pieces.aclose()
        upstream.hold.set()
        pieces = await rest_of(two)
        assert sound_of(pieces) == bytes(hum(0.5).data) * 2
        upstream.hold.clear()
        upstream.over.clear()
        only = await front.begun()
        assert not upstream.over.is_set()
        await only.pieces.aclose()
        async with asyncio.timeout(WAIT_S):
            await upstream.over.wait()
    assert len(upstream.asked) == 2


async def test_leaving_unread_ends_the_generation() -> None:
    upstream = engine_with(hum(0.5), hum(0.5), hold=asyncio.Event())
    async with serving(upstream) as service, in_front(service.url) as front:
        for _ in range(2):
            await (await front.begun()).pieces.aclose()
            async with asyncio.timeout(WAIT_S):
                await upstream.over.wait()
            upstream.over.clear()


# --- words and cost -------------------------------------------------------------------------


async def test_words_come_in_order_and_are_asked_for_once_by_all_who_want_them(
    tmp_path: Path,
) -> None:
    upstream = engine_with(hum(0.5), WORDS, hum(0.5), hold=asyncio.Event())
    assert upstream.hold is not None
    wordy = dataclasses.replace(HELLO, word_timestamps=True)
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        one, two = await front.begun(wordy), await front.begun(wordy)
        upstream.hold.set()
        for spoken in (one, two):
            kinds = [type(piece).__name__ for piece in await rest_of(spoken)]
            before, after = kinds[: kinds.index("WordTimings")], kinds[kinds.index("WordTimings") :]
            assert set(before) == {"PcmChunk"}
            assert "PcmChunk" in after
        assert len(upstream.requests) == 1
        await front.kept()
        # Their sound serves those who want no words; words are not in the cache.
        assert (await front.said())[0] is SourceKind.CACHE
        came_from, pieces = await front.said(wordy)
        assert came_from is SourceKind.CLOUD
        assert WORDS in pieces


async def test_words_nobody_asked_for_are_left_out() -> None:
    async with serving(engine_with(hum(0.5), WORDS)) as service, in_front(service.url) as front:
        _, pieces = await front.said()
    assert WORDS not in pieces


async def test_who_wants_no_words_joins_who_does_and_never_the_other_way(tmp_path: Path) -> None:
    upstream = engine_with(hum(0.5), WORDS, hum(0.5), PRICE, hold=asyncio.Event())
    assert upstream.hold is not None
    wordy = dataclasses.replace(HELLO, word_timestamps=True)
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        with_words, plain = await front.begun(wordy), await front.begun()
        upstream.hold.set()
        heard = await rest_of(plain)
        assert sound_of(heard) == bytes(hum(0.5).data) * 2
        assert all(isinstance(piece, PcmChunk) for piece in heard)
        paid = await rest_of(with_words)
        assert WORDS in paid
        assert isinstance(paid[-1], Usage)
        assert len(upstream.requests) == 1

        upstream.hold.clear()
        other = dataclasses.replace(HELLO, text="Supper is ready.")
        plain = await front.begun(other)
        with_words = await front.begun(dataclasses.replace(other, word_timestamps=True))
        upstream.hold.set()
        assert WORDS in await rest_of(with_words)
        assert WORDS not in await rest_of(plain)
        assert len(upstream.requests) == 3


async def test_who_wants_no_words_and_leaves_does_not_end_it_for_who_does() -> None:
    upstream = engine_with(hum(0.5), WORDS, hum(0.5), hold=asyncio.Event())
    assert upstream.hold is not None
    wordy = dataclasses.replace(HELLO, word_timestamps=True)
    async with serving(upstream) as service, in_front(service.url) as front:
        with_words, plain = await front.begun(wordy), await front.begun()
        await plain.pieces.aclose()
        upstream.hold.set()
        assert sound_of(await rest_of(with_words)) == bytes(hum(0.5).data) * 2


async def test_who_started_it_pays_and_nobody_else(tmp_path: Path) -> None:
    upstream = engine_with(hum(0.5), hum(0.5), PRICE, hold=asyncio.Event())
    assert upstream.hold is not None
    async with serving(upstream) as service, in_front(service.url, tmp_path) as front:
        starter, sharer = await front.begun(), await front.begun()
        upstream.hold.set()
        shared, started = await rest_of(sharer), await rest_of(starter)
        assert [piece for piece in shared if isinstance(piece, Usage)] == []
        assert isinstance(started[-1], Usage)
        assert (started[-1].cost_cents, started[-1].currency) == (0.25, "eur")
        await front.kept()
        _, cached = await front.said()
        assert not any(isinstance(piece, Usage) for piece in cached)
    assert [usage.cost_cents for usage in front.charged] == [0.25]


async def test_if_who_started_it_leaves_one_of_those_who_stay_pays() -> None:
    upstream = engine_with(hum(0.5), hum(0.5), PRICE, hold=asyncio.Event())
    assert upstream.hold is not None
    async with serving(upstream) as service, in_front(service.url) as front:
        starter, *stay = [await front.begun() for _ in range(3)]
        await starter.pieces.aclose()
        upstream.hold.set()
        heard = [await rest_of(spoken) for spoken in stay]
    bills = [[piece for piece in pieces if isinstance(piece, Usage)] for pieces in heard]
    assert [[usage.cost_cents for usage in each] for each in bills] == [[0.25], []]


async def test_words_of_a_service_that_answers_in_chunks_count_from_the_beginning() -> None:
    async def in_two_chunks(socket: ServerConnection) -> None:
        async for _ in socket:
            for chunk, word in enumerate(("Dinner", "ready")):
                sound = AudioFrame(bytes(24_000), Encoding.PCM, 24_000, chunk, chunk)
                words = WordTimings((WordTiming(word, 10, 400, 0, len(word)),), chunk)
                for frame in (sound, words):
                    await socket.send(frame.to_json())
            await socket.send(Finished().to_json())

    asked = dataclasses.replace(HELLO, word_timestamps=True)
    lists = PrivateVoices([ANNA], Voice(9, "x"))
    async with service(in_two_chunks) as there, in_front(there.url, lists=lists) as front:
        _, pieces = await front.said(asked)
    words = [piece for piece in pieces if isinstance(piece, WordTimings)]
    assert [(each.words[0].word, each.words[0].start_ms, each.chunk_id) for each in words] == [
        ("Dinner", 10, 0),
        ("ready", 510, 0),
    ]


async def test_a_cost_that_the_service_does_not_tell_is_not_nothing() -> None:
    upstream = engine_with(hum(0.5), Usage(0.0, cost_cents=None))
    async with serving(upstream) as service, in_front(service.url) as front:
        _, pieces = await front.said()
    assert isinstance(pieces[-1], Usage)
    assert pieces[-1].cost_cents is None


# --- trouble ---------------------------------------------------------------------------------

TROUBLE = [
    (RateLimitedError("slow down"), RateLimitedError, "upstream: rate limited", 429),
    (NoCreditsError("empty"), NoCreditsError, "upstream: no credits", 402),
    (ServiceUnavailableError("down"), ServiceUnavailableError, "upstream: out of order", 503),
]


@pytest.mark.parametrize(("trouble", "kind", "reason", "status"), TROUBLE)
async def test_the_local_engine_speaks_what_the_service_cannot(
    trouble: BridgeError, kind: type[BridgeError], reason: str, status: int
) -> None:
    upstream = engine_with(then=trouble)
    async with serving(upstream) as service:
        async with in_front(service.url, fallback=True) as front:
            spoken = await front.begun()
            assert (spoken.source, spoken.reason) == (SourceKind.LOCAL, reason)
            assert len(sound_of(await rest_of(spoken))) > 10_000
        async with in_front(service.url) as front:
            with pytest.raises(kind) as caught:
                await front.begun()
            assert refusal_for(caught.value).status == status


async def test_a_refused_key_is_told_as_such_and_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(ScriptedEngine(), keys=["the-right-one"]) as service:
        async with in_front(service.url, fallback=True) as front:
            front.engine._client = client_for(service.url)
            spoken = await front.engine.speak(HELLO, ANNA, "en")
            await spoken.pieces.aclose()
        async with in_front(service.url) as front:
            with pytest.raises(UnauthorizedError) as caught:
                await front.engine.speak(HELLO, ANNA, "en")
    assert spoken.reason == "upstream: the key is refused"
    assert refusal_for(caught.value).status == 503


async def test_nobody_there_means_the_local_engine_at_once_or_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with in_front(url, fallback=True) as front:
        spoken = await front.engine.speak(HELLO, ANNA, "en")
        await spoken.pieces.aclose()
        assert spoken.source is SourceKind.LOCAL
    async with in_front(url) as front:
        with pytest.raises(ServiceUnavailableError):
            await front.engine.speak(HELLO, ANNA, "en")


async def test_a_service_that_says_nothing_is_not_waited_for_without_end() -> None:
    class Mute(ScriptedEngine):
        async def _pieces(self) -> AsyncGenerator[Any, None]:
            await asyncio.Event().wait()
            yield

    limits = {"first_audio_timeout_s": 0.2}
    async with serving(Mute()) as service:
        async with in_front(service.url, fallback=True, client=limits) as front:
            spoken = await front.begun()
            await spoken.pieces.aclose()
            assert spoken.reason == "upstream: too slow"
        async with in_front(service.url, client=limits) as front:
            with pytest.raises(TooSlowError):
                await front.begun()


async def test_a_time_to_wait_reaches_the_caller() -> None:
    async with serving(ScriptedEngine()) as service, in_front(service.url) as front:
        await front.engine.voices()
        front.client._note(RateLimitedError("slow down", retry_after_s=30))
        with pytest.raises(RateLimitedError) as caught:
            await front.engine.speak(HELLO, ANNA, "en")
    wait_s = refusal_for(caught.value).retry_after_s
    assert wait_s is not None
    assert 29 < wait_s <= 33


async def test_a_break_in_the_middle_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    upstream = engine_with(hum(0.5), then=ServiceUnavailableError("cut"))
    async with (
        serving(upstream) as service,
        in_front(service.url, tmp_path, fallback=True) as front,
    ):
        spoken = await front.begun()
        assert spoken.source is SourceKind.CLOUD
        with pytest.raises(ServiceUnavailableError):
            await rest_of(spoken)
        assert front.cache is not None
        assert not await front.cache.entries()


async def test_a_request_that_is_wrong_gets_the_services_own_answer_and_no_substitute() -> None:
    class Strict(ScriptedEngine):
        async def voice(self, ident: int | str) -> Voice | None:
            return None

    async with serving(Strict()) as service, in_front(service.url, fallback=True) as front:
        with pytest.raises(InvalidRequestError) as caught:
            await front.engine.speak(HELLO, ANNA, "en")
    refusal = refusal_for(caught.value)
    assert (refusal.status, refusal.code) == (404, "NOT_FOUND")
    assert refusal.message == "Voice not found"
    assert refusal.request_id is None


async def test_if_the_local_engine_fails_too_the_services_trouble_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        serving(engine_with(then=NoCreditsError("empty"))) as service,
        in_front(service.url, fallback=True) as front,
    ):
        await front.engine.voices()
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr(
            "kugel_bridge.speech.loader.LoaderSource.is_installed", lambda *_: False
        )
        with pytest.raises(NoCreditsError):
            await front.begun()


# --- voices ----------------------------------------------------------------------------------

LOCAL = [each.voice for each in ESPEAK_VOICES]


@pytest.mark.parametrize(
    ("languages", "sex", "language", "expected"),
    [
        (("de",), "male", "de", "espeak-de-male"),
        (("de", "en"), "female", "en", "espeak-en-female"),
        (("de",), None, "de", "espeak-de-female"),
        (("de",), "neutral", "fr", "espeak-fr-female"),
        (("ru",), "male", "ru", "espeak-en-male"),
    ],
)
def test_the_substitute_has_the_language_and_then_the_sex(
    languages: tuple[str, ...], sex: str | None, language: str, expected: str
) -> None:
    voice = Voice(1071, "Samantha", "samantha", languages, sex=sex)
    assert stand_in(voice, language, LOCAL).handle == expected


async def test_local_voices_are_listed_only_where_they_may_speak() -> None:
    async with serving(ScriptedEngine()) as service:
        async with in_front(service.url) as front:
            alone = [voice.handle for voice in await front.engine.voices()]
        async with in_front(service.url, fallback=True) as front:
            both = [voice.handle for voice in await front.engine.voices()]
            spoken = await front.begun(dataclasses.replace(HELLO, voice_id="espeak-en-male"))
            await spoken.pieces.aclose()
    assert alone == ["anna", "bert", "cleo"]
    assert both == [*alone, *[voice.handle for voice in LOCAL]]
    assert (spoken.source, spoken.reason) == (SourceKind.LOCAL, "")


async def test_without_the_services_list_the_local_voices_are_left() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with in_front(url, fallback=True) as front:
        assert await front.engine.voices() == LOCAL
        assert await front.engine.voice("espeak-en-male") == LOCAL[1]
    async with in_front(url) as front:
        with pytest.raises(ServiceUnavailableError):
            await front.engine.voices()


async def test_hidden_voices_are_neither_listed_nor_found() -> None:
    async with (
        serving(ScriptedEngine()) as service,
        in_front(service.url, fallback=True, hidden=["anna", "2", "101"]) as front,
    ):
        handles = [voice.handle for voice in await front.engine.voices()]
        for ident in ("anna", 1, 2, "espeak-en-female"):
            assert await front.engine.voice(ident) is None
    assert handles[:2] == ["cleo", "espeak-en-male"]


async def test_a_voice_that_the_list_leaves_out_speaks() -> None:
    lists = PrivateVoices([ANNA], Voice(2, "Bert", "bert", ("de",)))
    async with (
        serving(ScriptedEngine()) as service,
        in_front(service.url, lists=lists) as front,
    ):
        came_from, _ = await front.said(SpeechRequest("Hallo.", None, "bert"))
        assert came_from is SourceKind.CLOUD
        assert await front.engine.voice(77) is None


@pytest.mark.parametrize("ident", [2, "2", "bert"])
async def test_without_a_list_the_service_is_asked_by_the_name_that_was_given(
    ident: int | str,
) -> None:
    class Silent:
        async def voices(self) -> list[Voice]:
            raise ServiceUnavailableError("no list today")

        async def voice(self, ident: int | str) -> Voice | None:
            raise ServiceUnavailableError("no list today")

    upstream = ScriptedEngine()
    async with serving(upstream) as service, in_front(service.url, lists=Silent()) as front:
        generator = Generator(front.engine, max_characters=100)
        request = SpeechRequest("Hallo.", None, ident)
        voice = await generator.checked(request)
        assert isinstance(voice, Voice)
        begun: list[Spoken] = []
        await generator.make(request, voice, _nowhere, begun.append)
    assert [spoken.source for spoken in begun] == [SourceKind.CLOUD]
    # Without a language of ours the service took the voice's own.
    assert upstream.asked == [("Hallo.", "Bert", "de", 1.0)]


async def _nowhere(piece: object) -> None:
    return


# --- turns -----------------------------------------------------------------------------------


async def test_the_bridge_itself_is_next_however_many_wait_at_the_gateway() -> None:
    upstream = engine_with(hum(0.5), hum(0.5), hold=asyncio.Event())
    assert upstream.hold is not None
    async with serving(upstream) as service, in_front(service.url, generations=1) as front:
        await front.engine.voices()
        first = await front.begun()
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(front.said(dataclasses.replace(HELLO, text=f"{number}")))
            line = front.engine._line
            async with asyncio.timeout(WAIT_S):
                while line.waiting < 3:
                    await asyncio.sleep(0.005)
            urgent = tasks.create_task(_heard(front.client.stream(SpeechRequest("Fire!", "en", 1))))
            async with asyncio.timeout(WAIT_S):
                while not front.client._slots._waiters:
                    await asyncio.sleep(0.005)
            upstream.hold.set()
            await rest_of(first)
            assert await urgent
    assert [text for text, *_ in upstream.asked][:2] == [TEXT, "Fire!"]


async def _heard(chunks: AsyncGenerator[Any, None]) -> int:
    return len([chunk async for chunk in chunks])
