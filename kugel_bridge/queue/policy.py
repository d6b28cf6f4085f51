"""What is spoken next: the order of what waits in a zone, decided without clock or disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kugel_bridge.model.announcement import Announcement, Priority
from kugel_bridge.model.clock import Instant
from kugel_bridge.queue.schedule import OrderKey, Schedule

WALL_LOOK_S = 60.0
"""Longest wait for a wall time (s) before looking again: somebody may set the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One announcement that waits for its turn in one zone."""

    announcement: Announcement
    zone: str
    sequence: int
    """Order of arrival; kept when the entry is put back."""
    deadline_s: float = math.inf
    """Monotonic time (s) after which it is no longer true; inf = it stays true."""
    retry_at_s: float = 0.0
    """Monotonic time (s) of the next try; 0 = now."""
    attempts: int = 0
    resume_at: int = 0
    """Index into its whole text up to which it was heard already; 0 = from the start."""
    reason: str = ""
    """Why it was deferred."""

    def __post_init__(self) -> None:
        wanted = self.announcement
        times = (self.deadline_s, self.retry_at_s, wanted.expires_at_s, wanted.not_before_s)
        # One NaN would make every comparison in a sorted list a lie.
        for time in times:
            if time is not None and math.isnan(time):
                raise ValueError(f"announcement {wanted.id} has a time that is not a number")

    @property
    def key(self) -> tuple[str, str]:
        """Announcement id and zone: what makes it one of a kind."""
        return self.announcement.id, self.zone

    @property
    def order(self) -> OrderKey:
        """Sorts entries in the order in which they are spoken."""
        return self.announcement.priority.rank, self.sequence, self.announcement.id, self.zone


def entry_for(
    announcement: Announcement, zone: str, sequence: int, level_ttl_s: float | None
) -> Entry:
    """The entry of a fresh announcement.

    `level_ttl_s` (s) counts where the announcement names no ttl of its own; None = no limit.
    """
    ttl_s, begins_s = announcement.ttl_s, announcement.received.monotonic_s
    if ttl_s is None:
        ttl_s = level_ttl_s
        if announcement.not_before_s is not None:
            # What is meant for later does not grow stale before its time.
            begins_s += max(0.0, announcement.not_before_s - announcement.received.wall_s)
    deadline_s = math.inf if ttl_s is None else begins_s + ttl_s
    return Entry(announcement=announcement, zone=zone, sequence=sequence, deadline_s=deadline_s)


def is_expired(entry: Entry, now: Instant) -> bool:
    """Whether it stopped being true: its age on the monotonic clock, or the caller's wall time."""
    expires_at_s = entry.announcement.expires_at_s
    return now.monotonic_s >= entry.deadline_s or (
        expires_at_s is not None and now.wall_s >= expires_at_s
    )


def is_due(entry: Entry, now: Instant) -> bool:
    """Whether it may be spoken already: not before its next try, nor before the caller's time."""
    not_before_s = entry.announcement.not_before_s
    return now.monotonic_s >= entry.retry_at_s and (
        not_before_s is None or now.wall_s >= not_before_s
    )


class WaitingList:
    """What waits, most urgent first, then in order of arrival; at most `max_waiting` entries.

    Entries that are not due yet sleep in lists of their own, sorted by the time that wakes them,
    so that taking the next one never looks through thousands that wait for the network.
    """

    def __init__(self, max_waiting: int) -> None:
        if max_waiting < 1:
            raise ValueError(f"a queue needs room for one: {max_waiting}")
        self._max_waiting = max_waiting
        self._by_id: dict[str, dict[str, Entry]] = {}  # id -> zone -> entry
        self._tagged: dict[tuple[str, str], Entry] = {}  # zone, tag
        self._statuses: dict[str, Entry] = {}  # zone
        self._wall_s = -math.inf
        """The wall clock at the last look (s)."""
        self._all: Schedule[Entry] = Schedule(lambda _: 0.0)
        self._ready: Schedule[Entry] = Schedule(lambda _: 0.0)
        self._by_retry: Schedule[Entry] = Schedule(lambda entry: entry.retry_at_s)
        self._by_not_before: Schedule[Entry] = Schedule(_not_before_s)
        self._by_deadline: Schedule[Entry] = Schedule(lambda entry: entry.deadline_s)
        self._by_expiry: Schedule[Entry] = Schedule(_expires_at_s)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Entry]:
        """All entries in the order in which they would be spoken, due or not."""
        return iter(list(self._all))

    def __contains__(self, item: object) -> bool:
        """Whether that entry waits, or the announcement of that id in any zone."""
        if isinstance(item, Entry):
            return self.get(*item.key) == item
        return item in self._by_id

    def get(self, announcement_id: str, zone: str) -> Entry | None:
        """The entry of that announcement in that zone, if it waits."""
        return self._by_id.get(announcement_id, {}).get(zone)

    def add(self, entry: Entry) -> list[tuple[Entry, Entry | None]]:
        """Let an entry wait; returns who had to leave for it, which may be the entry itself.

        The newer of two with the same tag, or of two statuses, stays, and is named beside the one
        that leaves. When the list is full, the newest entry of the lowest level goes, and None
        stands beside it. An entry with the same id and zone is overwritten. One that was taken
        comes before everything younger of its level again.
        """
        known = self.get(*entry.key)
        if known is not None:
            self._discard(known)
        rivals = self._rivals(entry)
        newer = next((rival for rival in rivals if rival.sequence > entry.sequence), None)
        if newer is not None:
            return [(entry, newer)]
        displaced: list[tuple[Entry, Entry | None]] = []
        for rival in rivals:
            self._discard(rival)
            displaced.append((rival, entry))
        self._insert(entry)
        if len(self) > self._max_waiting:
            last = self._all.last()
            self._discard(last)
            displaced.append((last, None))
        return displaced

    def take(self, now: Instant) -> Entry | None:
        """The first entry that is due and still true, removed from the list."""
        entry = self.peek(now)
        if entry is not None:
            self._discard(entry)
        return entry

    def withdraw(self, entry: Entry) -> None:
        """Remove an entry of the list, as `peek` returned it."""
        self._discard(entry)

    def peek(self, now: Instant) -> Entry | None:
        """The entry that `take` would return."""
        self._wake(now)
        # The caller collects what expired first, so this looks at one entry, or a few.
        for entry in self._ready:
            if is_due(entry, now) and not is_expired(entry, now):
                return entry
        return None

    def expired(self, now: Instant) -> list[Entry]:
        """The entries that stopped being true, removed from the list, in order."""
        gone = {}
        for entry in self._by_deadline.until(now.monotonic_s):
            gone[entry.key] = entry
        for entry in self._by_expiry.until(now.wall_s):
            gone[entry.key] = entry
        for entry in gone.values():
            self._discard(entry)
        return sorted(gone.values(), key=lambda entry: entry.order)

    def remove(self, predicate: Callable[[Entry], bool]) -> list[Entry]:
        """The entries for which `predicate` holds, removed from the list, in order."""
        chosen = [entry for entry in self._all if predicate(entry)]
        for entry in chosen:
            self._discard(entry)
        return chosen

    def remove_id(self, announcement_id: str) -> list[Entry]:
        """The entries of one announcement in all zones, removed from the list."""
        chosen = list(self._by_id.get(announcement_id, {}).values())
        for entry in chosen:
            self._discard(entry)
        return chosen

    def next_wake(self, now: Instant) -> float | None:
        """Seconds until an entry becomes due or stops being true; None if neither will happen.

        Entries that are due already do not count: the caller has its reason to let them wait.
        """
        self._wake(now)
        wait_s = min(
            self._by_retry.first_s() - now.monotonic_s,
            self._by_deadline.first_s() - now.monotonic_s,
        )
        wall_s = min(self._by_not_before.first_s(), self._by_expiry.first_s())
        if wall_s < math.inf:
            wait_s = min(wait_s, wall_s - now.wall_s, WALL_LOOK_S)
        return None if wait_s == math.inf else max(0.0, wait_s)

    def _rivals(self, entry: Entry) -> list[Entry]:
        """Those that cannot wait beside `entry`."""
        found = {}
        tag = entry.announcement.tag
        if tag is not None and (rival := self._tagged.get((entry.zone, tag))):
            found[rival.key] = rival
        if entry.announcement.priority is Priority.STATUS and (
            rival := self._statuses.get(entry.zone)
        ):
            found[rival.key] = rival
        return list(found.values())

    def _insert(self, entry: Entry) -> None:
        wanted = entry.announcement
        self._by_id.setdefault(wanted.id, {})[entry.zone] = entry
        if wanted.tag is not None:
            self._tagged[entry.zone, wanted.tag] = entry
        if wanted.priority is Priority.STATUS:
            self._statuses[entry.zone] = entry
        self._all.add(entry)
        if entry.retry_at_s <= 0 and wanted.not_before_s is None:
            self._ready.add(entry)
        else:
            # Where it sleeps is found out at the next look: only then is the time known.
            self._by_retry.add(entry)
        if entry.deadline_s < math.inf:
            self._by_deadline.add(entry)
        if wanted.expires_at_s is not None:
            self._by_expiry.add(entry)

    def _discard(self, entry: Entry) -> None:
        wanted = entry.announcement
        zones = self._by_id[wanted.id]
        del zones[entry.zone]
        if not zones:
            del self._by_id[wanted.id]
        if wanted.tag is not None:
            del self._tagged[entry.zone, wanted.tag]
        if wanted.priority is Priority.STATUS:
            del self._statuses[entry.zone]
        for schedule in (
            self._all,
            self._ready,
            self._by_retry,
            self._by_not_before,
            self._by_deadline,
            self._by_expiry,
        ):
            schedule.discard(entry)

    def _wake(self, now: Instant) -> None:
        """Sort what may be spoken at `now` from what has to sleep on."""
        for entry in self._by_retry.until(now.monotonic_s):
            self._by_retry.discard(entry)
            self._by_not_before.add(entry)
        for entry in self._by_not_before.until(now.wall_s):
            self._by_not_before.discard(entry)
            self._ready.add(entry)
        if now.wall_s < self._wall_s:
            # The wall clock was set back: what was ready by it may have to sleep again.
            for entry in [entry for entry in self._ready if not is_due(entry, now)]:
                self._ready.discard(entry)
                self._by_not_before.add(entry)
        self._wall_s = now.wall_s


def _not_before_s(entry: Entry) -> float:
    not_before_s = entry.announcement.not_before_s
    return -math.inf if not_before_s is None else not_before_s


def _expires_at_s(entry: Entry) -> float:
    expires_at_s = entry.announcement.expires_at_s
    return math.inf if expires_at_s is None else expires_at_s
