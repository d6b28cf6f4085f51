"""Files of the bridge that are damaged, replaced or locked: it speaks, and says the right words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, Caller, Daemon, loud
from tests.kept import phrases_in, until_cached
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard

LONG = " ".join(["This goes on and on."] * 4)


# --- 29: broken files of the cache ----------------------------------------------------------


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def with_a_flipped_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 4
    file.write_bytes(data)


def deleted(file: Path) -> None:
    file.unlink()


def made_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def made_a_link(file: Path) -> None:
    moved = file.with_name("moved")
    file.rename(moved)
    file.symlink_to(moved)


def made_a_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


HARMS = [truncated, emptied, with_a_flipped_bit, deleted, made_a_folder, made_a_link, made_a_fifo]


@pytest.mark.parametrize("restarted", [False, True])
async def test_of_broken_files_in_the_cache_nothing_is_heard_but_the_right_words(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, restarted: bool
) -> None:
    engine = Recital(0.3)
    names = [f"Phrase {number}" for number, _ in enumerate(HARMS)]
    swapped = ["Fire", "Mail"]
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        sources = await said_one_by_one(caller, [*names, *swapped], "first")
        assert set(sources) == {"cloud"}
        await until_cached(tmp_path, len(sources))
        if restarted:
            await daemon.end()
        for name, harm in zip(names, HARMS, strict=True):
            harm(file_of(tmp_path, engine, name))
        one, other = (file_of(tmp_path, engine, name) for name in swapped)
        one.write_bytes(other.read_bytes())
        if restarted:
            await daemon.start()
            await caller.state(state="idle")
        again = await said_one_by_one(caller, [*names, *swapped], "second")
        assert again == ["cloud"] * len(names) + ["cloud", "cache"]
        await until_cached(tmp_path, len(sources))
        third = await said_one_by_one(caller, [*names, *swapped], "third")
        assert set(third) == {"cache"}
        await daemon.end()
    assert engine.whole(card.heard()) == [*names, *swapped] * 3


# --- 30: databases --------------------------------------------------------------------------


def filled_with_noise(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + os.urandom(8_000))


def filled_with_text(file: Path) -> None:
    file.write_text("not a database at all " * 500)


def of_a_newer_version(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def made_a_folder_of_files(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").write_text("x")


@pytest.mark.parametrize(
    "harm",
    [
        filled_with_noise,
        filled_with_text,
        emptied,
        of_a_newer_version,
        deleted,
        made_a_fifo,
        made_a_folder_of_files,
    ],
)
async def test_databases_that_cannot_be_used_never_keep_it_from_speaking(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    engine = Recital(0.3)
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Before", "id": "before"})
        await caller.event("finished", "before")
        await until_cached(tmp_path, 1)
        await daemon.end()
        for database in (tmp_path / "queue.db", tmp_path / "cache" / "cache.db"):
            for log in database.parent.glob(f"{database.name}-*"):
                log.unlink()
            harm(database)
        async with daemon:
            await caller.state(state="idle")
            for text in ("Before", "After"):
                await caller.say({"text": text, "id": f"{text} again"})
                await caller.event("finished", f"{text} again")
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == ["Before", "Before", "After"]


async def test_databases_locked_by_another_program_delay_nothing_and_are_used_when_free(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.3, **{LONG: 4.0})
    async with serving(engine) as gateway:
        async with Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)):
            await caller.state(state="idle")
            await caller.say({"text": "Before", "id": "before"})
            await caller.event("finished", "before")
            await until_cached(tmp_path, 1)
            others = [
                sqlite3.connect(tmp_path / name, isolation_level=None)
                for name in ("queue.db", "cache/cache.db")
            ]
            for other in others:
                other.execute("BEGIN EXCLUSIVE")
            await caller.say({"text": "Before", "id": "again"})
            await caller.event("finished", "again")
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Waits", "id": "waits"})
            assert await caller.outcomes(2) == {"long": "finished", "waits": "finished"}
            for other in others:
                other.execute("ROLLBACK")
                other.close()
            await caller.say({"text": "After", "id": "after"})
            await caller.event("finished", "after")
            await until_cached(tmp_path, 2)
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert stored_entries(tmp_path / "queue.db") == []
    assert engine.whole(card.heard()) == ["Before", "Before", LONG, "Waits", "After"]


async def said_one_by_one(caller: Caller, texts: list[str], turn: str) -> list[str]:
    """Have each said in its turn; where each came from."""
    sources = []
    for text in texts:
        await caller.say({"text": text, "id": f"{text}, {turn}"})
        sources.append((await caller.event("finished", f"{text}, {turn}"))["source"])
    return sources


def file_of(folder: Path, engine: Recital, text: str) -> Path:
    """The cache's file for a text."""
    (file,) = (f for f in phrases_in(folder) if f.read_bytes().endswith(engine.sound(text)))
    return file
