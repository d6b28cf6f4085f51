from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.speech.cache import Admit, PhraseCache
from kugel_bridge.speech.phrase import PhraseKey
from tests.speech.sounds import heard, key, noise, pieces, until

MB = 1_000_000


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PhraseCache]:
    async with opened(tmp_path) as cache:
        yield cache


class opened:  # noqa: N801 - reads as a word
    """A cache, open inside the block."""

    def __init__(self, path: Path, max_bytes: int = 10 * MB, admit: Admit = Admit.ALWAYS) -> None:
        self.cache = PhraseCache(path, max_bytes, admit, keep_free_bytes=0, lookup_timeout_s=10)

    async def __aenter__(self) -> PhraseCache:
        await self.cache.open()
        assert self.cache.problem == ""
        return self.cache

    async def __aexit__(self, *_: object) -> None:
        await self.cache.close()


async def keep(cache: PhraseCache, phrase: PhraseKey, chunks: list[PcmChunk]) -> bool:
    recording = cache.begin(phrase)
    assert recording is not None
    for chunk in chunks:
        recording.add(chunk)
    return await recording.commit()


async def found(cache: PhraseCache, phrase: PhraseKey) -> bytes | None:
    entry = await cache.lookup(phrase)
    return None if entry is None else await heard(entry.chunks())


async def test_a_phrase_comes_back_as_it_was_said(cache: PhraseCache) -> None:
    sound = pieces(2.0, 7)
    assert await found(cache, key()) is None
    assert await keep(cache, key(), sound)
    entry = await cache.lookup(key())
    assert entry is not None
    assert entry.format == SPEECH_FORMAT
    assert entry.seconds == pytest.approx(2.0, abs=0.001)
    assert await heard(entry.chunks()) == b"".join(bytes(c.data) for c in sound)
    assert await found(cache, key("anders")) is None


async def test_a_phrase_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        assert await keep(cache, key(), [noise(1)])
    async with opened(tmp_path) as cache:
        assert await found(cache, key()) == noise(1).data


async def test_other_formats_are_kept_too(cache: PhraseCache) -> None:
    chunk = PcmChunk(PcmFormat(8_000, 2, 2), noise(1.5).data[: 32_000 * 2])
    assert await keep(cache, key(), [chunk])
    entry = await cache.lookup(key())
    assert entry is not None
    assert entry.format == chunk.format


async def test_nothing_is_found_of_what_was_not_completed(
    cache: PhraseCache, tmp_path: Path
) -> None:
    recording = cache.begin(key())
    assert recording is not None
    recording.add(noise(1))
    assert await found(cache, key()) is None
    recording.abort()
    assert not await recording.commit()
    assert await found(cache, key()) is None
    await cache.stats()
    assert list((tmp_path / "phrases").iterdir()) == []


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([], "empty"),
        ([SPEECH_FORMAT.silence(2)], "silent"),
        ([noise(0.1)], "too short for its text"),
        ([noise(60)], "too long for its text"),
        ([noise(1), PcmChunk(PcmFormat(8_000), noise(1).data)], "changes its format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_implausible_sound_is_not_kept(
    cache: PhraseCache, tmp_path: Path, chunks: list[PcmChunk], why: str
) -> None:
    assert not await keep(cache, key(), chunks)
    assert await found(cache, key()) is None
    assert list((tmp_path / "phrases").iterdir()) == []


async def test_a_phrase_made_anew_replaces_the_old_one(cache: PhraseCache, tmp_path: Path) -> None:
    assert await keep(cache, key(), [noise(1, 1)])
    old = await cache.lookup(key())
    assert old is not None
    assert await keep(cache, key(), [noise(1, 2)])
    assert await found(cache, key()) == noise(1, 2).data
    assert await heard(old.chunks()) == noise(1, 1).data
    assert len(list((tmp_path / "phrases").iterdir())) == 1


async def test_on_second_use_the_first_writes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, admit=Admit.SECOND_USE) as cache:
        assert cache.begin(key()) is None
        assert cache.begin(key("anders")) is None
        assert await keep(cache, key(), [noise(1)])
        forced = cache.begin(key("drittes"), force=True)
        assert forced is not None
        forced.abort()


async def test_the_least_used_goes_first_and_pinned_stays(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=600_000) as cache:
        for number in range(8):
            assert await keep(cache, key(f"Satz {number}"), [noise(1, number)])
        assert await cache.pin(key("Satz 0").digest)
        for _ in range(2):
            assert await found(cache, key("Satz 1"))
        for number in range(8, 24):
            assert await keep(cache, key(f"Satz {number}"), [noise(1, number)])
        texts = {entry.text for entry in await cache.entries()}
        assert {"Satz 0", "Satz 1", "Satz 23"} <= texts
        assert "Satz 2" not in texts
        stats = await cache.stats()
        assert stats.bytes <= 600_000
        assert len(list((tmp_path / "phrases").iterdir())) == len(texts)


async def test_a_cache_full_of_pinned_phrases_takes_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=300_000) as cache:
        for number in range(20):
            if not await keep(cache, key(f"Satz {number}"), [noise(1, number)]):
                break
            await cache.pin(key(f"Satz {number}").digest)
        assert 0 < number < 19
        assert await found(cache, key("Satz 0"))
        assert cache.problem == ""
        assert len(list((tmp_path / "phrases").iterdir())) == number


async def test_a_hit_writes_nothing(cache: PhraseCache, tmp_path: Path) -> None:
    assert await keep(cache, key(), [noise(1)])

    def state() -> list[tuple[str, int, int, bytes]]:
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        return [
            (f.name, f.stat().st_mtime_ns, f.stat().st_size, f.read_bytes())
            for f in files
            if not f.name.endswith("-shm")
        ]

    written = (await cache.stats()).bytes_written
    before = state()
    for _ in range(50):
        assert await found(cache, key())
    assert state() == before
    assert (await cache.stats()).bytes_written == written


async def test_uses_are_written_down_when_it_closes(tmp_path: Path) -> None:
    for hits in (2, 5):
        async with opened(tmp_path) as cache:
            if not await cache.contains(key()):
                assert await keep(cache, key(), [noise(1)])
            while (await cache.entries())[0].hits < hits:
                assert await found(cache, key())
            await found(cache, key("fehlt"))
    async with opened(tmp_path) as cache:
        stats = await cache.stats()
        assert (stats.entries, stats.hits, stats.misses) == (1, 5, 2)
        assert stats.phrases_written == 1
        assert stats.bytes_written > len(noise(1).data)
        (entry,) = await cache.entries()
        assert entry.hits == 5


async def test_people_can_look_into_it(cache: PhraseCache) -> None:
    assert await keep(cache, key(), [noise(1.5)])
    assert await keep(cache, key("Zweiter Satz"), [noise(1)])
    (entry,) = await cache.show(key().digest[:8])
    assert entry.text == key().text
    assert (entry.language, entry.voice, entry.model, entry.source) == (
        "de",
        "1",
        "kugel-3.5",
        "test",
    )
    assert entry.seconds == pytest.approx(1.5, abs=0.01)
    assert entry.bytes > 72_000
    assert entry.stored_s > 1e9
    assert not entry.pinned
    assert len(await cache.entries()) == 2


async def test_purging_spares_what_is_pinned(cache: PhraseCache, tmp_path: Path) -> None:
    for number in range(4):
        assert await keep(cache, key(f"Satz {number}"), [noise(1)])
    assert await cache.pin(key("Satz 0").digest)
    assert await cache.purge(key("Satz 1").digest) == 1
    assert await cache.purge(key("Satz 1").digest) == 0
    assert await cache.purge() == 2
    assert [entry.text for entry in await cache.entries()] == ["Satz 0"]
    assert await cache.unpin(key("Satz 0").digest)
    assert not await cache.unpin(key("Satz 0").digest)
    assert await cache.purge() == 1
    assert list((tmp_path / "phrases").iterdir()) == []
    assert not await cache.pin(key("Satz 0").digest)


@pytest.mark.parametrize("digest", ["", "x", "../../etc/passwd", "pin:" + "a" * 60, "A" * 64])
async def test_a_key_that_is_none_is_refused(cache: PhraseCache, digest: str) -> None:
    with pytest.raises(StorageError):
        await cache.pin(digest)
    with pytest.raises(StorageError):
        await cache.purge(digest)


async def test_a_closed_cache_is_no_cache(tmp_path: Path) -> None:
    cache = PhraseCache(tmp_path, MB)
    assert await cache.lookup(key()) is None
    assert cache.begin(key()) is None
    assert not await cache.contains(key())
    with pytest.raises(StorageError):
        await cache.entries()
    assert (await cache.stats()).problem
    await cache.close()


async def test_two_processes_share_it(cache: PhraseCache, tmp_path: Path) -> None:
    async with opened(tmp_path) as other:
        assert await keep(other, key(), [noise(1)])
        assert await found(cache, key())
        assert await keep(cache, key("Zweiter Satz"), [noise(1, 2)])
        assert await found(other, key("Zweiter Satz"))
        both = await asyncio.gather(
            *(keep(c, key(f"Satz {n}"), [noise(1, n)]) for n in range(10) for c in (cache, other))
        )
        assert all(both)
        assert await cache.purge() == 12
        assert await found(other, key()) is None


async def test_a_lost_file_of_a_complete_phrase_is_found_again(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as cache:
        assert await keep(cache, key(), [noise(1)])
    for name in ("cache.db", "cache.db-wal", "cache.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (file,) = (tmp_path / "phrases").iterdir()
    ruin = file.with_name("ab" * 32 + "-00000000.pcm")
    ruin.write_bytes(file.read_bytes())
    for path in (file, ruin):
        os.utime(path, (1e9, 1e9))
    async with opened(tmp_path) as cache, asyncio.TaskGroup() as tasks:
        assert await cache.lookup(key()) is None
        house = tasks.create_task(cache.run())
        await until(lambda: cache.contains(key()))
        await until(lambda: not ruin.exists())
        house.cancel()
        assert await found(cache, key()) == noise(1).data
        assert (await cache.entries())[0].text == key().text


async def test_a_temporary_file_is_removed_when_its_writer_is_dead(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as cache, asyncio.TaskGroup() as tasks:
        live = cache.begin(key())
        assert live is not None
        live.add(noise(1))
        await cache.stats()
        (alive,) = (tmp_path / "phrases").iterdir()
        dead = alive.with_name("ab" * 32 + "-00000000.part")
        dead.write_bytes(b"x")
        for path in (alive, dead):
            os.utime(path, (1e9, 1e9))
        house = tasks.create_task(cache.run())
        await until(lambda: not dead.exists())
        house.cancel()
        assert await live.commit()


async def test_the_folders_are_nobody_elses_business(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cache"
    async with opened(path) as cache:
        assert await keep(cache, key(), [noise(1)])
        (file,) = (path / "phrases").iterdir()
        assert path.stat().st_mode & 0o077 == 0
        assert file.stat().st_mode & 0o077 == 0
