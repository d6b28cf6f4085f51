from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import EspeakSource
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.local import LocalSource
from tests.speech.sounds import utterance

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
async def test_utterances_at_the_same_time_come_one_after_the_other() -> None:
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


async def test_without_the_extra_its_name_is_told() -> None:
    # The library is loaded once per process, so another has to show what is missing.
    program = (
        "import asyncio, sys; sys.modules['espeakng_loader'] = None\n"
        "from kugel_bridge.speech.loader import LoaderSource\n"
        "from kugel_bridge.model.utterance import Utterance\n"
        "async def main():\n"
        "    async for _ in LoaderSource().stream(Utterance(text='x', language='de')): pass\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    _, complaint = await child.communicate()
    assert b"ServiceUnavailableError: there is no espeak-ng" in complaint
    assert b"kugel-bridge[local]" in complaint


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
