from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.flight import Flight, Listener
from kugel_bridge.speech.flights import Flights
from tests.speech.sounds import ScriptedClient, heard, key, noise, pieces

REQUEST = SpeechRequest("x", "de", 1)


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    flights = Flights(max_ahead=100_000)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(flights.run())
        yield flights
        running.cancel()


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PhraseCache]:
    cache = PhraseCache(tmp_path, 10_000_000, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    yield cache
    await cache.close()


async def board(
    flights: Flights, client: ScriptedClient, digest: str = "a", cache: PhraseCache | None = None
) -> tuple[Flight, Listener, bool]:
    def recording() -> object:
        return cache.begin(key()) if cache else None

    return await flights.board(
        digest,
        lambda: client.stream(REQUEST),
        recording,  # type: ignore[arg-type] # object keeps the line short
    )


def sound_of(client: ScriptedClient) -> bytes:
    return b"".join(bytes(chunk.data) for chunk in client.chunks)


async def settled(what: object) -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_two_listeners_share_one_generation(flights: Flights) -> None:
    client = ScriptedClient(*pieces(1, 5))
    client.free = 2
    client.gate.clear()
    _, one, is_new = await board(flights, client)
    assert is_new
    assert bytes((await one.asend(None)).data) == client.chunks[0].data
    _, two, is_new = await board(flights, client)
    assert not is_new
    client.gate.set()
    rest, whole = await asyncio.gather(heard(one), heard(two))
    assert whole == sound_of(client)
    assert bytes(client.chunks[0].data) + rest == whole
    assert len(client.requests) == 1


async def test_another_phrase_is_another_generation(flights: Flights) -> None:
    client = ScriptedClient(noise(1))
    listeners = [(await board(flights, client, digest))[1] for digest in "ab"]
    for listener in listeners:
        assert await heard(listener) == sound_of(client)
    assert len(client.requests) == 2


async def test_an_error_reaches_every_listener_after_the_sound(flights: Flights) -> None:
    client = ScriptedClient(noise(1), then=ServiceUnavailableError("cut"))
    both = [(await board(flights, client))[1] for _ in range(2)]
    for listener in both:
        assert (await listener.asend(None)).frames == 24_000
        with pytest.raises(ServiceUnavailableError, match="cut"):
            await listener.asend(None)
    assert len(client.requests) == 1


async def test_an_error_of_our_own_does_not_leave_listeners_waiting(flights: Flights) -> None:
    client = ScriptedClient(noise(1))
    client.then = RuntimeError("a bug")  # type: ignore[assignment] # that is the point
    _, listener, _ = await board(flights, client)
    with pytest.raises(ServiceUnavailableError, match="a bug"):
        await heard(listener)
    _, listener, _ = await board(flights, ScriptedClient(noise(1)), "b")
    assert await heard(listener)


async def test_no_sound_at_all_is_an_error(flights: Flights) -> None:
    _, listener, _ = await board(flights, ScriptedClient())
    with pytest.raises(ServiceUnavailableError, match="without any sound"):
        await listener.begin()
    listener.leave()


async def test_the_generation_runs_ahead_of_its_listener_but_not_too_far(
    flights: Flights,
) -> None:
    client = ScriptedClient(*pieces(10, 100))
    flight, listener, _ = await board(flights, client)
    await listener.begin()
    await settled(flight)
    # 100,000 bytes are 20 pieces of 4,800 and one more to cross the line.
    assert client.sent == pytest.approx(21, abs=2)
    assert await heard(listener) == sound_of(client)


async def test_it_waits_for_the_slowest(flights: Flights) -> None:
    client = ScriptedClient(*pieces(10, 100))
    flight, slow, _ = await board(flights, client)
    _, quick, _ = await board(flights, client)
    for _ in range(20):
        await quick.asend(None)
    await settled(flight)
    assert client.sent < 25
    slow.leave()
    assert len(await heard(quick)) == len(sound_of(client)) - 20 * 4_800


async def test_who_comes_too_late_for_the_beginning_gets_a_generation_of_its_own(
    flights: Flights,
) -> None:
    client = ScriptedClient(*pieces(10, 100))
    flight, first, _ = await board(flights, client)
    for _ in range(50):
        await first.asend(None)
    assert not flight.can_join
    _, second, is_new = await board(flights, client)
    assert is_new
    rest, whole = await asyncio.gather(heard(first), heard(second))
    assert whole == sound_of(client)
    assert len(rest) == len(whole) - 50 * 4_800


async def test_when_the_last_listener_goes_the_generation_ends(
    flights: Flights, cache: PhraseCache, tmp_path: Path
) -> None:
    client = ScriptedClient(*pieces(2, 4))
    client.free = 2
    client.gate.clear()
    flight, one, _ = await board(flights, client, cache=cache)
    _, two, _ = await board(flights, client)
    await one.begin()
    await one.aclose()
    await settled(flight)
    assert not client.closed.is_set()
    await two.aclose()
    async with asyncio.timeout(30):
        await client.closed.wait()
        await flight.done.wait()
    assert not flight.is_kept
    await cache.stats()
    assert list((tmp_path / "phrases").iterdir()) == []


async def test_who_leaves_before_it_starts_starts_nothing(flights: Flights) -> None:
    client = ScriptedClient(noise(1))
    flight, listener, _ = await board(flights, client)
    listener.leave()
    async with asyncio.timeout(30):
        await flight.done.wait()
    assert client.sent == 0


async def test_what_is_complete_is_kept_though_its_listener_is_gone(
    flights: Flights, cache: PhraseCache
) -> None:
    client = ScriptedClient(noise(1))
    flight, listener, _ = await board(flights, client, cache=cache)
    await heard(listener)
    async with asyncio.timeout(30):
        await flight.done.wait()
    assert flight.is_kept
    assert await cache.lookup(key())


async def test_what_came_too_late_still_reaches_the_cache(
    flights: Flights, cache: PhraseCache
) -> None:
    client = ScriptedClient(*pieces(5, 20))
    client.gate.clear()
    flight, listener, _ = await board(flights, client, cache=cache)
    await settled(flight)
    listener.leave(was_late=True)
    client.gate.set()
    async with asyncio.timeout(30):
        await flight.done.wait()
    assert flight.is_kept
    entry = await cache.lookup(key())
    assert entry is not None
    assert await heard(entry.chunks()) == sound_of(client)


async def test_what_only_the_cache_waits_for_gives_way(
    flights: Flights, cache: PhraseCache
) -> None:
    late, wanted = ScriptedClient(*pieces(5, 20)), ScriptedClient(noise(1))
    late.gate.clear()
    flight, listener, _ = await board(flights, late, cache=cache)
    await settled(flight)
    listener.leave(was_late=True)
    _, other, _ = await board(flights, wanted, "b")
    async with asyncio.timeout(30):
        await late.closed.wait()
        await flight.done.wait()
    assert not flight.is_kept
    assert await heard(other) == sound_of(wanted)


async def test_what_came_too_late_can_be_joined_again(flights: Flights, cache: PhraseCache) -> None:
    client = ScriptedClient(*pieces(1, 4))
    client.gate.clear()
    flight, listener, _ = await board(flights, client, cache=cache)
    await settled(flight)
    listener.leave(was_late=True)
    _, again, is_new = await board(flights, client)
    client.gate.set()
    assert not is_new
    assert await heard(again) == sound_of(client)


async def test_generations_end_with_the_place_where_they_run() -> None:
    flights = Flights()
    client = ScriptedClient(*pieces(2, 4))
    client.free = 1
    client.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(flights.run())
        _, listener, _ = await board(flights, client)
        await listener.asend(None)
        running.cancel()
    assert client.closed.is_set()
    with pytest.raises(ServiceUnavailableError):
        await listener.asend(None)


async def test_what_is_complete_is_shared_while_the_cache_takes_it_in(
    flights: Flights, cache: PhraseCache
) -> None:
    disk = threading.Event()
    cache._writer.post(disk.wait)
    client = ScriptedClient(noise(1))
    flight, listener, _ = await board(flights, client, cache=cache)
    assert await heard(listener) == sound_of(client)
    _, again, is_new = await board(flights, client, cache=cache)
    assert not is_new
    assert await heard(again) == sound_of(client)
    disk.set()
    async with asyncio.timeout(30):
        await flight.done.wait()
    assert flight.is_kept
