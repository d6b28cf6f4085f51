"""Whatever happens, each announcement has one outcome, and its sender is told once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kugel_bridge.conductor.turn import Interruption
from kugel_bridge.model.announcement import Announcement, OfflineRule, Priority
from kugel_bridge.model.errors import RateLimitedError, ServiceUnavailableError
from kugel_bridge.model.report import Outcome, Report, Step
from tests.clock import ManualClock
from tests.conductor.stage import SOUND, Stage
from tests.speech.sounds import noise

ZONES = ("hall", "attic")
zones = st.sampled_from([(), (), ("all",)])
one_zone = st.sampled_from(ZONES)
REPEATS_KNOWN_S = 500.0
"""Within it the same id is a repeat."""
LONG = noise(1.2)


class House(RuleBasedStateMachine):
    """A house with two zones, to which everything happens in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.reports: list[Report] = []
        self.announced: dict[str, Announcement] = {}
        self.settled: Counter[int] = Counter()
        self.accepts = 0
        self.passed_s = 0.0
        self.gates: list[asyncio.Event] = []
        self._open_doors()

    # --- its life -----------------------------------------------------------------------------

    def _open_doors(self) -> None:
        self.stage = Stage(
            self.folder / "queue.db",
            clock=self.clock,
            zones=ZONES,
            with_cloud=True,
            max_waiting=6,
            ttl_s=400,
        )
        self.stage.reports = self.reports
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        begun, self.over = asyncio.Event(), asyncio.Event()

        async def live(stage: Stage, over: asyncio.Event) -> None:
            async with stage:
                begun.set()
                await over.wait()

        self.living = asyncio.create_task(live(self.stage, self.over))
        await begun.wait()

    async def _end(self) -> None:
        self.over.set()
        async with asyncio.timeout(30):
            await self.living

    def _turn(self, times: int) -> None:
        async def turn() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.runner.run(turn())

    # --- what happens -------------------------------------------------------------------------

    @rule(
        level=st.sampled_from(Priority),
        preempt=st.booleans(),
        tag=st.sampled_from([None, "t"]),
        ttl_s=st.sampled_from([None, None, 3.0, 30.0]),
        chime=st.booleans(),
        offline=st.sampled_from(OfflineRule),
        sounds=st.sampled_from(["plain", "slow", "held", "held", "breaks"]),
        zones=zones,
        delivery=st.booleans(),
        turns=st.sampled_from([0, 1, 2, 5, 30, 60]),
    )
    def say(
        self,
        level: Priority,
        preempt: bool,
        tag: str | None,
        ttl_s: float | None,
        chime: bool,
        offline: OfflineRule,
        sounds: str,
        zones: tuple[str, ...],
        delivery: bool,
        turns: int,
    ) -> None:
        name = f"a{len(self.announced)}"
        text = f"{name} is the first sentence here. This is the second one."
        gate = asyncio.Event()
        lines = self.stage.voice.lines
        if sounds == "slow":
            lines[text] = (gate, SOUND)
        elif sounds == "held":
            lines[text] = (LONG, gate, LONG)
        elif sounds == "breaks":
            lines[text] = (LONG, ServiceUnavailableError("it broke"))
        self.gates.append(gate)
        announcement = self.stage.announcement(
            name,
            text,
            priority=level,
            preempt=preempt,
            tag=tag,
            ttl_s=ttl_s,
            chime=chime or None,
            offline=offline,
            zones=zones,
            delivery=f"m{name}" if delivery else "",
        )
        self.announced[name] = announcement
        self._accept(announcement)
        self._turn(turns)

    @precondition(lambda self: self.announced)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.announced)))
        self._accept(self.announced[name])

    @rule(zone=one_zone, how=st.sampled_from(["cut", "paused", "card"]))
    def news_overtakes_what_speaks(self, zone: str, how: str) -> None:
        """Newer news of the same kind waits already when what speaks is cut."""
        speaking = self.stage.conductors[zone].speaking
        if speaking is None or speaking.tag is None:
            return
        for tag, level in ((speaking.tag, Priority.LOW), (None, Priority.CRITICAL)):
            name = f"a{len(self.announced)}"
            self.announced[name] = self.stage.announcement(
                name, tag=tag, priority=level, zones=(zone,)
            )
            if how == "cut" or tag is not None:
                self._accept(self.announced[name])
            else:
                del self.announced[name]
        if how == "paused":
            self.switch("paused", value=True)
        elif how == "card":
            self.card(zone, is_missing=True)
            self.sounds_go_on()
        self._turn(10)

    def _accept(self, announcement: Announcement) -> None:
        number = self.accepts
        self.accepts += 1

        async def accept() -> None:
            self.stage.intake.accept(announcement, lambda: self.settled.update([number]))

        self.runner.run(accept())

    @rule(zone=one_zone, why=st.sampled_from([Interruption.STOP, Interruption.SKIP]))
    def stop(self, zone: str, why: Interruption) -> None:
        self.stage.conductors[zone].interrupt(why)

    @rule(zone=one_zone)
    def skip(self, zone: str) -> None:
        async def skip() -> None:
            self.stage.conductors[zone].skip(lambda announcement: announcement.tag == "t")

        self.runner.run(skip())

    @rule(zone=one_zone)
    def clear(self, zone: str) -> None:
        self.stage.conductors[zone].clear()

    @rule(name=st.sampled_from(["paused", "muted", "quiet"]), value=st.booleans())
    def switch(self, name: str, value: bool) -> None:
        self.stage.controls.set(name, value=value)

    @rule(seconds=st.sampled_from([0.3, 2.0, 10.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        if self.passed_s + seconds < REPEATS_KNOWN_S:
            self.passed_s += seconds
            self.stage.advance(seconds)

    @rule()
    def sounds_go_on(self) -> None:
        for gate in self.gates:
            gate.set()

    @rule(zone=one_zone, is_missing=st.booleans())
    def card(self, zone: str, is_missing: bool) -> None:
        self.stage.cards[zone].missing = is_missing

    @rule(zone=one_zone, after_s=st.sampled_from([0.1, 0.5, 1.5]))
    def card_breaks(self, zone: str, after_s: float) -> None:
        self.stage.cards[zone].fails_after = int(after_s * 24_000)

    @rule(zone=one_zone, opens=st.booleans())
    def card_opens_slowly(self, zone: str, opens: bool) -> None:
        gate = self.stage.cards[zone].opening
        if opens:
            gate.set()
        else:
            gate.clear()

    @rule(kind=st.sampled_from(["fine", "away", "limited", "breaks"]))
    def cloud(self, kind: str) -> None:
        client = self.stage.client
        client.available = client.refusal = client.then = None
        if kind == "away":
            client.available = ServiceUnavailableError("no route")
        elif kind == "limited":
            client.refusal = RateLimitedError("slow down", retry_after_s=5)
        elif kind == "breaks":
            client.then = ServiceUnavailableError("connection lost")
        else:
            self.stage.conductors["hall"].try_again()

    @rule(turns=st.integers(1, 60))
    def goes_on(self, turns: int) -> None:
        self._turn(turns)

    @rule()
    def restarts(self) -> None:
        self.runner.run(self._end())
        switches, lines = self.stage.switches, self.stage.voice.lines
        assert self.stage.voice.open == 0
        self._open_doors()
        self.stage.voice.lines = lines
        self.stage.switches.paused = switches.paused

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def nothing_ends_twice(self) -> None:
        ends = Counter((r.announcement.id, r.zone) for r in self.reports if r.is_outcome)
        assert not [key for key, count in ends.items() if count > 1]
        assert not [number for number, count in self.settled.items() if count > 1]

    @invariant()
    def nothing_is_said_too_late(self) -> None:
        for report in self.reports:
            if report.event is Step.STARTED:
                announcement = self.announced[report.announcement.id]
                ttl_s = 400.0 if announcement.ttl_s is None else announcement.ttl_s
                assert report.at.monotonic_s < announcement.received.monotonic_s + ttl_s

    @invariant()
    def nothing_is_told_of_what_has_ended(self) -> None:
        ended = set()
        for report in self.reports:
            key = report.announcement.id, report.zone
            assert key not in ended
            if report.is_outcome:
                ended.add(key)

    def teardown(self) -> None:
        try:
            self.runner.run(self._calm_down())
            self.runner.run(self._end())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)
        self._check_accounts()

    async def _calm_down(self) -> None:
        self.sounds_go_on()
        self.cloud("fine")
        for zone in ZONES:
            self.stage.cards[zone].fails_after = None
            self.card(zone, is_missing=False)
            self.card_opens_slowly(zone, opens=True)
        for name in ("paused", "muted", "quiet"):
            self.switch(name, value=False)
        wanted = self._wanted()
        async with asyncio.timeout(20):
            while set(self.stage.ends) != wanted:
                await asyncio.sleep(0.002)
                if any(conductor.deferred for conductor in self.stage.conductors.values()):
                    self.stage.advance(5.1)

    def _wanted(self) -> set[tuple[str, str]]:
        found = set()
        for announcement in self.announced.values():
            names = announcement.zones or ("hall",)
            found.update((announcement.id, n) for n in (ZONES if names == ("all",) else names))
        return found

    def _check_accounts(self) -> None:
        assert all(len(ends) == 1 for ends in self.stage.ends.values())
        assert all(self.settled[number] == 1 for number in range(self.accepts))
        assert self.stage.voice.open == 0
        # Nothing of what is over stays in memory.
        keeping = self.stage.keeping
        assert not (keeping._settlers or keeping._unwritten or keeping._written)
        for conductor in self.stage.conductors.values():
            assert not (conductor._herald._past or conductor._herald._untold)
            assert len(conductor.waiting) == 0
        assert all(isinstance(end, Outcome) for ends in self.stage.ends.values() for end in ends)


TestHouse = House.TestCase
TestHouse.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
