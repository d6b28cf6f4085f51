"""A small house for tests of the conductor: real parts, scripted sound on the seams."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Self

from kugel_bridge.audio.null import NullSink
from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.conductor.controls import Controls
from kugel_bridge.conductor.intake import Intake
from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.conductor.rules import LevelRule, Switches
from kugel_bridge.conductor.script import Delivery
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.announcement import Announcement, OfflineRule, Priority, TextSegment
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import BridgeError, DeviceError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import Outcome, Report, SourceKind, Step
from kugel_bridge.model.status import AudioStatus
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.queue.policy import WaitingList
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.speech.alerts import Alert, AlertBook
from kugel_bridge.speech.cloud import CloudSource
from kugel_bridge.speech.ladder import Ladder
from kugel_bridge.zones.zone import Zone
from tests.clock import ManualClock
from tests.speech.sounds import ScriptedClient, noise

WAIT_S = 30.0
"""Bound on everything that tests wait for; only a hang gets there."""
SOUND = noise(0.3)

Line = PcmChunk | BridgeError | asyncio.Event


class ScriptedVoice:
    """A local engine: says a piece of sound for each text, or what `lines` has for it.

    An event in a line is waited for, an error raised. What is left of a text that was cut finds
    the line of the whole text no more, and is said plainly.
    """

    kind = SourceKind.LOCAL

    def __init__(self) -> None:
        self.lines: dict[str, Sequence[Line]] = {}
        self.asked: list[str] = []
        self.open = 0
        """Streams that were begun and not closed."""

    def held(self, text: str, *, sound: PcmChunk = SOUND) -> asyncio.Event:
        """Let `text` sound, then wait for the event; it ends with as much sound again."""
        gate = asyncio.Event()
        self.lines[text] = (sound, gate, sound)
        return gate

    def slow(self, text: str) -> asyncio.Event:
        """Let `text` make no sound before the event."""
        gate = asyncio.Event()
        self.lines[text] = (gate, SOUND)
        return gate

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        self.asked.append(utterance.text)
        self.open += 1
        try:
            for line in self.lines.get(utterance.text, (SOUND,)):
                if isinstance(line, asyncio.Event):
                    await line.wait()
                elif isinstance(line, BridgeError):
                    raise line
                else:
                    yield line
        finally:
            self.open -= 1


class ScriptedCloud(ScriptedClient):
    """A cloud that says what the voice would, unless it has a `refusal` or breaks with `then`."""

    def __init__(self, voice: ScriptedVoice) -> None:
        super().__init__()
        self._voice = voice
        self.refusal: BridgeError | None = None

    async def stream(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        utterance = Utterance(text=request.text, language=request.language)
        async with contextlib.aclosing(self._voice.stream(utterance)) as chunks:
            async for chunk in chunks:
                yield chunk
        if self.then is not None:
            raise self.then


class ScriptedCard(NullSink):
    """Takes sound as fast as it comes, until it is told to fail."""

    def __init__(self) -> None:
        super().__init__(paced=False)
        self.missing = False
        self.fails_after: int | None = None
        """Frames until it breaks."""
        self.fails_to_stop: Exception | None = None
        self.opening = asyncio.Event()
        """`open` waits for it."""
        self.opening.set()
        self.opens: list[bool] = []
        """Whether each call of `open` succeeded."""
        self.is_open = False

    @property
    def status(self) -> AudioStatus:
        return AudioStatus.MISSING if self.missing else AudioStatus.OK

    async def open(self) -> None:
        await self.opening.wait()
        self.opens.append(not self.missing)
        self._check()
        self.is_open = True

    async def write(self, chunk: PcmChunk) -> None:
        if self.fails_after is not None:
            self.fails_after -= chunk.frames
            if self.fails_after < 0:
                self.missing, self.fails_after = True, None
        self._check()
        await super().write(chunk)

    async def stop(self) -> None:
        await super().stop()
        if self.fails_to_stop is not None:
            raise self.fails_to_stop

    async def close(self) -> None:
        await super().close()
        self.is_open = False

    def _check(self) -> None:
        if self.missing:
            self.is_open = False
            raise DeviceError("the card was unplugged")


class Stage:
    """Everything from the intake to the sound card, running between enter and exit."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        zones: Sequence[str] = ("hall",),
        with_cloud: bool = False,
        alerts: dict[str, Alert] | None = None,
        max_waiting: int = 100,
        offline: OfflineRule = OfflineRule.SPEAK,
        dedupe_s: float = 0.0,
        ttl_s: float = 600.0,
        first_sound_s: float = 5.0,
    ) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.voice = ScriptedVoice()
        self.client = ScriptedCloud(self.voice)
        cloud = CloudSource(self.client, voice="1", model="kugel-3.5") if with_cloud else None
        self.ladder = Ladder(cache=None, cloud=cloud, local=self.voice)
        self.store = QueueStore(path, self.clock, boot_id="this boot", retry_s=0.02)
        self.keeping = Keeping(self.store, self.clock, retry_s=0.02)
        self.switches = Switches(language="en")
        self.reports: list[Report] = []
        self.answers: list[Report] = []
        self.changes = 0
        self.settled: Counter[str] = Counter()
        self.listener: Callable[[Report], None] = lambda report: None
        """Called with each report; may raise."""
        self.accepted: dict[str, Announcement] = {}
        rule = LevelRule(
            ttl_s=ttl_s, first_sound_s=first_sound_s, offline=offline, dedupe_s=dedupe_s
        )
        rules = dict.fromkeys(Priority, rule)
        self.alerts = AlertBook(alerts or {})
        self.cards = {name: ScriptedCard() for name in zones}
        self.conductors = {
            name: Conductor(
                Zone(name, card, on_change=self._changed),
                ladder=self.ladder,
                alerts=self.alerts,
                delivery=Delivery(language="en"),
                rules=rules,
                switches=self.switches,
                waiting=WaitingList(max_waiting),
                keeping=self.keeping,
                clock=self.clock,
                on_report=self._report,
            )
            for name, card in self.cards.items()
        }
        self.intake = Intake(
            self.conductors,
            default_zone=zones[0],
            rules=rules,
            alerts=self.alerts,
            language=lambda: self.switches.language,
            store=self.store,
            keeping=self.keeping,
            clock=self.clock,
            on_report=self._report,
            on_answer=self.answers.append,
        )
        self.levels: list[str] = []
        self.controls = Controls(
            list(self.conductors.values()),
            self.intake,
            self.switches,
            self.clock,
            language="en",
            on_log_level=self.levels.append,
            on_change=self._changed,
        )
        self._running = contextlib.AsyncExitStack()

    # --- its life -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.store.open()
        self._running.push_async_callback(self.store.close)
        left = self.store.entries()
        self.keeping.adopt(left)
        self.intake.begin_at(self.store.next_sequence)
        for name, conductor in self.conductors.items():
            conductor.reload([entry for entry in left if entry.zone == name])
        parts = [self.ladder.run(), self.keeping.run()]
        parts += [conductor.zone.run() for conductor in self.conductors.values()]
        await self._running.enter_async_context(_running(*parts))
        self._running.push_async_callback(self._lay_down)
        runs = (conductor.run() for conductor in self.conductors.values())
        await self._running.enter_async_context(_running(*runs))
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._running.aclose()

    async def _lay_down(self) -> None:
        await self.keeping.lay_down(e for c in self.conductors.values() for e in c.waiting)

    # --- what tests do ------------------------------------------------------------------------

    @property
    def conductor(self) -> Conductor:
        """The first zone's."""
        return next(iter(self.conductors.values()))

    @property
    def card(self) -> ScriptedCard:
        """The first zone's."""
        return next(iter(self.cards.values()))

    def announcement(self, id: str, text: str = "", **fields: Any) -> Announcement:  # noqa: A002
        """An announcement of that id; it says the id unless told otherwise."""
        fields = {"segments": (TextSegment(text or id),), "received": self.clock.now()} | fields
        return Announcement(id=id, **fields)

    def say(self, id: str, text: str = "", **fields: Any) -> None:  # noqa: A002
        """Hand in an announcement; `settled` counts how often its sender was told."""
        announcement = self.announcement(id, text, **fields)
        self.accepted.setdefault(id, announcement)
        self.intake.accept(announcement, lambda: self.settled.update([id]))

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything notice it."""
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)
        self.look()

    def look(self) -> None:
        """Have everything look at the clock again."""
        for conductor in self.conductors.values():
            conductor.look()
        self.keeping._wake.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once it is so."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                await asyncio.sleep(0.001)

    async def event(self, event: Step | Outcome, id: str, times: int = 1) -> Report:  # noqa: A002
        """The report of that event of that announcement, once it was told `times` times."""

        def found() -> list[Report]:
            return [r for r in self.reports if r.event is event and r.announcement.id == id]

        await self.until(lambda: len(found()) >= times)
        return found()[times - 1]

    async def outcome(self, id: str, zone: str = "") -> Report:  # noqa: A002
        """How that announcement ended; fails if it ended twice."""

        def found() -> list[Report]:
            return [
                r
                for r in self.reports
                if r.is_outcome and r.announcement.id == id and zone in ("", r.zone)
            ]

        await self.until(lambda: bool(found()))
        assert len(found()) == 1, f"{id} ended more than once"
        return found()[0]

    def events(self, id: str) -> list[str]:  # noqa: A002
        """Names of everything told of that announcement, in order."""
        return [r.event.value for r in self.reports if r.announcement.id == id]

    @property
    def finished(self) -> list[str]:
        """Ids of what was spoken to its end, in order."""
        return [r.announcement.id for r in self.reports if r.event is Outcome.FINISHED]

    @property
    def ends(self) -> dict[tuple[str, str], list[Outcome]]:
        """All outcomes by id and zone."""
        found = defaultdict(list)
        for report in self.reports:
            if isinstance(report.event, Outcome):
                found[report.announcement.id, report.zone].append(report.event)
        return dict(found)

    def _report(self, report: Report) -> None:
        if report.is_outcome:
            self.intake.ended(report)
        self.reports.append(report)
        self.listener(report)

    def _changed(self) -> None:
        self.changes += 1


@contextlib.asynccontextmanager
async def _running(*parts: Any) -> AsyncGenerator[None, None]:
    """These run until the block ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
