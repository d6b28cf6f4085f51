from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import EspeakSource
from kugel_bridge.speech.loader import LoaderSource, known_libraries
from kugel_bridge.speech.local import LocalSource
from tests.open_files import open_files
from tests.speech.sounds import utterance
from tests.speech.test_espeak import children

needs_loader = pytest.mark.skipif(
    not LoaderSource.is_installed(), reason="pip install 'kugel-bridge[local]' to test it"
)


async def spoken_s(source: LoaderSource | LocalSource, said: Utterance) -> float:
    seconds = loudest = 0.0
    async for chunk in source.stream(said):
        seconds += chunk.seconds
        loudest = max(loudest, peak(chunk))
    assert loudest > 0.1
    return seconds


@needs_loader
@pytest.mark.parametrize("text", ["Es klingelt.", "-x 5 < 6 <b", "a [[tESt]] b", "Satz. " * 800])
async def test_any_text_is_spoken(text: str) -> None:
    assert await spoken_s(LoaderSource(), utterance(text)) > 0.3


@needs_loader
@pytest.mark.parametrize("language", ["de", "en", "fr", "xx", "../x"])
@pytest.mark.parametrize("voice", [None, "+f3", "unknown"])
async def test_every_language_has_a_voice(language: str, voice: str | None) -> None:
    said = Utterance(text="123", language=language)
    assert await spoken_s(LoaderSource(voice), said) > 0.3


@needs_loader
async def test_languages_sound_different_and_speed_matters() -> None:
    def text(language: str, speed: float) -> Utterance:
        return Utterance(text="Heute ist Montag, der 3. Mai", language=language, speed=speed)

    german = await spoken_s(LoaderSource(), text("de", 1.0))
    assert await spoken_s(LoaderSource(), text("en", 1.0)) != german
    assert await spoken_s(LoaderSource(), text("de", 1.2)) < german


@needs_loader
async def test_utterances_at_the_same_time_do_not_mix() -> None:
    lengths = await asyncio.gather(
        *(spoken_s(LoaderSource(), utterance("Hallo " * n)) for n in range(1, 6))
    )
    assert lengths == sorted(lengths)


@needs_loader
async def test_who_stops_listening_stops_it() -> None:
    chunks = LoaderSource().stream(utterance("Ein langer Satz. " * 250))
    await anext(chunks)
    await chunks.aclose()
    assert await spoken_s(LoaderSource(), utterance("Hallo")) > 0.2


@needs_loader
async def test_the_child_is_gone_when_nobody_listens() -> None:
    before = open_files()
    for _ in range(3):
        pieces = LoaderSource().timed(utterance("Ein langer Satz. " * 250))
        await anext(pieces)
        assert len(children()) == 1
        await pieces.aclose()
        assert children() == []
    assert open_files() <= before


@needs_loader
async def test_no_child_is_left_at_the_end() -> None:
    await spoken_s(LoaderSource(), utterance("Hallo <break/> <spell>AB</spell>"))
    assert children() == []


@needs_loader
async def test_cancelling_kills_the_child() -> None:
    begun = asyncio.Event()

    async def listen() -> None:
        chunks = LoaderSource().stream(utterance("Ein langer Satz. " * 250))
        async with contextlib.aclosing(chunks):
            async for _ in chunks:
                begun.set()
                await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listen())
        await begun.wait()
        listening.cancel()
    assert children() == []


async def test_the_first_library_that_works_speaks() -> None:
    libraries = [("libno-such-thing.so", ""), *known_libraries()]
    assert await spoken_s(LoaderSource(libraries=libraries), utterance("Hallo")) > 0.2


async def test_a_library_without_its_data_is_no_library() -> None:
    name = known_libraries()[-1][0]
    with pytest.raises(ServiceUnavailableError, match="there is no espeak-ng"):
        await spoken_s(LoaderSource(libraries=[(name, "/no/such/data")]), utterance("Hallo"))


async def test_without_any_library_the_extra_is_named() -> None:
    source = LoaderSource(libraries=[("libno-such-thing.so", "")])
    with pytest.raises(ServiceUnavailableError, match=r"pip install 'kugel-bridge\[local\]'"):
        await spoken_s(source, utterance("Hallo"))
    assert children() == []


async def test_a_library_that_is_none_is_an_error() -> None:
    # The C library is a library, and knows nothing of speech: the child ends with a complaint.
    with pytest.raises(ServiceUnavailableError, match="espeak_Initialize"):
        await spoken_s(LoaderSource(libraries=[("libc.so.6", "")]), utterance("Hallo"))


@needs_loader
async def test_the_library_speaks_where_the_program_is_missing() -> None:
    local = LocalSource(program="no-such-espeak")
    assert isinstance(local.chosen(), LoaderSource)
    assert await spoken_s(local, utterance("Hallo")) > 0.2


async def test_the_program_is_preferred(tmp_path: Path) -> None:
    program = tmp_path / "espeak"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert isinstance(LocalSource(program=str(program)).chosen(), EspeakSource)


async def test_without_both_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoaderSource, "is_installed", staticmethod(lambda: False))
    with pytest.raises(ServiceUnavailableError, match="apt install espeak-ng"):
        await spoken_s(LocalSource(program="no-such-espeak"), utterance("Hallo"))
