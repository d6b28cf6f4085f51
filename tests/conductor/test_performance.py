"""An announcement as one stream of sound: order, deadlines, breaks, and where to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from kugel_bridge.audio.chime import chime
from kugel_bridge.conductor.performance import MAX_CONTINUATIONS, Performance
from kugel_bridge.conductor.script import Cue, Jingle, Recording, Silence, Words
from kugel_bridge.model.announcement import CachePolicy, OfflineRule
from kugel_bridge.model.errors import (
    NotInCacheError,
    OutdatedError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cloud import CloudSource
from kugel_bridge.speech.ladder import Ladder
from tests.conductor.stage import SOUND, ScriptedCloud, ScriptedVoice
from tests.speech.sounds import noise

TEXT = "The first sentence is over. The second one is here. And a third."
SECOND = TEXT.index("The second")
THIRD = TEXT.index("And")


class Hall:
    """A ladder of two scripted rungs, and performances on it."""

    def __init__(self) -> None:
        self.voice = ScriptedVoice()
        self.cloud = ScriptedCloud(self.voice)
        self.cloud.available = ServiceUnavailableError("no route to host")
        source = CloudSource(self.cloud, voice="1", model="kugel-3.5")
        self.ladder = Ladder(cache=None, cloud=source, local=self.voice)

    def performance(
        self,
        *cues: Cue,
        cache: CachePolicy = CachePolicy.USE,
        offline: OfflineRule = OfflineRule.SPEAK,
        is_outdated: Callable[[], bool] = lambda: False,
        on_source: Callable[[], None] = lambda: None,
    ) -> Performance:
        return Performance(
            cues,
            self.ladder,
            cache=cache,
            first_sound_s=5.0,
            offline=offline,
            is_outdated=is_outdated,
            on_source=on_source,
        )


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hall.ladder.run())
        yield hall
        running.cancel()


def words(text: str = TEXT, offset: int = 0) -> Words:
    return Words(Utterance(text=text, language="en"), offset)


async def heard(performance: Performance) -> list[PcmChunk]:
    return [chunk async for chunk in performance.sound()]


async def test_the_cues_sound_in_their_order(hall: Hall) -> None:
    siren = noise(0.2, 9)
    told = []
    performance = hall.performance(
        Jingle("ding"),
        words("Hello"),
        Silence(0.5),
        Recording("siren", siren),
        on_source=lambda: told.append(performance.source),
    )
    assert not performance.is_sourced
    chunks = await heard(performance)
    assert chunks == [chime("ding"), SOUND, SPEECH_FORMAT.silence(0.5), siren]
    assert (performance.source, told) == (SourceKind.LOCAL, [SourceKind.LOCAL])


async def test_without_words_its_source_is_known_from_the_start(hall: Hall) -> None:
    performance = hall.performance(Jingle("ding"))
    assert performance.is_sourced
    assert len(await heard(performance)) == 1
    assert performance.source is None
    recording = hall.performance(Recording("siren", SOUND))
    assert not recording.is_sourced
    await heard(recording)
    assert recording.source is SourceKind.ALERT


async def test_words_that_may_wait_come_before_the_chime(hall: Hall) -> None:
    performance = hall.performance(Jingle("ding"), words(), offline=OfflineRule.WAIT)
    with pytest.raises(ServiceUnavailableError):
        await heard(performance)
    assert performance.source is None
    hall.cloud.available = None
    again = hall.performance(Jingle("ding"), words(), offline=OfflineRule.WAIT)
    assert await heard(again) == [chime("ding"), SOUND]
    assert (again.source, again.characters) == (SourceKind.CLOUD, len(TEXT))


async def test_once_begun_nothing_waits_for_the_cloud(hall: Hall) -> None:
    hall.cloud.available = None
    performance = hall.performance(words("One."), words("Two.", offset=4), offline=OfflineRule.WAIT)
    async with contextlib.aclosing(performance.sound()) as sound:
        assert await anext(sound) == SOUND
        hall.cloud.available = RateLimitedError("slow down")
        assert await anext(sound) == SOUND
    assert performance.source is SourceKind.CLOUD
    assert len(hall.cloud.requests) == 1


@pytest.mark.parametrize("offline", OfflineRule)
@pytest.mark.parametrize("first", [(), (Jingle("ding"),)])
async def test_too_late_it_is_not_begun(
    hall: Hall, offline: OfflineRule, first: tuple[Cue, ...]
) -> None:
    hall.cloud.available = None
    performance = hall.performance(
        *first, words(), offline=offline, is_outdated=lambda: bool(hall.voice.asked)
    )
    chunks = []
    with pytest.raises(OutdatedError):
        async for chunk in performance.sound():
            chunks.append(chunk)  # noqa: PERF401 - what came before the error counts
    # The chime may have come before the words were asked for.
    assert chunks == ([chime("ding")] if first and offline is OfflineRule.SPEAK else [])
    assert performance.source is None


@pytest.mark.parametrize("cue", [Recording("siren", SOUND), Jingle("ding"), words()])
async def test_expired_at_the_start_nothing_of_it_sounds(hall: Hall, cue: Cue) -> None:
    with pytest.raises(OutdatedError):
        await heard(hall.performance(cue, is_outdated=lambda: True))
    assert hall.voice.asked == []


async def test_what_has_begun_is_said_to_its_end(hall: Hall) -> None:
    late = False
    performance = hall.performance(
        Recording("siren", SOUND), words("Fire!"), is_outdated=lambda: late
    )
    async with contextlib.aclosing(performance.sound()) as sound:
        await anext(sound)
        late = True
        assert await anext(sound) == SOUND


async def test_a_broken_source_is_followed_from_that_sentence(hall: Hall) -> None:
    hall.voice.lines[TEXT] = (noise(2.0), ServiceUnavailableError("it broke"))
    performance = hall.performance(words())
    assert len(await heard(performance)) == 2
    assert hall.voice.asked == [TEXT, TEXT[SECOND:]]


async def test_a_source_that_breaks_again_and_again_is_given_up(hall: Hall) -> None:
    hall.voice.lines["Hi"] = (SOUND, ServiceUnavailableError("it broke"))
    with pytest.raises(ServiceUnavailableError):
        await heard(hall.performance(words("Hi")))
    assert len(hall.voice.asked) == 1 + MAX_CONTINUATIONS
    assert hall.voice.open == 0


async def test_only_from_the_cache_means_that(hall: Hall) -> None:
    with pytest.raises(NotInCacheError):
        await heard(hall.performance(words(), cache=CachePolicy.ONLY))


async def test_cut_it_tells_the_sentence_to_go_on_with(hall: Hall) -> None:
    hall.voice.lines[TEXT] = (noise(2.0), asyncio.Event())
    performance = hall.performance(Jingle("ding"), words(offset=100))
    async with contextlib.aclosing(performance.sound()) as sound:
        before_s = (await anext(sound)).seconds
        await anext(sound)
    # Its length is not known yet: guessed by its letters, 64 of them are 4.16 s.
    assert performance.resume_at(before_s) == 0
    assert performance.resume_at(before_s + 1.0) == 100
    assert performance.resume_at(before_s + 2.0) == 100 + SECOND


async def test_a_text_that_was_heard_whole_is_not_said_again(hall: Hall) -> None:
    hall.voice.lines[TEXT] = (noise(6.0),)
    performance = hall.performance(words(), Silence(1.0), words("More.", offset=len(TEXT)))
    await heard(performance)
    # Its length is known now: 6 s for 64 letters.
    assert performance.resume_at(2.0) == 0
    assert performance.resume_at(4.0) == SECOND
    assert performance.resume_at(5.5) == THIRD
    assert performance.resume_at(6.0) == len(TEXT)
    assert performance.resume_at(6.9) == len(TEXT)
    assert performance.resume_at(7.1) == len(TEXT)
    assert performance.resume_at(7.3) == len(TEXT) + len("More.")


async def test_left_unheard_it_lets_go_of_its_sources(hall: Hall) -> None:
    hall.cloud.available = None
    performance = hall.performance(Jingle("ding"), words(), offline=OfflineRule.WAIT)
    async with contextlib.aclosing(performance.sound()) as sound:
        await anext(sound)
    async with asyncio.timeout(30):
        while hall.voice.open:
            await asyncio.sleep(0)


@pytest.mark.parametrize("offline", OfflineRule)
async def test_cut_while_it_waits_for_the_first_sound_it_lets_go(
    hall: Hall, offline: OfflineRule
) -> None:
    hall.voice.slow(TEXT)
    hall.cloud.available = None
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(heard(hall.performance(words(), offline=offline)))
        while not hall.voice.open:
            await asyncio.sleep(0)
        listening.cancel()
    async with asyncio.timeout(30):
        while hall.voice.open:
            await asyncio.sleep(0)
