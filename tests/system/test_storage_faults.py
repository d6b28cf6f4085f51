"""Faults of the disk under a running bridge: what is heard, and what becomes of the rest."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, Caller, Daemon, eventually, loud
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard
from tests.slow_disk import SlowDisk
from tests.small_disk import NoSmallDiskError, SmallDisk, small_disk

LONG = " ".join(["This goes on and on."] * 4)
DISK_MB = 48
"""The cache leaves 32 MB of every disk to others."""
NOBODY = 65_534


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", DISK_MB) as mounted:
            yield mounted
    except NoSmallDiskError as error:
        pytest.skip(f"mounting a small disk is not allowed here: {error}")


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# --- 28: full -------------------------------------------------------------------------------


async def test_on_a_disk_full_at_the_start_everything_is_heard_and_kept_once_there_is_space(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    engine = Recital(0.3, **{LONG: 7.0})
    disk.fill_up()
    async with serving(engine) as gateway:
        settings = loud(disk.folder, broker.port, gateway.url)
        async with Daemon(tmp_path, settings):
            await caller.state(state="idle")
            names = ["One", "Two", "One again"]
            for name in names:
                await caller.say({"text": name, "id": name})
            assert await caller.outcomes(3) == dict.fromkeys(names, "finished")
            disk.give_back()
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Kept", "id": "kept"})
            await until_stored(disk.folder, "kept")
            assert await caller.outcomes(2) == {"long": "finished", "kept": "finished"}
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == [*names, LONG, "Kept"]


async def test_a_disk_that_fills_up_costs_no_announcement_not_even_over_a_kill(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    """New phrases, new rows and the removal of rows, all without space; then space again."""
    engine = Recital(0.3, **{LONG: 4.0})
    waiting = [f"Waiting {number}" for number in range(6)]
    async with serving(engine) as gateway:
        settings = loud(disk.folder, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await until_cached(disk.folder, 1)
        disk.fill_up()
        await caller.say({"text": "New", "id": "new"})
        await caller.event("finished", "new")
        assert await said_one_by_one(caller, ["Known before"], "again") == ["cache"]
        disk.give_back()
        assert await said_one_by_one(caller, ["New"], "again") == ["cloud"]
        await until_cached(disk.folder, 2)
        assert await said_one_by_one(caller, ["New"], "at last") == ["cache"]
        disk.fill_up()
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        for name in waiting:
            await caller.say({"text": name, "id": name})
        # The reserve takes some of them.
        await until_stored(disk.folder, waiting[-1])
        await caller.event("finished", waiting[0])
        await daemon.end(signal.SIGKILL)
        begun = {event["id"] for event in caller.events if event["event_type"] == "started"}
        ended = {event["id"] for event in caller.events if event["event_type"] == "finished"}
        async with daemon:
            left = [name for name in waiting if name not in ended]
            assert await caller.outcomes(len(left)) == dict.fromkeys(left, "finished")
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert stored_entries(disk.folder / "queue.db") == []
    heard = engine.heard_in(card.heard())
    whole = [h.text for h in heard if h.part == 1.0]
    assert whole[:6] == ["Known before", "New", "Known before", "New", "New", LONG]
    said = whole[6:]
    assert list(dict.fromkeys(said)) == waiting
    # Only what was being said when it died, or had just been, may come again.
    assert len(said) - len(waiting) <= len(begun - ended - {"long"}) + 1


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
    engine = Recital(0.2)
    names = [f"Phrase {harm.__name__}" for harm in HARMS]
    swapped = ["The fire brigade comes", "The postman comes"]
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


@pytest.mark.parametrize("name", ["queue.db", "cache/cache.db"])
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
async def test_a_database_that_cannot_be_used_never_keeps_it_from_speaking(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    name: str,
    harm: Callable[[Path], None],
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
        for log in tmp_path.glob(f"{name}-*"):
            log.unlink()
        harm(tmp_path / name)
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


# --- 32: not to be written ------------------------------------------------------------------


async def test_on_a_read_only_disk_what_was_left_is_heard_once_and_everything_new(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    engine = Recital(0.3, **{LONG: 6.0})
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, loud(disk.folder, broker.port, gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Left over", "id": "left"}, qos=0)
        await until_stored(disk.folder, "left")
        await daemon.end(signal.SIGKILL)
        disk.remount("ro")
        async with daemon:
            assert await caller.outcomes(2) == {"left": "finished", "long": "finished"}
            for text in ("Known before", "New"):
                await caller.say({"text": text, "id": f"{text} again"})
                await caller.event("finished", f"{text} again")
            disk.remount("rw")
            # What could not be removed is, now that it can.
            await eventually(lambda: stored_entries(disk.folder / "queue.db") == [])
        assert held_by_broker(broker.port, CLIENT_ID) == []
        async with daemon:
            await caller.say({"text": "At last", "id": "last"})
            await caller.event("finished", "last")
    whole = [h.text for h in engine.heard_in(card.heard()) if h.part == 1.0]
    assert sorted(whole[1:3]) == sorted(["Left over", LONG])
    assert whole[:1] + whole[3:] == ["Known before", "Known before", "New", "At last"]


async def test_without_permission_to_write_it_speaks_and_keeps_what_it_can_once_it_may(
    broker: Mosquitto, caller: Caller, simcard_library: Path, others_folder: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("to become somebody else takes root")
    folder = others_folder / "state"
    folder.mkdir(mode=0o755)
    library = others_folder / simcard_library.name
    library.write_bytes(simcard_library.read_bytes())
    library.chmod(0o755)
    card = SimCard(others_folder / "card", library)
    card.out.parent.chmod(0o777)
    engine = Recital(0.3, **{LONG: 8.0})
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    async with serving(engine) as gateway:
        settings = loud(folder, broker.port, gateway.url)
        daemon = Daemon(
            others_folder / "daemon", settings, environment=card.environment(), through=become
        )
        async with daemon:
            await caller.state(state="idle")
            for name in ("One", "Two"):
                await caller.say({"text": name, "id": name})
            assert await caller.outcomes(2) == {"One": "finished", "Two": "finished"}
            folder.chmod(0o777)
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Kept", "id": "kept"})
            await until_stored(folder, "kept")
            folder.chmod(0o700)  # and root's: the folder is closed under it
            assert await caller.outcomes(2) == {"long": "finished", "kept": "finished"}
            await caller.say({"text": "Three", "id": "three"})
            await caller.event("finished", "three")
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert "Traceback" not in daemon.log
    assert engine.whole(card.heard()) == ["One", "Two", LONG, "Kept", "Three"]


# --- 33: slow -------------------------------------------------------------------------------


async def test_a_disk_that_takes_two_seconds_for_a_sync_delays_no_first_sound(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, slow = Recital(0.3), SlowDisk(tmp_path / "slow", sync_s=2.0)
    names = ["One", "Two", "Three", "One"]
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, environment=slow.environment()):
            await caller.state(state="idle")
            for number, name in enumerate(names):
                await caller.say({"text": name, "id": f"{number}"})
                finished = await caller.event("finished", f"{number}")
                # A single sync on the way would make it more than two.
                assert finished["first_sound_ms"] < 1_500
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == names


async def test_while_the_disk_hangs_everything_is_heard_and_the_end_comes_when_told(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, slow = Recital(0.3, **{LONG: 3.0}), SlowDisk(tmp_path / "slow")
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings, environment=slow.environment())
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await until_cached(tmp_path, 1)
        slow.hang()
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Known before", "id": "again"})
        await caller.say({"text": "New", "id": "new"})
        # Its row was to be written when it had waited for 1.5 s.
        ends = await caller.outcomes(3)
        assert ends == dict.fromkeys(("long", "again", "new"), "finished")
        await caller.say({"text": LONG, "id": "cut"})
        await caller.event("started", "cut")
        assert await daemon.end() == 0
        slow.heal()
        async with daemon:
            await caller.event("finished", "cut")
        assert held_by_broker(broker.port, CLIENT_ID) == []
    whole = [h.text for h in engine.heard_in(card.heard()) if h.part == 1.0]
    assert whole[:4] == ["Known before", LONG, "Known before", "New"]
    assert set(whole[4:]) <= {LONG}


# --- what they share ------------------------------------------------------------------------


async def said_one_by_one(caller: Caller, texts: list[str], turn: str) -> list[str]:
    """Have each said in its turn; where each came from."""
    sources = []
    for text in texts:
        await caller.say({"text": text, "id": f"{text}, {turn}"})
        sources.append((await caller.event("finished", f"{text}, {turn}"))["source"])
    return sources


def phrases_in(folder: Path) -> list[Path]:
    """The files of the cache that hold a phrase, whole."""
    return [file for file in (folder / "cache" / "phrases").glob("*.pcm") if file.is_file()]


def file_of(folder: Path, engine: Recital, text: str) -> Path:
    """The cache's file for a text."""
    (file,) = (f for f in phrases_in(folder) if f.read_bytes().endswith(engine.sound(text)))
    return file


async def until_cached(folder: Path, count: int) -> None:
    """Return when so many phrases are in the index."""

    def are_there() -> bool:
        uri = f"file:{folder / 'cache' / 'cache.db'}?mode=ro"
        index = sqlite3.connect(uri, uri=True)
        try:
            rows = index.execute("SELECT count(*) FROM Cache WHERE filename IS NOT NULL")
            return bool(rows.fetchone()[0] >= count)
        except sqlite3.Error:
            return False
        finally:
            index.close()

    await eventually(are_there)


async def until_stored(folder: Path, announcement_id: str) -> None:
    """Return when the announcement has a row."""
    path = folder / "queue.db"

    def is_there() -> bool:
        try:
            rows = stored_entries(path)
        except StorageError:  # it has no tables yet
            return False
        return announcement_id in {entry.announcement.id for entry in rows}

    await eventually(is_there)
