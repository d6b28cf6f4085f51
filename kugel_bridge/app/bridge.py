"""The daemon: every part, built once, run in one tree of tasks, stopped in mirror order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kugel_bridge.app import news, parts
from kugel_bridge.app.gateway import Upstream, shared_gateway
from kugel_bridge.app.recordings import Recordings
from kugel_bridge.app.texts import phrases_of, utterances_of
from kugel_bridge.app.verbs import Verbs
from kugel_bridge.app.vigil import Vigil
from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.conductor.controls import Arguments, Controls
from kugel_bridge.conductor.intake import Intake
from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.conductor.rules import Switches
from kugel_bridge.model.announcement import Announcement
from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import RejectedError, StorageError
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.model.status import CloudStatus
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.mqtt.link import MqttLink
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError
from kugel_bridge.ops import logs
from kugel_bridge.queue.policy import Entry, WaitingList
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.speech.flights import Flights

if TYPE_CHECKING:  # without a cloud its words are not loaded
    from kugel_bridge.kugelaudio.messages import Usage
    from kugel_bridge.settings.tree import Settings

logger = logging.getLogger(__name__)

HEALTH_EVERY_S = 60.0
STATE_PAUSE_S = 0.1
"""Between two looks at the state: a burst must not count ten thousand waiting ones each time."""
READY_WITHOUT_BROKER_S = 2.0
"""A broker that is not there yet must not keep the service manager waiting."""
_CLOCK = SystemClock()

Listener = Callable[[Report], None]
"""Hears of every step and outcome; must not block or raise."""


class Bridge:
    """One house's voice."""

    def __init__(
        self,
        settings: Settings,
        *,
        listeners: Sequence[Listener] = (),
        on_standing: Callable[[str], None] = lambda _: None,
        clock: Clock = _CLOCK,
    ) -> None:
        """`on_standing` is told, in words for a person, when the broker comes or goes.

        Raises ConfigurationError for settings that do not fit together.
        """
        self._settings, self._clock = settings, clock
        self._on_standing = on_standing
        self._listeners = listeners
        self._began_s = clock.now().monotonic_s
        self._cloud_status = CloudStatus.UNREACHABLE if settings.cloud.enabled else CloudStatus.OFF
        self._last: dict[str, Any] | None = None
        self._state_timer: asyncio.TimerHandle | None = None
        self._state_changed = False
        self._counts: dict[str, int] = {}

        rules = parts.level_rules(settings)
        self._switches = Switches(language=settings.cloud.language)
        self._alerts = parts.alert_book(settings)
        self._recordings = Recordings(self._alerts)
        self._delivery = parts.delivery(settings)
        self._cache = parts.phrase_cache(settings)
        self._cloud = parts.cloud_client(settings, self._cloud_changed, self._used)
        self._cloud_source = parts.cloud_source(settings, self._cloud)
        flights = Flights()
        self._local = parts.local_rung(settings)
        self._ladder = parts.ladder(settings, self._cache, self._cloud_source, flights, self._local)
        self._store = QueueStore(settings.queue.path, clock, on_found=self._take_up)
        self._keeping = Keeping(self._store, clock)
        self._zones = [
            parts.zone_for(name, zone, self.changed, lambda: flights.pace.head_start_s)
            for name, zone in settings.zones.items()
        ]
        self._conductors = {
            zone.name: Conductor(
                zone,
                ladder=self._ladder,
                alerts=self._alerts,
                delivery=self._delivery,
                rules=rules,
                switches=self._switches,
                waiting=WaitingList(settings.queue.max_waiting),
                keeping=self._keeping,
                clock=clock,
                on_report=self._report,
            )
            for zone in self._zones
        }
        self._intake = Intake(
            self._conductors,
            default_zone=settings.default_zone,
            rules=rules,
            alerts=self._alerts,
            language=lambda: self._switches.language,
            store=self._store,
            keeping=self._keeping,
            clock=clock,
            on_report=self._report,
            on_answer=self._answer,
        )
        self._controls = Controls(
            list(self._conductors.values()),
            self._intake,
            self._switches,
            clock,
            language=settings.cloud.language,
            on_log_level=logs.set_level,
            on_change=self.changed,
        )
        asked = Verbs(
            store=self._store,
            ladder=self._ladder,
            cache=self._cache,
            cloud=self._cloud_source,
            alerts=self._alerts,
            make_catalogue=lambda: parts.catalogue(settings),
            utterances=self._utterances,
            load_alerts=self._recordings.read,
            health=self.health,
            trouble=lambda: self.unwell() or self._recordings.problem,
        )
        self._verbs = self._controls.verbs() | asked.by_name()
        self._vigil = Vigil(self._store, list(self._conductors.values()))
        self._connected = asyncio.Event()
        self._link = MqttLink(
            parts.broker(settings),
            parts.topics(settings),
            clean=parts.cleaner(settings),
            phrases=parts.phrase_texts(settings),
            default_zone=settings.default_zone,
            clock=clock,
            on_announcement=self._take,
            on_alert=lambda _, announcement, ack: self._take(announcement, ack),
            on_set=self._controls.set,
            on_request=self._request,
            on_rejected=self._refused,
            on_up=self._broker_came,
            on_down=lambda _: self._on_standing(self.standing()),
        )
        upstream = None if self._cloud is None else Upstream(self._cloud, self._cache, flights)
        self._gateway = shared_gateway(settings, upstream)

    # --- its life ---------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until cancelled; `ready` is called once announcements can be taken."""
        async with contextlib.AsyncExitStack() as resources:
            await self._store.open()
            resources.push_async_callback(self._store.close)
            if self._cache is not None:
                await self._cache.open()
                resources.push_async_callback(self._cache.close)
            if self._store.set_aside:
                logger.error("%s", self._store.set_aside)
            await self._recordings.read()
            self._take_up(self._store.entries())
            async with asyncio.TaskGroup() as outer:
                for zone in self._zones:
                    outer.create_task(zone.run(), name=f"zone {zone.name}")
                outer.create_task(self._keeping.run(), name="keeping")
                outer.create_task(self._ladder.run(), name="speech")
                if self._cache is not None:
                    outer.create_task(self._cache.run(), name="cache")
                if self._cloud is not None:
                    outer.create_task(self._cloud.run(), name="cloud")
                serving = None
                if self._gateway is not None:
                    serving = outer.create_task(self._gateway.run(), name="gateway")
                outer.create_task(self._link.run(), name="mqtt")
                outer.create_task(self._tell_health(), name="health")
                outer.create_task(self._vigil.run(), name="vigil")
                outer.create_task(self._prepare(), name="prepare")
                try:
                    async with asyncio.TaskGroup() as inner:
                        for name, conductor in self._conductors.items():
                            inner.create_task(conductor.run(), name=f"conductor {name}")
                        self._link.publish_info(news.info(self._settings))
                        self.changed()
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(READY_WITHOUT_BROKER_S):
                                await self._connected.wait()
                        ready()
                        if self._local is not None:
                            self._local.load_aside()
                finally:
                    # What was not heard is on disk before the broker is told goodbye.
                    waiting = [list(c.waiting) for c in self._conductors.values()]
                    await self._keeping.lay_down(itertools.chain(*waiting))
                    if serving is not None:
                        # Before what its sound is made of ends.
                        serving.cancel()
                        await asyncio.wait([serving])

    def _take_up(self, left: list[Entry]) -> None:
        """Go on with what the last run left."""
        self._keeping.adopt(left)
        self._intake.begin_at(self._store.next_sequence)
        default = self._conductors[self._settings.default_zone]
        for entry in left:
            if entry.announcement.delivery:
                self._intake.remember_delivery(entry.announcement.delivery, entry.announcement.id)
            if entry.zone not in self._conductors:
                default.refuse(entry, Outcome.FAILED, f"zone {entry.zone!r} is gone")
        for name, conductor in self._conductors.items():
            conductor.reload([entry for entry in left if entry.zone == name])
        if left:
            logger.info("%d announcements wait from the last run", len(left))

    async def _prepare(self) -> None:
        """Fetch the sound of alerts and of the phrase file ahead of need, in the background."""
        if self._cache is None or self._cloud_source is None:
            return
        alerts = [text for _, text in self._alerts.texts(self._switches.language)]
        file = self._settings.cache.warm
        phrases: list[str] = []
        if file is not None:
            try:
                phrases = phrases_of(file)
            except StorageError as error:
                logger.warning("cache.warm: %s", error)
        pinned = self._spoken_of(alerts, "alerts")
        wanted = self._spoken_of(phrases, f"cache.warm: {file}")
        if not pinned and not wanted:
            return
        await self._connected.wait()
        for utterances, why in ((pinned, "alerts"), (wanted, "cache.warm")):
            report = await self._ladder.warm(utterances)
            if report.failed or report.left:
                logger.warning(
                    "%s: %d phrases are not in the cache yet: %s",
                    why,
                    len(report.failed) + report.left,
                    report.failed[0][1] if report.failed else "the cloud cannot be used",
                )
        try:
            for utterance in pinned:
                await self._cache.pin(self._cloud_source.key(utterance).digest)
        except StorageError as error:
            logger.warning("alerts: they are not kept for good in the cache: %s", error)

    def _spoken_of(self, texts: Iterable[str], where: str) -> list[Utterance]:
        """What there is to say of the texts; where nothing is left, that is told."""
        found: list[Utterance] = []
        for text in texts:
            try:
                found += self._utterances(text, {})
            except RejectedError as error:
                logger.warning("%s: %s", where, error)
        return found

    # --- what comes in ----------------------------------------------------------------------

    def submit(self, announcement: Announcement) -> None:
        """Speak an announcement that came another way than MQTT."""
        self._take(announcement, lambda: None)

    def _take(self, announcement: Announcement, ack: Callable[[], None]) -> None:
        if self._intake.accept(announcement, ack):
            self._controls.remember(announcement)

    async def _request(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        carry_out = self._verbs.get(verb)
        if carry_out is None:
            raise RejectedError(f"there is no verb {verb!r}; there are: {', '.join(self._verbs)}")
        return await carry_out(arguments)

    def _utterances(self, text: str, arguments: Arguments) -> list[Utterance]:
        """A text as it would be spoken, part by part."""
        language = arguments.get("language") or self._switches.language
        voice = arguments.get("voice") or self._switches.voice
        return utterances_of(
            self._settings,
            text,
            language=str(language),
            voice=None if voice is None else str(voice),
        )

    # --- what goes out ----------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        log = logger.info if report.is_outcome else logger.debug
        log(
            "%s in %s: %s %s",
            report.announcement.id,
            report.zone,
            report.event,
            ", ".join(filter(None, (report.source, report.reason))),
        )
        self._counts[report.event.value] = self._counts.get(report.event.value, 0) + 1
        if report.is_outcome:
            self._last = news.last_outcome(report)
            self._intake.ended(report)
        self._link.publish_report(report)
        for listener in self._listeners:
            listener(report)
        self.changed()

    def _refused(self, refusal: RefusedAnnouncementError) -> None:
        """What could not even be read counts as well."""
        rejected = Outcome.REJECTED.value
        self._counts[rejected] = self._counts.get(rejected, 0) + 1
        self._last = news.last_refusal(refusal, self._settings.default_zone)
        self.changed()

    def _answer(self, report: Report) -> None:
        """Tell one caller again what was told before."""
        self._link.answer(report)

    def _cloud_changed(self, status: CloudStatus) -> None:
        was, self._cloud_status = self._cloud_status, status
        if status is CloudStatus.OK and was is not CloudStatus.OK:
            for conductor in self._conductors.values():
                conductor.try_again()
        self.changed()

    def _used(self, usage: Usage) -> None:
        self._store.add_usage(
            datetime.now(UTC).date(),
            characters=usage.characters,
            audio_s=usage.audio_s,
            cost_cents=usage.cost_cents or 0.0,
            requests=1,
        )

    def changed(self) -> None:
        """Something the state topic tells has changed; ten times a second is often enough."""
        if self._state_timer is None:
            self._tell_state()
        else:
            self._state_changed = True

    def _tell_state(self) -> None:
        self._state_changed = False
        self._state_timer = None
        self._link.publish_state(self.state())
        loop = asyncio.get_running_loop()
        self._state_timer = loop.call_later(STATE_PAUSE_S, self._state_again)

    def _state_again(self) -> None:
        self._state_timer = None
        if self._state_changed:
            self._tell_state()

    def state(self) -> dict[str, Any]:
        """The object of the state topic."""
        conductors = list(self._conductors.values())
        waiting = sum(len(c.waiting) for c in conductors)
        deferred = sum(c.deferred for c in conductors)
        state = news.busiest([c.state for c in conductors])
        default = self._conductors[self._settings.default_zone].zone
        return {
            "state": state,
            "speaking": any(c.is_audible for c in conductors),
            "volume": round(default.volume),
            "muted": self._switches.muted,
            "quiet": self._switches.quiet,
            "paused": self._switches.paused,
            "voice": self._switches.voice or self._settings.cloud.voice,
            "language": self._switches.language,
            "queue": {"waiting": waiting - deferred, "deferred": deferred},
            "cloud": self._cloud_status,
            "audio": news.worst([c.zone.audio for c in conductors]),
            "last": self._last,
        }

    def health(self) -> dict[str, Any]:
        """The figures of the health topic."""
        connection = self._link.connection
        return {
            "uptime_s": round(self._clock.now().monotonic_s - self._began_s),
            "announcements": dict(self._counts),
            "mqtt": {
                "connected": connection.connected,
                "received": connection.received,
                "published": connection.published,
                "queued": connection.queued,
                "dropped": connection.dropped,
                "refused": dict(connection.refused),
                "errors": self._link.errors,
            },
            "queue": {
                **dataclasses.asdict(self._store.status),
                "unacknowledged": self._keeping.unsafe,
            },
            "cache": {"problem": self._cache.problem if self._cache else "off"},
            "alerts": {"problems": dict(self._alerts.problems)},
            **news.process_figures(),
        }

    def standing(self) -> str:
        """Whether announcements can arrive, in words for a person; or why they cannot."""
        connection = self._link.connection
        if not connection.connected:
            return f"no announcements over MQTT: {connection.fault}"
        if connection.refused:
            refused = ", ".join(f"{name} ({why})" for name, why in connection.refused.items())
            return f"the broker refuses: {refused}"
        return "speaking what arrives"

    def unwell(self) -> str:
        """What hangs, for the watchdog; empty while everything makes progress."""
        late_s = self._link.connection.overdue_s
        if late_s > 0:
            return f"MQTT gave no sign of life for {late_s:.0f} s too long"
        return self._vigil.trouble

    def _broker_came(self) -> None:
        if not self._link.connection.is_session_kept:
            self._intake.forget_deliveries()
        self._connected.set()
        self._link.publish_health(self.health())
        self._on_standing(self.standing())

    async def _tell_health(self) -> None:
        while True:
            if self._link.connection.connected:
                # Otherwise it would be old when the broker comes; then it is told anew.
                self._link.publish_health(self.health())
            self._on_standing(self.standing())
            await asyncio.sleep(HEALTH_EVERY_S)
            await self._recordings.read()
