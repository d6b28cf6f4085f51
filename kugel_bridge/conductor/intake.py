"""Takes announcements from every door: repeats out, zones found, order given."""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

from kugel_bridge.audio.chime import CHIMES
from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.conductor.keeping import Keeping, Settle
from kugel_bridge.conductor.rules import LevelRules
from kugel_bridge.conductor.script import Alerts
from kugel_bridge.model.announcement import (
    ALL_ZONES,
    AlertSegment,
    Announcement,
    ChimeSegment,
    PauseSegment,
    TextSegment,
)
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.queue.policy import entry_for
from kugel_bridge.queue.recent import TEXT_CHARACTERS
from kugel_bridge.queue.store import QueueStore

logger = logging.getLogger(__name__)

REMEMBERED_DELIVERIES = 2_000
REPEAT_WINDOW_S = 300.0
"""The same id within so long is a repeat; later it is somebody who likes short ids."""


class Intake:
    """The one way into the bridge, for MQTT, commands and replays."""

    def __init__(
        self,
        conductors: Mapping[str, Conductor],
        *,
        default_zone: str,
        rules: LevelRules,
        alerts: Alerts,
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
        self._sequence = itertools.count()
        self._deliveries: OrderedDict[str, str] = OrderedDict()
        self._said: OrderedDict[tuple[str, tuple[str, ...]], float] = OrderedDict()
        """When which words were last taken for which zone (monotonic s)."""

    def begin_at(self, sequence: int) -> None:
        """Count arrivals from here at least: what the last run left came before."""
        self._sequence = itertools.count(max(sequence, next(self._sequence)))

    def accept(self, announcement: Announcement, settle: Settle = lambda: None) -> None:
        """Hand an announcement to its zones; `settle` is called once it cannot be lost.

        What cannot be carried out is reported as `rejected`.
        """
        announcement = self._recognised(announcement)
        try:
            zones = self._zones_of(announcement)
            check_names(announcement, self._alerts, announcement.language or self._language())
        except RejectedError as error:
            self.reject(announcement, str(error))
            settle()
            return
        settle_one = _after(len(zones), settle)
        for zone in zones:
            self._hand_over(announcement, zone, settle_one)

    def reject(self, announcement: Announcement, reason: str) -> None:
        """Report that an announcement cannot be carried out."""
        zone = ",".join(announcement.zones) or self._default_zone
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
        if ended is None or ended.announcement.text != announcement.text[:TEXT_CHARACTERS]:
            return None  # other words under an id that somebody likes are no repeat
        age_s = self._clock.now().monotonic_s - ended.at.monotonic_s
        if age_s > REPEAT_WINDOW_S and not announcement.redelivered:
            return None
        return replace(ended, announcement=announcement)

    def _zones_of(self, announcement: Announcement) -> list[str]:
        names = announcement.zones or (self._default_zone,)
        if ALL_ZONES in names:
            return list(self._conductors)
        unknown = [name for name in names if name not in self._conductors]
        if unknown:
            known = ", ".join(self._conductors)
            raise RejectedError(f"no zone {unknown[0]!r} here; there are: {known}")
        return list(dict.fromkeys(names))

    def _said_just_now(self, announcement: Announcement, zone: str) -> bool:
        window_s = announcement.dedupe_s
        if window_s is None:
            window_s = self._rules[announcement.priority].dedupe_s
        key = zone, _said_in(announcement)
        now_s = announcement.received.monotonic_s
        last_s = self._said.get(key)
        if window_s > 0 and last_s is not None and now_s - last_s < window_s:
            return True
        self._said[key] = now_s
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED_DELIVERIES:
            self._said.popitem(last=False)
        return False


def check_names(announcement: Announcement, alerts: Alerts, language: str) -> None:
    """Raise RejectedError for a chime or an alert that there is not."""
    chimes = [c for c in (announcement.chime, announcement.end_chime) if isinstance(c, str)]
    for segment in announcement.segments:
        if isinstance(segment, ChimeSegment):
            chimes.append(segment.name)
        elif isinstance(segment, AlertSegment):
            alerts.words_or_sound(segment.name, language)
    for name in chimes:
        if name and name not in CHIMES:
            raise RejectedError(f"no chime {name!r}; there are: {', '.join(CHIMES)}")


def _said_in(announcement: Announcement) -> tuple[str, ...]:
    """What makes two announcements the same to a listener: words, alerts and chimes."""
    said = []
    for segment in announcement.segments:
        if isinstance(segment, TextSegment):
            said.append(segment.text)
        elif not isinstance(segment, PauseSegment):
            said.append(f"{type(segment).__name__} {segment.name}")
    return tuple(said)


def _after(count: int, settle: Settle) -> Settle:
    """A function that calls `settle` at its `count`-th call."""
    left = count

    def settle_one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            settle()

    return settle_one
