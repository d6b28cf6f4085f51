"""Takes announcements from every door: repeats out, zones found, order given."""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from kugel_bridge.audio.chime import CHIMES
from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.conductor.keeping import Keeping, Settle
from kugel_bridge.conductor.rules import LevelRules
from kugel_bridge.model.announcement import (
    ALL_ZONES,
    AlertSegment,
    Announcement,
    ChimeSegment,
)
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.queue.policy import entry_for
from kugel_bridge.queue.store import QueueStore

logger = logging.getLogger(__name__)

REMEMBERED_DELIVERIES = 12_000
"""Of ten thousand at once nearly all are safe before they are acknowledged: a connection that
breaks then brings them again."""
REMEMBERED_WORDS = 2_000
EARLIER = 1_000_000
"""Numbers below are for what a slow disk gives up late: it came before all of this run."""
REPEAT_WINDOW_S = 300.0
"""The same id within so long is a repeat; later it is somebody who likes short ids."""


class AlertTexts(Protocol):
    """What the stored alerts say, by name."""

    def text_of(self, name: str, language: str) -> str | None:
        """The alert's text in that language; None for a recording, RejectedError if unknown."""


@dataclass(frozen=True, slots=True)
class _Said:
    """Words that were taken, and whether they were heard yet."""

    announcement_id: str
    rank: int
    at_s: float
    """When they came, or once they were heard, when they ended (monotonic s)."""
    is_heard: bool = False

    def covers(self, rank: int) -> bool:
        """Whether the same words of that rank are heard no sooner by being said again."""
        return self.is_heard or self.rank <= rank


class Intake:
    """The one way into the bridge, for MQTT, commands and replays."""

    def __init__(
        self,
        conductors: Mapping[str, Conductor],
        *,
        default_zone: str,
        rules: LevelRules,
        alerts: AlertTexts,
        language: Callable[[], str],
        store: QueueStore,
        keeping: Keeping,
        clock: Clock,
        on_report: Callable[[Report], None],
        on_answer: Callable[[Report], None],
    ) -> None:
        self._conductors, self._default_zone = conductors, default_zone
        self._rules, self._alerts, self._language = rules, alerts, language
        self._store, self._keeping, self._clock = store, keeping, clock
        self._on_report, self._on_answer = on_report, on_answer
        self._sequence = itertools.count(EARLIER)
        self._deliveries: OrderedDict[str, str] = OrderedDict()
        self._said: OrderedDict[tuple[str, str], _Said] = OrderedDict()
        """What was taken for which zone last, and may be a duplicate when it comes again."""

    def begin_at(self, sequence: int) -> None:
        """Count arrivals from here at least: what the last run left came before."""
        self._sequence = itertools.count(max(sequence, next(self._sequence)))

    def accept(self, announcement: Announcement, settle: Settle = lambda: None) -> bool:
        """Hand an announcement to its zones; `settle` is called once it cannot be lost.

        What cannot be carried out is reported as `rejected`, and False is returned.
        """
        announcement = self._recognised(announcement)
        zones, elsewhere = self._zones_of(announcement)
        try:
            announcement = with_names(announcement, self._alerts, self._language)
        except RejectedError as error:
            self._reject(announcement, ",".join((*zones, *elsewhere)), str(error))
            settle()
            return False
        if not announcement.shared or not zones:
            known = ", ".join(self._conductors)
            for zone in elsewhere:
                self._reject(announcement, zone, f"no zone {zone!r} here; there are: {known}")
        if not zones:
            settle()
            return False
        announcement = self._under_its_own_id(announcement, zones)
        settle_one = _after(len(zones), settle)
        for zone in zones:
            self._hand_over(announcement, zone, settle_one)
        return True

    def _reject(self, announcement: Announcement, zone: str, reason: str) -> None:
        """Report that an announcement cannot be carried out."""
        self._on_report(
            Report(
                event=Outcome.REJECTED,
                announcement=announcement,
                zone=zone,
                at=self._clock.now(),
                reason=reason,
            )
        )

    def _hand_over(self, announcement: Announcement, zone: str, settle: Settle) -> None:
        conductor = self._conductors[zone]
        key = announcement.id, zone
        if conductor.has(announcement.id):
            conductor.add_replies(announcement.id, announcement.reply_to)
            self._keeping.owe(key, settle)
            return
        if (first := self._answer_of(announcement, zone)) is not None:
            logger.info("announcement %s was %s already", announcement.id, first.event)
            self._on_answer(first)
            settle()
            return
        self._keeping.owe(key, settle)
        entry = entry_for(
            announcement,
            zone,
            next(self._sequence),
            level_ttl_s=self._rules[announcement.priority].ttl_s,
        )
        if self._said_just_now(announcement, zone):
            conductor.refuse(entry, Outcome.SKIPPED, "duplicate")
        else:
            conductor.submit(entry)

    def ended(self, report: Report) -> None:
        """Know how an announcement ended: only what was heard makes the same words a duplicate."""
        key = report.zone, report.announcement.said
        said = self._said.get(key)
        if said is None or said.announcement_id != report.announcement.id:
            return
        if report.event is Outcome.FINISHED:
            self._said[key] = replace(said, at_s=report.at.monotonic_s, is_heard=True)
        else:
            del self._said[key]

    def forget_deliveries(self) -> None:
        """The broker counts its messages anew: what it sends again is no redelivery of the old."""
        self._deliveries.clear()

    def _under_its_own_id(self, announcement: Announcement, zones: list[str]) -> Announcement:
        """The announcement; with a number behind its id while other words have that id here."""
        wanted = announcement.id
        for number in itertools.count(2):
            there = (self._conductors[zone].said_by(announcement.id) for zone in zones)
            if all(said is None or said == announcement.said for said in there):
                break
            announcement = replace(announcement, id=f"{wanted}#{number}")
        if announcement.id != wanted and announcement.delivery:
            self.remember_delivery(announcement.delivery, announcement.id)
        return announcement

    def _recognised(self, announcement: Announcement) -> Announcement:
        """The announcement under the id it had when the broker sent it the first time."""
        delivery = announcement.delivery
        if not delivery:
            return announcement
        known = self._deliveries.get(delivery) if announcement.redelivered else None
        if known is not None:
            return replace(announcement, id=known)
        self.remember_delivery(delivery, announcement.id)
        return announcement

    def remember_delivery(self, delivery: str, announcement_id: str) -> None:
        """Know this broker message again when it is redelivered."""
        self._deliveries[delivery] = announcement_id
        self._deliveries.move_to_end(delivery)
        if len(self._deliveries) > REMEMBERED_DELIVERIES:
            self._deliveries.popitem(last=False)

    def _answer_of(self, announcement: Announcement, zone: str) -> Report | None:
        """The outcome this id had here lately, addressed to its new caller."""
        ended = self._store.ended(announcement.id, zone)
        if ended is None or ended.said != announcement.said:
            return None  # other words under an id that somebody likes are no repeat
        age_s = self._clock.now().monotonic_s - ended.at.monotonic_s
        if age_s > REPEAT_WINDOW_S and not announcement.redelivered:
            return None
        return replace(ended, announcement=announcement)

    def _zones_of(self, announcement: Announcement) -> tuple[list[str], list[str]]:
        """Where it is to be spoken, and the zones it names that are not here."""
        names = dict.fromkeys(announcement.zones or (self._default_zone,))
        if ALL_ZONES in names:
            return list(self._conductors), []
        here = [name for name in names if name in self._conductors]
        return here, [name for name in names if name not in self._conductors]

    def _said_just_now(self, announcement: Announcement, zone: str) -> bool:
        window_s = announcement.dedupe_s
        if window_s is None:
            window_s = self._rules[announcement.priority].dedupe_s
        key, rank = (zone, announcement.said), announcement.priority.rank
        now_s = announcement.received.monotonic_s
        last = self._said.get(key)
        if last and window_s > 0 and now_s - last.at_s < window_s and last.covers(rank):
            return True
        self._said[key] = _Said(announcement.id, rank, now_s)
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED_WORDS:
            self._said.popitem(last=False)
        return False


def with_names(
    announcement: Announcement, alerts: AlertTexts, usual_language: Callable[[], str]
) -> Announcement:
    """The announcement with the words of its alerts, for people to read.

    Raises RejectedError for a chime or an alert that there is not.
    """
    chimes = [c for c in (announcement.chime, announcement.end_chime) if isinstance(c, str)]
    segments = list(announcement.segments)
    for number, segment in enumerate(segments):
        if isinstance(segment, ChimeSegment):
            chimes.append(segment.name)
        elif isinstance(segment, AlertSegment):
            text = alerts.text_of(segment.name, announcement.language or usual_language())
            segments[number] = replace(segment, text=text)
    for name in chimes:
        if name and name not in CHIMES:
            raise RejectedError(f"no chime {name!r}; there are: {', '.join(CHIMES)}")
    if any(isinstance(segment, AlertSegment) for segment in segments):
        return replace(announcement, segments=tuple(segments))
    return announcement


def _after(count: int, settle: Settle) -> Settle:
    """A function that calls `settle` at its `count`-th call."""
    left = count

    def settle_one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            settle()

    return settle_one
