from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.audio.chime import tone
from kugel_bridge.model.announcement import CachePolicy, OfflineRule
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    NotInCacheError,
    RateLimitedError,
    RejectedError,
    RetryableError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.report import SourceKind
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.cloud import CloudSource
from kugel_bridge.speech.ladder import Ladder, Speech
from tests.speech.sounds import (
    TEXT,
    ScriptedClient,
    ScriptedSource,
    heard,
    noise,
    pieces,
    until,
    utterance,
)

CLOUD_SOUND, LOCAL_SOUND = noise(1.5, 1), noise(1.5, 2)


class House:
    """A ladder whose rungs are scripted, and a real cache."""

    def __init__(self, cache: PhraseCache) -> None:
        self.cache = cache
        self.client = ScriptedClient(*[CLOUD_SOUND])
        self.local = ScriptedSource(LOCAL_SOUND)
        self.cloud = CloudSource(self.client, voice="7", model="kugel-3.5")
        self.ladder = Ladder(cache=cache, cloud=self.cloud, local=self.local)

    async def speak(
        self,
        text: str = TEXT,
        *,
        cache: CachePolicy = CachePolicy.USE,
        first_sound_s: float = 5.0,
        offline: OfflineRule = OfflineRule.SPEAK,
    ) -> Speech:
        return await self.ladder.speak(
            utterance(text), cache=cache, first_sound_s=first_sound_s, offline=offline
        )

    async def said(self, text: str = TEXT, **options: object) -> SourceKind:
        """The source, after all of it was heard and its cache entry is written."""
        speech = await self.speak(text, **options)  # type: ignore[arg-type] # as `speak`
        assert await heard(speech.chunks)
        await self.landed()
        return speech.source

    async def landed(self) -> None:
        await until(lambda: not self.ladder._flights._under_way)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    cache = PhraseCache(tmp_path, 10_000_000, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    house = House(cache)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(house.ladder.run())
        yield house
        running.cancel()
    await cache.close()


async def test_new_words_come_from_the_cloud_and_said_ones_from_the_cache(house: House) -> None:
    speech = await house.speak()
    assert speech.source is SourceKind.CLOUD
    assert speech.characters == len(TEXT)
    assert await heard(speech.chunks) == CLOUD_SOUND.data
    await house.landed()
    speech = await house.speak()
    assert (speech.source, speech.characters) == (SourceKind.CACHE, 0)
    assert await heard(speech.chunks) == CLOUD_SOUND.data
    assert len(house.client.requests) == 1


async def test_what_two_zones_say_at_once_is_asked_for_once(house: House) -> None:
    one, two = await asyncio.gather(house.speak(), house.speak())
    assert {one.source, two.source} == {SourceKind.CLOUD}
    assert sorted((one.characters, two.characters)) == [0, len(TEXT)]
    assert await heard(one.chunks) == await heard(two.chunks) == CLOUD_SOUND.data
    assert len(house.client.requests) == 1


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailableError("down"),
        RateLimitedError("429"),
        UnauthorizedError("401"),
        NoCreditsError("402"),
        InvalidRequestError("unknown voice"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_when_the_cloud_cannot_the_local_engine_does(
    house: House, error: BridgeError
) -> None:
    house.client.chunks, house.client.then = [], error
    speech = await house.speak()
    assert speech.source is SourceKind.LOCAL
    assert str(error) in speech.reason
    assert await heard(speech.chunks) == LOCAL_SOUND.data
    await house.landed()
    assert await house.said() is SourceKind.LOCAL, "local speech is not kept"


async def test_a_cloud_known_to_be_away_is_not_asked(house: House) -> None:
    house.client.available = ServiceUnavailableError("unreachable")
    assert await house.said() is SourceKind.LOCAL
    assert house.client.requests == []


async def test_a_phrase_in_the_cache_needs_no_cloud(house: House) -> None:
    assert await house.said() is SourceKind.CLOUD
    house.client.available = UnauthorizedError("401")
    assert await house.said() is SourceKind.CACHE


async def test_a_cloud_that_is_too_slow_is_passed_over_and_kept_for_next_time(
    house: House,
) -> None:
    house.client.gate.clear()
    speech = await house.speak(first_sound_s=0.05)
    assert speech.source is SourceKind.LOCAL
    assert "within 0.05 s" in speech.reason
    assert await heard(speech.chunks) == LOCAL_SOUND.data
    house.client.gate.set()
    await house.landed()
    assert await house.said() is SourceKind.CACHE


async def test_the_deadline_is_for_the_first_sound_only(house: House) -> None:
    house.client.chunks = pieces(1.5, 3)
    house.client.free = 1
    house.client.gate.clear()
    speech = await house.speak(first_sound_s=0.05)
    assert speech.source is SourceKind.CLOUD
    first = await speech.chunks.__anext__()
    await asyncio.sleep(0.1)
    house.client.gate.set()
    assert len(first.data) + len(await heard(speech.chunks)) == 72_000


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (ServiceUnavailableError("down"), None),
        (RateLimitedError("429", retry_after_s=7), 7),
        (UnauthorizedError("401"), None),
        (NoCreditsError("402"), None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_shall_wait_is_kept_for_later(
    house: House, error: BridgeError, wait_s: float | None
) -> None:
    house.client.available = error
    with pytest.raises(RetryableError) as caught:
        await house.speak(offline=OfflineRule.WAIT)
    assert caught.value.retry_after_s == wait_s
    house.client.available, house.client.chunks, house.client.then = None, [], error
    with pytest.raises(RetryableError) as caught:
        await house.speak(offline=OfflineRule.WAIT)
    assert caught.value.retry_after_s == wait_s


async def test_what_shall_wait_waits_for_a_slow_cloud_too(house: House) -> None:
    house.client.gate.clear()
    with pytest.raises(TooSlowError):
        await house.speak(first_sound_s=0.05, offline=OfflineRule.WAIT)


async def test_waiting_does_not_help_a_request_that_is_wrong(house: House) -> None:
    house.client.chunks, house.client.then = [], InvalidRequestError("unknown voice")
    assert await house.said(offline=OfflineRule.WAIT) is SourceKind.LOCAL


async def test_the_last_rung_is_the_tone(house: House) -> None:
    house.client.available = ServiceUnavailableError("down")
    house.local.chunks, house.local.then = (), ServiceUnavailableError("no espeak-ng")
    speech = await house.speak()
    assert speech.source is SourceKind.TONE
    assert "down" in speech.reason
    assert "no espeak-ng" in speech.reason
    assert await heard(speech.chunks) == tone().data


async def test_a_ladder_without_rungs_has_the_tone() -> None:
    ladder = Ladder(cache=None, cloud=None, local=None)
    speech = await ladder.speak(
        utterance(), cache=CachePolicy.USE, first_sound_s=1, offline=OfflineRule.WAIT
    )
    assert speech.source is SourceKind.TONE
    with pytest.raises(RejectedError):
        ladder.key(utterance())


async def test_bypass_neither_reads_nor_writes(house: House) -> None:
    assert await house.said(cache=CachePolicy.BYPASS) is SourceKind.CLOUD
    assert await house.said() is SourceKind.CLOUD
    assert await house.said(cache=CachePolicy.BYPASS) is SourceKind.CLOUD
    assert len(house.client.requests) == 3


async def test_refresh_makes_it_anew(house: House) -> None:
    assert await house.said() is SourceKind.CLOUD
    newer = noise(1.5, 9)
    house.client.chunks = [newer]
    assert await house.said(cache=CachePolicy.REFRESH) is SourceKind.CLOUD
    speech = await house.speak()
    assert speech.source is SourceKind.CACHE
    assert await heard(speech.chunks) == newer.data


async def test_only_the_cache_or_nothing(house: House) -> None:
    with pytest.raises(NotInCacheError):
        await house.speak(cache=CachePolicy.ONLY)
    assert house.client.requests == []
    await house.said()
    assert await house.said(cache=CachePolicy.ONLY) is SourceKind.CACHE


async def test_sound_that_breaks_off_is_an_error_and_is_not_kept(house: House) -> None:
    house.client.then = ServiceUnavailableError("cut")
    speech = await house.speak()
    assert speech.source is SourceKind.CLOUD
    got = b""
    with pytest.raises(ServiceUnavailableError, match="cut"):
        async for chunk in speech.chunks:
            got += bytes(chunk.data)
    assert got == CLOUD_SOUND.data
    await house.landed()
    assert not await house.cache.contains(house.ladder.key(utterance()))


@pytest.mark.parametrize("is_local", [False, True])
async def test_speech_closed_unread_lets_its_source_go(house: House, is_local: bool) -> None:
    house.client.chunks = pieces(1.5, 3)
    house.client.free = 1
    house.client.gate.clear()
    if is_local:
        house.client.available = ServiceUnavailableError("down")
    speech = await house.speak()
    await speech.chunks.aclose()
    if is_local:
        assert house.local.closed
    else:
        async with asyncio.timeout(30):
            await house.client.closed.wait()


async def test_giving_up_while_waiting_lets_the_source_go(house: House) -> None:
    house.client.gate.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await house.speak()
    async with asyncio.timeout(30):
        await house.client.closed.wait()


async def test_a_cache_in_trouble_is_no_trouble(house: House) -> None:
    await house.cache.close()
    assert await house.said() is SourceKind.CLOUD
    assert await house.said() is SourceKind.CLOUD


async def test_explaining_says_and_costs_nothing(house: House) -> None:
    plan = await house.ladder.explain(utterance())
    assert (plan.source, plan.characters) == (SourceKind.CLOUD, len(TEXT))
    assert plan.digest == house.ladder.key(utterance()).digest
    assert house.client.requests == []
    await house.said()
    plan = await house.ladder.explain(utterance())
    assert (plan.source, plan.characters) == (SourceKind.CACHE, 0)
    house.client.available = ServiceUnavailableError("down")
    plan = await house.ladder.explain(utterance(), cache=CachePolicy.BYPASS)
    assert (plan.source, plan.characters) == (SourceKind.LOCAL, 0)
    assert "down" in plan.reason
    plan = await house.ladder.explain(utterance("neu"), cache=CachePolicy.ONLY)
    assert "not in the cache" in plan.reason
    assert (await house.cache.stats()).hits == 0


async def test_warming_fills_the_cache(house: House) -> None:
    await house.said()
    report = await house.ladder.warm(
        [utterance(), utterance("Zwei Worte"), utterance("Drei Worte")]
    )
    assert (report.made, report.present, report.left, report.failed) == (2, 1, 0, [])
    assert report.characters == 20
    assert await house.said("Drei Worte") is SourceKind.CACHE


async def test_warming_can_pin(house: House) -> None:
    await house.said()
    await house.ladder.warm([utterance(), utterance("Zwei Worte")], pin=True)
    assert all(entry.pinned for entry in await house.cache.entries())


async def test_warming_stops_where_the_cloud_does(house: House) -> None:
    house.client.available = RateLimitedError("429")
    report = await house.ladder.warm([utterance(str(n)) for n in range(5)])
    assert (report.made, report.left) == (0, 4)
    assert report.failed == [("0", "429")]


async def test_warming_goes_on_after_a_phrase_that_is_wrong(house: House) -> None:
    house.client.chunks, house.client.then = [], InvalidRequestError("unknown voice")
    report = await house.ladder.warm([utterance(str(n)) for n in range(3)])
    assert (report.made, len(report.failed), report.left) == (0, 3, 0)
