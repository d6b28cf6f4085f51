"""What a disk, another process or an intruder can do to the cache: it is a miss, never worse."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import diskcache
import pytest

from kugel_bridge.speech import cache as cache_module
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.phrase import PhraseKey
from tests.open_files import open_files
from tests.speech.sounds import heard, key, noise, until

MB = 1_000_000
SOUND = noise(1)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PhraseCache]:
    """A cache that keeps house, with one phrase in it."""
    cache = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=0, lookup_timeout_s=5, reopen_s=0.05)
    await cache.open()
    assert await keep(cache, key())
    async with asyncio.TaskGroup() as tasks:
        house = tasks.create_task(cache.run())
        yield cache
        house.cancel()
    await cache.close()


async def keep(cache: PhraseCache, phrase: PhraseKey) -> bool:
    recording = cache.begin(phrase)
    if recording is None:
        return False
    recording.add(SOUND)
    return await recording.commit()


async def is_found(cache: PhraseCache, phrase: PhraseKey) -> bool:
    entry = await cache.lookup(phrase)
    return entry is not None and await heard(entry.chunks()) == SOUND.data


def file_in(path: Path) -> Path:
    (file,) = (path / "phrases").iterdir()
    return file


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def extended(file: Path) -> None:
    with file.open("ab") as out:
        out.write(b"\0\0")


def flipped_in_sound(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)


def flipped_in_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)


def deleted(file: Path) -> None:
    file.unlink()


def made_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def made_a_full_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").write_text("x")


def made_a_link(file: Path) -> None:
    moved = file.parent.parent / "elsewhere"
    file.rename(moved)
    file.symlink_to(moved)


def made_a_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def made_a_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def made_huge(file: Path) -> None:
    os.truncate(file, 1 << 40)


@pytest.mark.parametrize(
    "harm",
    [
        truncated,
        emptied,
        extended,
        flipped_in_sound,
        flipped_in_header,
        deleted,
        made_a_folder,
        made_a_full_folder,
        made_a_link,
        made_a_fifo,
        made_a_device,
        made_huge,
    ],
)
async def test_a_broken_entry_is_a_miss_and_is_made_again(
    cache: PhraseCache, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(file_in(tmp_path))
    assert await cache.lookup(key()) is None
    assert await cache.entries() == []
    assert await keep(cache, key())
    assert await is_found(cache, key())


async def test_an_error_without_a_name_is_a_miss(
    cache: PhraseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("made by the module, not by SQLite")

    with monkeypatch.context() as while_it_fails:
        while_it_fails.setattr(diskcache.Cache, "get", fail)
        assert await cache.lookup(key()) is None
    await until(lambda: is_found(cache, key()))


async def test_the_sound_of_another_phrase_is_not_played(
    cache: PhraseCache, tmp_path: Path
) -> None:
    file = file_in(tmp_path)
    other = key("Ein anderer Satz.")
    assert await keep(cache, other)
    (theirs,) = (f for f in (tmp_path / "phrases").iterdir() if f != file)
    theirs.write_bytes(file.read_bytes())
    assert await cache.lookup(other) is None
    assert await is_found(cache, key())


async def test_a_shortage_of_descriptors_costs_no_entry(
    cache: PhraseCache,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert await cache.lookup(key()) is None
        assert not await keep(cache, key("Ein neuer Satz."))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: is_found(cache, key()))
    assert await keep(cache, key("Ein neuer Satz."))


async def test_a_file_cut_while_it_is_played_harms_nobody(
    cache: PhraseCache, tmp_path: Path
) -> None:
    entry = await cache.lookup(key())
    assert entry is not None
    emptied(file_in(tmp_path))
    assert await heard(entry.chunks()) == SOUND.data


class Bomb:
    """Does harm when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


async def test_a_pickle_in_the_index_is_never_read(cache: PhraseCache, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "boom"))
    stuck = tmp_path / "phrases" / "bomb.val"
    stuck.write_bytes(bomb)
    with sqlite3.connect(tmp_path / "cache.db") as index:
        index.execute("UPDATE Cache SET mode=4, filename=NULL, value=?", (bomb,))
        rows = [(bomb, 0, 4, None, bomb), (key("x").digest, 1, 4, "phrases/bomb.val", None)]
        rows += [("pin:" + key("x").digest, 1, 4, None, bomb), ("totals", 1, 4, None, bomb)]
        index.executemany(
            "INSERT INTO Cache (key, raw, mode, filename, value) VALUES (?, ?, ?, ?, ?)", rows
        )
    index.close()
    assert await cache.lookup(key()) is None
    assert await cache.lookup(key("x")) is None
    await cache.entries()
    await cache.stats()
    await cache.flush()
    assert await cache.purge(pinned=True) == 0
    assert await keep(cache, key())
    assert await is_found(cache, key())
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "phrases/../../secret", "x.pcm", "secret\0", ""]
)
async def test_a_file_name_in_the_index_leads_nowhere_else(
    cache: PhraseCache, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with sqlite3.connect(tmp_path / "cache.db") as index:
        index.execute("UPDATE Cache SET filename=?", (name,))
    index.close()
    assert await cache.lookup(key()) is None
    await cache.purge(pinned=True)
    assert await keep(cache, key())
    assert secret.read_text() == "secret"


def noise_in_index(path: Path) -> None:
    (path / "cache.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)


def text_in_index(path: Path) -> None:
    (path / "cache.db").write_text("not a database at all " * 500)


def empty_index(path: Path) -> None:
    (path / "cache.db").write_bytes(b"")


def folder_as_index(path: Path) -> None:
    (path / "cache.db").unlink()
    (path / "cache.db").mkdir()


def fifo_as_index(path: Path) -> None:
    (path / "cache.db").unlink()
    os.mkfifo(path / "cache.db")


def another_schema(path: Path) -> None:
    (path / "cache.db").unlink()
    with sqlite3.connect(path / "cache.db") as index:
        index.execute("CREATE TABLE Cache (key, something)")
        index.execute("CREATE TABLE Settings (key, value)")
    index.close()


def hostile_settings(path: Path) -> None:
    with sqlite3.connect(path / "cache.db") as index:
        index.execute("INSERT INTO Settings VALUES ('close', 1)")
        index.execute("INSERT INTO Settings VALUES ('sqlite_writable_schema', 1)")
    index.close()


@pytest.mark.parametrize(
    "harm",
    [
        noise_in_index,
        text_in_index,
        empty_index,
        folder_as_index,
        fifo_as_index,
        another_schema,
        hostile_settings,
    ],
)
async def test_a_damaged_index_is_moved_aside_at_the_start(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    cache = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    assert await keep(cache, key())
    await cache.close()
    harm(tmp_path)
    cache = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    assert cache.problem == ""
    assert await cache.lookup(key()) is None
    assert await keep(cache, key())
    assert await is_found(cache, key())
    await cache.close()


async def test_an_index_damaged_while_in_use_is_replaced(
    cache: PhraseCache, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "cache.db") as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        index.execute("DROP TABLE Cache")
    index.close()
    assert await cache.lookup(key()) is None

    async def works() -> bool:
        return await keep(cache, key()) and await is_found(cache, key())

    await until(works)
    assert cache.problem == ""


async def test_a_folder_deleted_under_it_comes_back(cache: PhraseCache, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "phrases")
    (tmp_path / "cache.db").unlink()
    assert await cache.lookup(key()) is None

    async def works() -> bool:
        return await keep(cache, key()) and await is_found(cache, key())

    await until(works)


async def test_an_index_locked_by_another_process_is_no_cache_for_now(
    cache: PhraseCache, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not await keep(cache, key("Ein neuer Satz."))
    assert cache.problem
    assert await is_found(cache, key())
    other.execute("ROLLBACK")
    other.close()
    assert await keep(cache, key("Ein neuer Satz."))
    assert cache.problem == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("mounting a small disk takes root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def filled(path: Path) -> Path:
    filler = path / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                continue
    return filler


async def test_a_full_disk_means_no_cache_until_there_is_space(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PhraseCache(small_disk, 100 * MB, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    assert await keep(cache, key())
    filler = filled(small_disk)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            assert not await keep(cache, key(f"Satz Nummer {number}"))
    assert len([r for r in caplog.records if r.name.startswith("kugel_bridge")]) == 1
    assert cache.problem.startswith(f"no space left for {small_disk}; free some, or set cache.dir")
    assert await is_found(cache, key())
    filler.unlink()
    assert await keep(cache, key("Satz Nummer 1"))
    assert cache.problem == ""
    assert await is_found(cache, key("Satz Nummer 1"))
    assert not [f for f in (small_disk / "phrases").iterdir() if f.suffix == ".part"]
    await cache.close()


async def test_a_disk_full_at_the_start_is_no_cache_until_there_is_space(
    small_disk: Path,
) -> None:
    filler = filled(small_disk)
    cache = PhraseCache(small_disk, 100 * MB, keep_free_bytes=0, lookup_timeout_s=5, reopen_s=0.05)
    await cache.open()
    assert cache.problem
    assert await cache.lookup(key()) is None
    async with asyncio.TaskGroup() as tasks:
        house = tasks.create_task(cache.run())
        filler.unlink()

        async def works() -> bool:
            return await keep(cache, key()) and await is_found(cache, key())

        await until(works)
        house.cancel()
    await cache.close()


async def test_the_last_of_a_disk_is_left_to_others(tmp_path: Path) -> None:
    cache = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=1 << 60)
    await cache.open()
    assert not await keep(cache, key())
    assert cache.problem.startswith(f"no space left for {tmp_path}; free some, or set cache.dir")
    await cache.close()


async def test_a_path_that_can_be_no_folder_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = PhraseCache(tmp_path / "file" / "cache", MB)
    await cache.open()
    assert cache.problem
    assert await cache.lookup(key()) is None
    assert not await keep(cache, key())
    await cache.close()


async def test_a_hanging_disk_delays_nobody(cache: PhraseCache, tmp_path: Path) -> None:
    quick = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=0, lookup_timeout_s=0.1)
    await quick.open()
    stuck = threading.Event()
    # Nothing in a temporary folder hangs, so the thread that reads is held instead.
    quick._reader.post(stuck.wait)
    async with asyncio.timeout(30):
        for _ in range(20):
            assert await quick.lookup(key()) is None
    assert quick.problem
    stuck.set()

    async def works() -> bool:
        return await is_found(quick, key())

    await until(works)
    assert quick.problem == ""
    await quick.close()


async def test_an_index_that_opens_when_nobody_waits_any_more_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "OPEN_WAIT_S", 0.05)
    stuck = threading.Event()
    slow = PhraseCache(tmp_path / "slow", 10 * MB, keep_free_bytes=0)
    before = open_files()
    slow._writer.post(stuck.wait)
    await slow.open()
    assert slow.problem
    stuck.set()
    await slow.close()
    assert (tmp_path / "slow" / "cache.db").exists()
    assert open_files() <= before


async def test_sound_that_waits_too_long_for_a_disk_is_let_go(
    cache: PhraseCache, tmp_path: Path
) -> None:
    stuck = threading.Event()
    cache._writer.post(stuck.wait)
    recording = cache.begin(key("Ein sehr langer Satz."))
    assert recording is not None
    long = noise(10)
    for _ in range(30):
        recording.add(long)
    stuck.set()
    assert not await recording.commit()
    await cache.stats()
    assert not [f for f in (tmp_path / "phrases").iterdir() if f.suffix == ".part"]


async def test_killed_in_mid_write_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        from pathlib import Path
        from kugel_bridge.speech.cache import PhraseCache
        from tests.speech.sounds import key, noise

        async def main():
            cache = PhraseCache(Path({str(tmp_path)!r}), 10_000_000, keep_free_bytes=0)
            await cache.open()
            number = 0
            while True:
                recording = cache.begin(key(f"Satz Nummer {{number % 20}}"))
                for piece in range(4):
                    recording.add(noise(0.4, piece))
                    await asyncio.sleep(0)
                await recording.commit()
                number += 1
                print(number, flush=True)

        asyncio.run(main())
        """
    )
    for turn in range(4):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert child.stdout is not None
        for _ in range(3 + turn * 5):
            await child.stdout.readline()
        child.kill()
        await child.communicate()
    cache = PhraseCache(tmp_path, 10 * MB, keep_free_bytes=0, lookup_timeout_s=5)
    await cache.open()
    assert cache.problem == ""
    expected = b"".join(bytes(noise(0.4, piece).data) for piece in range(4))
    served = 0
    for number in range(20):
        entry = await cache.lookup(key(f"Satz Nummer {number}"))
        if entry is not None:
            served += 1
            assert await heard(entry.chunks()) == expected
    assert served
    await cache.close()
