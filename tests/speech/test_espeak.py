from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.errors import ServiceUnavailableError, TooSlowError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import EspeakSource
from tests.open_files import open_files
from tests.speech.sounds import until, utterance

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="apt install espeak-ng to test it"
)


def children() -> list[int]:
    """Processes started by this one, zombies too."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # A thread may end between the two looks.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def resident() -> int:
    """Bytes of memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Makes a stand-in for espeak-ng out of a shell script."""

    def made(script: str) -> str:
        path = tmp_path / "espeak-ng"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return made


async def said(chunks: AsyncGenerator[PcmChunk, None]) -> tuple[float, float]:
    """Seconds and peak."""
    seconds = loudest = 0.0
    async for chunk in chunks:
        seconds += chunk.seconds
        loudest = max(loudest, peak(chunk))
    return seconds, loudest


@needs_espeak
@pytest.mark.parametrize(
    "text",
    [
        "Es klingelt.",
        "-x --help -w /tmp/x",
        "5 < 6 & <kaputt",
        "Halt <break time='1s'/> jetzt <spell>AB</spell>",
        '<prosody rate="slow">langsam</prosody>',
        "a [[tESt]] [[[ b",
        "Ünïcödé 你好",
        "Satz. " * 800,
    ],
    ids=lambda text: text[:12],
)
async def test_any_text_is_spoken(text: str) -> None:
    seconds, loudest = await said(EspeakSource().stream(utterance(text)))
    assert seconds > 0.3
    assert loudest > 0.1
    assert children() == []


@needs_espeak
@pytest.mark.parametrize("language", ["de", "en", "fr", "zh", "no", "he", "yue", "xx", "", "../x"])
async def test_every_language_has_a_voice(language: str) -> None:
    seconds, _ = await said(EspeakSource().stream(Utterance(text="123", language=language)))
    assert seconds > 0.3


@needs_espeak
@pytest.mark.parametrize("voice", ["+f3", "de+f3", "fr", "unknown", "-x", "+nothing", "a b"])
async def test_a_strange_voice_still_speaks(voice: str) -> None:
    seconds, _ = await said(EspeakSource(voice).stream(utterance("Hallo")))
    assert seconds > 0.2


@needs_espeak
async def test_faster_is_shorter() -> None:
    lengths = []
    for speed in (0.8, 1.0, 1.2):
        fast = Utterance(text="Es klingelt an der Haustür", language="de", speed=speed)
        lengths.append((await said(EspeakSource().stream(fast)))[0])
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[2] * 1.2


@needs_espeak
async def test_breaks_are_heard_as_pauses() -> None:
    plain, _ = await said(EspeakSource().stream(utterance("Halt jetzt")))
    paused, _ = await said(EspeakSource().stream(utterance('Halt <break time="500ms"/> jetzt')))
    assert paused > plain + 0.1


@needs_espeak
async def test_the_child_is_gone_at_once_when_nobody_listens() -> None:
    before = open_files()
    for _ in range(5):
        chunks = EspeakSource().stream(utterance("Ein langer Satz. " * 200))
        await anext(chunks)
        await chunks.aclose()
        assert children() == []
    assert open_files() <= before


@needs_espeak
async def test_no_descriptor_and_no_child_is_left_over() -> None:
    await said(EspeakSource().stream(utterance("Hallo")))
    before = open_files()
    for _ in range(10):
        await said(EspeakSource().stream(utterance("Hallo")))
    assert open_files() <= before
    assert children() == []


async def test_cancelling_kills_the_child(program: Callable[[str], str]) -> None:
    source = EspeakSource(program=program("exec sleep 60"))
    started = open_files()

    async def listen() -> None:
        async for _ in source.stream(utterance("Hallo")):
            pass

    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listen())
        await until(lambda: bool(children()))
        listening.cancel()
    assert children() == []
    assert open_files() <= started


async def test_a_missing_program_is_named_with_its_remedy() -> None:
    with pytest.raises(ServiceUnavailableError, match=r"apt install espeak-ng.*pip install"):
        await said(EspeakSource(program="no-such-espeak").stream(utterance("Hallo")))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo broken >&2; exit 1", "broken"),
        ("exit 0", "no sound"),
        ("kill -9 $$", "no sound"),
        ("echo this is no sound at all", "WAV"),
        ("yes complaint | head -c 3000000 >&2; exit 1", "complaint"),
        ("exec 0<&-; exit 3", "no sound"),
    ],
)
async def test_a_program_that_fails_is_an_error(
    program: Callable[[str], str], script: str, reason: str
) -> None:
    before = open_files()
    with pytest.raises(ServiceUnavailableError, match=reason) as caught:
        await said(EspeakSource(program=program(script)).stream(utterance("Hallo " * 500)))
    assert len(str(caught.value)) < 3_000
    assert children() == []
    assert open_files() <= before


@needs_espeak
@pytest.mark.parametrize("after", [0, 4_000])
async def test_a_program_that_hangs_is_given_up(program: Callable[[str], str], after: int) -> None:
    script = f"espeak-ng --stdout test | head -c {after}; exec sleep 60"
    source = EspeakSource(program=program(script), first_sound_timeout_s=0.3, stall_timeout_s=0.3)
    with pytest.raises(TooSlowError):
        await said(source.stream(utterance("Hallo")))
    assert children() == []


@needs_espeak
async def test_a_slow_listener_holds_the_child_back(program: Callable[[str], str]) -> None:
    script = "espeak-ng --stdout test; exec cat /dev/zero"
    chunks = EspeakSource(program=program(script)).stream(utterance("Hallo"))
    await anext(chunks)
    before = resident()
    async with asyncio.timeout(30):
        for _ in range(50):
            await asyncio.sleep(0.01)
    assert resident() - before < 20_000_000
    await chunks.aclose()
    assert children() == []
