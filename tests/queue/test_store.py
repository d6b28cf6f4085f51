from __future__ import annotations

import asyncio
import datetime
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kugel_bridge.model.announcement import Priority
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import StorageError, UnstorableError
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.model.announcements import announcements
from tests.queue.entries import entry, finished

MONDAY = datetime.date(2027, 1, 11)
TUESDAY = datetime.date(2027, 1, 12)


async def loaded(path: Path, clock: ManualClock, boot: str = "first boot") -> list[Entry]:
    async with QueueStore(path, clock, boot_id=boot) as store:
        return store.entries()


# --- what waits ---------------------------------------------------------------------------


async def test_a_missing_folder_is_created_and_the_queue_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deep" / "queue.db"
    async with QueueStore(path, ManualClock()) as store:
        assert store.entries() == []
        assert store.next_sequence == 0
        assert store.problem == store.set_aside == ""
        await store.put(entry(1))
    assert path.exists()


async def test_entries_come_back_in_order_of_arrival(path: Path, clock: ManualClock) -> None:
    entries = [entry(3, priority=Priority.HIGH), entry(1), entry(2, zone="kitchen")]
    async with QueueStore(path, clock) as store:
        await store.put(entries)
    async with QueueStore(path, clock) as store:
        assert store.entries() == sorted(entries, key=lambda one: one.sequence)
        assert store.next_sequence == 4


async def test_a_put_is_on_disk_when_it_returns(path: Path, store: QueueStore) -> None:
    await store.put(entry(1))
    assert [one.sequence for one in stored_entries(path)] == [1]


async def test_the_same_entry_again_updates_its_row(path: Path, clock: ManualClock) -> None:
    first = entry(1)
    later = replace(first, attempts=2, retry_at_s=1_090.0, resume_at=17, reason="no network")
    async with QueueStore(path, clock, boot_id="b") as store:
        await store.put(first)
        await store.put(later)
        assert store.status.rows == 1
    assert await loaded(path, clock, "b") == [later]


async def test_one_announcement_waits_in_several_zones(path: Path, clock: ManualClock) -> None:
    hall, kitchen = entry(1, id="x", zone="hall"), entry(1, id="x", zone="kitchen")
    async with QueueStore(path, clock) as store:
        await store.put([hall, kitchen])
        store.end(finished(hall))
    assert await loaded(path, clock) == [kitchen]


async def test_what_ended_is_gone(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        await store.put([entry(1), entry(2)])
        store.end(finished(entry(1)))
    assert [one.sequence for one in await loaded(path, clock)] == [2]


async def test_an_end_right_behind_its_put_wins(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        done = store.put(entry(1))
        store.end(finished(entry(1)))
        await done
    assert await loaded(path, clock) == []


async def test_a_put_right_behind_an_end_of_the_same_id_stays(
    path: Path, clock: ManualClock
) -> None:
    async with QueueStore(path, clock) as store:
        await store.put(entry(1, id="x"))
        store.end(finished(entry(1, id="x")))
        await store.put(entry(2, id="x"))
    assert [one.sequence for one in await loaded(path, clock)] == [2]


async def test_many_puts_share_a_commit(store: QueueStore) -> None:
    puts = [store.put(entry(n)) for n in range(500)]
    await asyncio.gather(*puts)
    assert store.status.rows == 500
    assert store.status.commits < 50
    assert store.status.handed_over == 0
    assert store.status.bytes_written > 500 * 100


async def test_an_empty_put_is_done_at_once(store: QueueStore) -> None:
    await store.put([])
    assert store.status.commits == 0


async def test_giving_up_the_wait_does_not_take_the_row_back(
    path: Path, clock: ManualClock
) -> None:
    async with QueueStore(path, clock) as store:
        store.put(entry(1)).cancel()
        await store.put(entry(2))
    assert [one.sequence for one in await loaded(path, clock)] == [1, 2]


async def test_text_that_is_not_unicode_spoils_only_its_own_put(store: QueueStore) -> None:
    puts = [store.put(entry(1)), store.put(entry(2, tag="\ud800")), store.put(entry(3))]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), UnstorableError, type(None)]


async def test_a_number_too_large_for_a_row_harms_nobody_later(store: QueueStore) -> None:
    with pytest.raises(UnstorableError):
        await store.put(entry(2**80))
    await store.put(entry(1))


async def test_a_closed_store_refuses(path: Path, clock: ManualClock) -> None:
    store = QueueStore(path, clock)
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(StorageError, match="closed"):
        await store.put(entry(1))
    assert not await store.alive()


async def test_the_writer_answers(store: QueueStore) -> None:
    assert await store.alive()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_entry_reads_back_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    finite = st.floats(-1e9, 1e9)
    entries = data.draw(
        st.lists(
            st.builds(
                Entry,
                announcement=announcements,
                zone=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
                sequence=st.integers(0, 2**53),
                deadline_s=finite | st.just(math.inf),
                retry_at_s=finite | st.just(math.inf),
                attempts=st.integers(0, 10**6),
                resume_at=st.integers(0, 10**6),
                reason=st.text(st.characters(exclude_categories=["Cs"])),
            ),
            unique_by=(lambda one: one.key, lambda one: one.sequence),
            max_size=5,
        )
    )
    path = tmp_path_factory.mktemp("any") / "queue.db"

    async def written_and_read() -> list[Entry]:
        async with QueueStore(path, ManualClock(), boot_id="b") as store:
            await store.put(entries)
        return await loaded(path, ManualClock(), "b")

    assert asyncio.run(written_and_read()) == sorted(entries, key=lambda one: one.sequence)


# --- time ---------------------------------------------------------------------------------


async def test_within_one_boot_a_jump_of_the_wall_clock_changes_nothing(path: Path) -> None:
    clock = ManualClock()
    start_s = clock.now().monotonic_s
    one = entry(1, deadline_s=start_s + 60, retry_at_s=start_s + 30)
    async with QueueStore(path, clock, boot_id="b") as store:
        await store.put(one)
    clock.advance(10)
    for jump_s in (86_400, -3 * 86_400):
        clock.jump_wall(jump_s)
        assert await loaded(path, clock, "b") == [one]


async def test_after_a_reboot_the_time_switched_off_counts(path: Path) -> None:
    clock = ManualClock(wall_s=5_000.0, monotonic_s=900.0)
    received = Instant(4_990.0, 890.0)
    one = entry(1, deadline_s=960.0, retry_at_s=930.0, received=received)
    async with QueueStore(path, clock, boot_id="before") as store:
        await store.put([one, entry(2)])
    # Off for 20 s by the wall clock; the new boot's monotonic clock starts small.
    after = ManualClock(wall_s=5_020.0, monotonic_s=4.0)
    again, endless = await loaded(path, after, "after")
    assert again.deadline_s == 4.0 + 40
    assert again.retry_at_s == 4.0 + 10
    assert again.announcement.received == Instant(4_990.0, 4.0 - 30)
    assert endless.deadline_s == math.inf
    assert endless.retry_at_s == 0.0


async def test_after_a_reboot_into_1970_nothing_has_aged(path: Path) -> None:
    clock = ManualClock(monotonic_s=900.0)
    async with QueueStore(path, clock, boot_id="before") as store:
        await store.put(entry(1, deadline_s=960.0))
    (again,) = await loaded(path, ManualClock(wall_s=3.0, monotonic_s=4.0), "after")
    assert again.deadline_s == 4.0 + 60


async def test_where_the_boot_is_unknown_the_wall_clock_counts(path: Path) -> None:
    clock = ManualClock(wall_s=5_000.0, monotonic_s=900.0)
    async with QueueStore(path, clock, boot_id="") as store:
        await store.put(entry(1, deadline_s=960.0))
    clock.jump_wall(10)
    assert (await loaded(path, clock, ""))[0].deadline_s == 950.0


# --- how it ended -------------------------------------------------------------------------


async def test_the_end_of_what_has_no_row_writes_nothing_now(
    path: Path, clock: ManualClock
) -> None:
    async with QueueStore(path, clock) as store:
        for n in range(20):
            store.end(finished(entry(n)))
        assert await store.alive()  # the thread has looked at them
        assert store.status.commits == 0
        await store.put(entry(50))
        assert store.status.commits == 1
    async with QueueStore(path, clock) as store:
        assert [one.announcement.id for one in store.history(3)] == ["a19", "a18", "a17"]


async def test_at_close_the_last_ends_are_written(path: Path, clock: ManualClock) -> None:
    report = finished(
        entry(1, tag="door", delivery="m1", priority=Priority.HIGH),
        queued_ms=1,
        first_sound_ms=20,
        characters=12,
        attempts=1,
        reason="",
    )
    async with QueueStore(path, clock, boot_id="b") as store:
        store.end(report)
        before = store.history()
    async with QueueStore(path, clock, boot_id="b") as store:
        assert store.history() == before
        assert store.history()[0].announcement == report.announcement


async def test_an_id_that_ended_is_known_for_a_day_across_restarts(path: Path) -> None:
    clock = ManualClock()
    async with QueueStore(path, clock, boot_id="b") as store:
        assert store.ended("a1", "hall") is None
        store.end(finished(entry(1), clock.now()))
        known = store.ended("a1", "hall")
        assert known is not None
        assert known.event is Outcome.FINISHED
        assert store.ended("a1", "kitchen") is None
    clock.advance(86_000)
    clock.jump_wall(10 * 86_400)
    async with QueueStore(path, clock, boot_id="b") as store:
        assert store.ended("a1", "hall") == known
        clock.advance(1_000)
        assert store.ended("a1", "hall") is None
        assert len(store.history()) == 1


async def test_after_a_reboot_an_end_is_as_old_as_the_wall_clock_says(path: Path) -> None:
    clock = ManualClock()
    async with QueueStore(path, clock, boot_id="before") as store:
        store.end(finished(entry(1), clock.now()))
    clock.jump_wall(80_000)
    async with QueueStore(path, clock, boot_id="after") as store:
        assert store.ended("a1", "hall") is not None
        clock.advance(10_000)
        assert store.ended("a1", "hall") is None


async def test_long_texts_are_cut_short_in_the_history(store: QueueStore) -> None:
    long = entry(1)
    words = replace(long.announcement.segments[0], text="word " * 900)  # type: ignore[type-var]
    long = replace(long, announcement=replace(long.announcement, segments=(words,)))
    store.end(finished(long))
    assert len(store.history()[0].announcement.text) == 200


async def test_a_step_on_the_way_is_not_an_end(store: QueueStore) -> None:
    one = entry(1)
    step = Report(
        event=Step.QUEUED, announcement=one.announcement, zone="hall", at=one.announcement.received
    )
    with pytest.raises(ValueError, match="not an outcome"):
        store.end(step)


async def test_an_id_that_is_not_unicode_ends_without_harm(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        store.end(finished(entry(1, id="bad \ud800")))
        await store.put(entry(2))
    async with QueueStore(path, clock) as store:
        assert [one.announcement.id for one in store.history()] == ["bad ?"]


# --- what it cost -------------------------------------------------------------------------


async def test_usage_adds_up_by_day_and_outlives_the_process(
    path: Path, clock: ManualClock
) -> None:
    async with QueueStore(path, clock) as store:
        store.add_usage(MONDAY, characters=10, audio_s=1.5, cost_cents=0.2, requests=1)
        store.add_usage(MONDAY, characters=5, requests=1)
        assert await store.alive()
        assert store.status.commits == 0
        before = store.usage()
        assert [(u.day, u.characters, u.requests) for u in before] == [(MONDAY, 15, 2)]
    async with QueueStore(path, clock) as store:
        assert store.usage() == before
        store.add_usage(TUESDAY, characters=1)
        store.add_usage(MONDAY, characters=1)
        await store.put(entry(1))
        await store.put(entry(2))  # usage must not be counted a second time
    async with QueueStore(path, clock) as store:
        assert [(u.day, u.characters) for u in store.usage()] == [(TUESDAY, 1), (MONDAY, 16)]
        assert [u.day for u in store.usage(days=1)] == [TUESDAY]
