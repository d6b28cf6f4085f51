"""Decides what one zone says next, and tells what became of it.

The way of an announcement here: `submit` puts it into the waiting list; `look` takes the first
that is due and has it performed; every step is told as a Report. The disk is never on the way to
the first sound: only what has to wait is written down (see `keeping.py`). Nor is a task that
waits for news: whoever brings news looks, so that a turn begins where its message was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from kugel_bridge.conductor.herald import Herald
from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.conductor.performance import Performance
from kugel_bridge.conductor.rules import LevelRules, Switches, retry_wait_s
from kugel_bridge.conductor.script import Alerts, Delivery, script_of
from kugel_bridge.conductor.turn import Ending, Interruption, Turn
from kugel_bridge.model.announcement import Announcement, Priority, ReplyAddress
from kugel_bridge.model.clock import Clock, Instant
from kugel_bridge.model.errors import BridgeError, DeviceError, OutdatedError, RetryableError
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.model.status import PlayState
from kugel_bridge.queue.policy import Entry, WaitingList, is_due, is_expired
from kugel_bridge.speech.ladder import Ladder
from kugel_bridge.zones.zone import Zone

logger = logging.getLogger(__name__)

UNTIL_RELEASED = float("inf")
SLOW_S = 0.05
"""A sound that takes longer shows as "synthesizing"; the state must not delay a quick one."""
MAX_REPLIES = 16
"""Callers of one announcement; each is a part of its row, which is written anew for the next."""
QUIET = "quiet hours"
FAULT = "a fault in kugel-bridge; the log has it"


class Conductor:
    """One zone's announcements, from arrival to outcome."""

    def __init__(
        self,
        zone: Zone,
        *,
        ladder: Ladder,
        alerts: Alerts,
        delivery: Delivery,
        rules: LevelRules,
        switches: Switches,
        waiting: WaitingList,
        keeping: Keeping,
        clock: Clock,
        on_report: Callable[[Report], None],
    ) -> None:
        self.zone = zone
        self._ladder, self._alerts, self._delivery = ladder, alerts, delivery
        self._last_delivery = delivery
        self._rules, self._switches = rules, switches
        self._waiting, self._keeping, self._clock = waiting, keeping, clock
        self._herald = Herald(keeping, clock, on_report)
        self._turn: Turn | None = None
        self._loop: asyncio.AbstractEventLoop  # from `run` on
        self._turns: asyncio.TaskGroup | None = None
        """Where turns live; None while none may begin."""
        self._next_look: asyncio.Handle | None = None
        self._card_retry_at_s = 0.0
        """Monotonic time at which what the sound card refused is tried again."""
        zone.on_ready = self.try_again

    # --- what the doors and controls ask --------------------------------------------------

    @property
    def state(self) -> PlayState:
        """What the zone does now."""
        if self._turn is not None:
            return PlayState.SPEAKING if self.is_audible else PlayState.SYNTHESIZING
        return PlayState.PAUSED if self._switches.paused else PlayState.IDLE

    @property
    def speaking(self) -> Announcement | None:
        """The announcement that has the floor, if any."""
        return self._turn.entry.announcement if self._turn else None

    @property
    def waiting(self) -> WaitingList:
        """What is still to be said, in order."""
        return self._waiting

    @property
    def is_audible(self) -> bool:
        """Whether something of the announcement that has the floor can be heard."""
        return self._turn is not None and self._turn.first_sound_s is not None

    @property
    def deferred(self) -> int:
        """How many of those waiting were put off to a later time."""
        return sum(1 for entry in self._waiting if entry.retry_at_s > 0)

    def submit(self, entry: Entry) -> None:
        """Take an announcement for this zone; it starts at once if nothing else speaks."""
        self._set_deadline(entry)
        if self._turns is not None and self._may_begin_at_once(entry):
            self._herald.expect(entry)
            self._give_turn(self._turns, entry)
            return
        if not self._add(entry):
            return  # the list was full, and this was the least urgent
        self._herald.expect(entry)
        if self._turn is not None or self._held(entry) or not self._is_next(entry):
            self._must_wait(entry)
            self._preempt_for(entry)
        if self._turn is None:
            self.look()
        else:
            self._look_soon()

    def reload(self, entries: list[Entry]) -> None:
        """Take up what the last run of the program left; whatever it waited for may be there."""
        live = [entry.sequence for entry in self._waiting]
        if self._turn is not None:
            live.append(self._turn.entry.sequence)
        for number, entry in enumerate(entries):
            # A slow disk gives them up late: the broker may have sent one again meanwhile.
            if self.has(entry.announcement.id):
                continue
            # What came meanwhile is newer, though it was counted without knowing of them.
            place = max(0, min(live) - len(entries) + number) if live else entry.sequence
            again = replace(entry, sequence=place, retry_at_s=0.0, reason="")
            if self._add(again) and not entry.resume_at:
                self._set_deadline(again)
        self._look_soon()

    def has(self, announcement_id: str) -> bool:
        """Whether an announcement with this id waits or speaks here."""
        return self.said_by(announcement_id) is not None

    def said_by(self, announcement_id: str) -> str | None:
        """What the announcement with this id says that waits or speaks here; None if none does."""
        if self._turn and self._turn.entry.announcement.id == announcement_id:
            return self._turn.entry.announcement.said
        waiting = self._waiting.get(announcement_id, self.zone.name)
        return None if waiting is None else waiting.announcement.said

    def add_replies(self, announcement_id: str, addresses: tuple[ReplyAddress, ...]) -> None:
        """Answer further callers too, who sent the same id again."""

        def with_replies(entry: Entry) -> Entry:
            known = entry.announcement.reply_to
            more = tuple(address for address in addresses if address not in known)
            announcement = replace(entry.announcement, reply_to=(known + more)[:MAX_REPLIES])
            return replace(entry, announcement=announcement)

        if self._turn and self._turn.entry.announcement.id == announcement_id:
            self._turn.entry = with_replies(self._turn.entry)
        for entry in map(with_replies, self._waiting.remove_id(announcement_id)):
            self._waiting.add(entry)
            self._keeping.watch(entry)

    def interrupt(self, why: Interruption) -> bool:
        """Cut what speaks now; False when nothing does, or it was ended before."""
        return self._turn is not None and self._turn.interrupt(why)

    def refuse(self, entry: Entry, outcome: Outcome, reason: str) -> None:
        """End an announcement before it is taken."""
        self._herald.ended_waiting(entry, outcome, reason)

    def skip(self, matches: Callable[[Announcement], bool]) -> int:
        """End what waits or speaks and matches; returns how many."""
        gone = self._waiting.remove(lambda entry: matches(entry.announcement))
        for entry in gone:
            self._herald.ended_waiting(entry, Outcome.SKIPPED, Interruption.SKIP.value)
        speaking = self.speaking
        cut = speaking is not None and matches(speaking) and self.interrupt(Interruption.SKIP)
        return len(gone) + cut

    def clear(self) -> int:
        """End everything that waits; returns how many."""
        gone = self._waiting.remove(lambda _: True)
        for entry in gone:
            self._herald.ended_waiting(entry, Outcome.SKIPPED, "cleared")
        return len(gone)

    def switched(self) -> None:
        """Look at the switches again."""
        if self.speaking is not None and self._switches.stops(self.speaking):
            self.interrupt(Interruption.PAUSE)
        if not self._switches.quiet:
            self._release(lambda entry: entry.reason == QUIET)
        self._look_soon()

    def try_again(self) -> None:
        """Try what was put off now: the cloud or the sound card is back."""
        self._release(lambda entry: entry.retry_at_s > 0 and entry.reason != QUIET)
        self._look_soon()

    # --- turn by turn -----------------------------------------------------------------------

    async def run(self) -> None:
        """Let announcements have their turns, until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as turns:
            self._turns = turns
            try:
                self.look()
                await self._loop.create_future()
            finally:
                self._turns = None  # the turn that is cut now is the last

    def look(self) -> None:
        """End what stopped being true, begin what is due, and see when to look again."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        now = self._clock.now()
        self._end_expired(now)
        if self._turns is None:
            return
        if self._turn is None and self._dropped_next(self._turns, now):
            self._look_soon()
        elif (wait_s := self._waiting.next_wake(now)) is not None:
            self._next_look = self._loop.call_later(wait_s, self.look)

    def _look_soon(self) -> None:
        """Look when the others had a word: thousands may arrive in a moment, or end."""
        if isinstance(self._next_look, asyncio.TimerHandle):
            self._next_look.cancel()
            self._next_look = None
        if self._next_look is None and self._turns is not None:
            self._next_look = self._loop.call_soon(self.look)

    def _end_expired(self, now: Instant) -> None:
        for late in self._waiting.expired(now):
            self._herald.ended_waiting(late, Outcome.EXPIRED, "not spoken in time")

    def _dropped_next(self, turns: asyncio.TaskGroup, now: Instant) -> bool:
        """Give the next entry its turn; True if it cannot have one, and another may."""
        entry = self._waiting.peek(now)
        if entry is None or self._switches.stops(entry.announcement):
            return False
        self._waiting.withdraw(entry)
        self._give_turn(turns, entry)
        return self._turn is None

    def _give_turn(self, turns: asyncio.TaskGroup, entry: Entry) -> None:
        """Begin an entry that waits no more, or tell why it cannot have its turn."""
        if self._switches.silences(entry.announcement):
            self._herald.ended_waiting(entry, Outcome.SKIPPED, "muted")
        elif self._switches.holds(entry.announcement):
            self._defer(entry, QUIET, UNTIL_RELEASED)
        else:
            try:
                self._begin(turns, entry)
            except BridgeError as error:
                self._herald.ended_waiting(entry, Outcome.FAILED, str(error))
            except Exception as error:  # noqa: BLE001 - it must not silence what comes after
                self._end_faulty(entry, error)

    def _begin(self, turns: asyncio.TaskGroup, entry: Entry) -> None:
        """Have an entry performed, to its end or to the point where something cuts it."""
        announcement = entry.announcement
        rule = self._rules[announcement.priority]
        self._keeping.unwatch(entry)
        self._those_beside_must_wait()
        cues = script_of(announcement, self._delivery_now(), self._alerts, entry.resume_at)
        performance = Performance(
            cues,
            self._ladder,
            cache=announcement.cache,
            first_sound_s=rule.first_sound_s,
            offline=announcement.offline or rule.offline,
            is_outdated=lambda: is_expired(entry, self._clock.now()),
            on_source=self._told_source,
        )
        self.zone.begin()
        slow = self._loop.call_later(SLOW_S, self.zone.changed)
        task = turns.create_task(self._perform(performance), name=f"{self.zone.name} turn")
        began_s = self._clock.now().monotonic_s
        past = self._herald.past(entry)
        turn = Turn(entry, performance, self.zone.player, task, began_s, past)
        self._turn = turn

        def over(_: object) -> None:
            slow.cancel()
            self._end(turn)

        # Not in the task: one that is cancelled before its first step does nothing at all.
        task.add_done_callback(over)

    def _end(self, turn: Turn) -> None:
        """A turn is over, also when the program ends: what was not heard is kept for the next."""
        self._turn = None
        self.zone.end()
        try:
            self._conclude(turn)
        except Exception as error:  # noqa: BLE001 - it must not silence what comes after
            self._end_faulty(turn.tried, error)
        self.look()

    def _end_faulty(self, entry: Entry, error: Exception) -> None:
        logger.error("announcement %s failed", entry.announcement.id, exc_info=error)
        self._herald.ended_waiting(entry, Outcome.FAILED, FAULT)

    async def _perform(self, performance: Performance) -> Ending | RetryableError:
        """Play it; how it ended, or why it has to be tried again later."""
        turn = self._turn
        assert turn is not None
        try:
            await self.zone.open()
            turn.playing = True
            async with contextlib.aclosing(performance.sound()) as sound:
                await self.zone.player.play(
                    sound, percent=lambda: self._percent(turn), on_first_sound=self._heard_first
                )
        except OutdatedError as error:
            return Ending(Outcome.EXPIRED, str(error))
        except DeviceError as error:
            self.zone.refused(str(error))
            return error
        except RetryableError as error:
            # Once words were heard, nobody wants the beginning again.
            return error if performance.source is None else Ending(Outcome.FAILED, str(error))
        except BridgeError as error:
            return Ending(Outcome.FAILED, str(error))
        except Exception:  # the outermost loop of this task
            logger.exception("announcement %s failed", turn.entry.announcement.id)
            return Ending(Outcome.FAILED, FAULT)
        return Ending(Outcome.FINISHED)

    def _conclude(self, turn: Turn) -> None:
        """Tell the outcome of a turn that is over, or let its entry wait for another one."""
        result, why = turn.result, turn.interruption
        if isinstance(result, Ending) and (why is None or result.outcome is Outcome.FINISHED):
            self._herald.ended(turn, result.outcome, result.reason)
        elif why is not None and why.is_final:
            self._herald.ended(turn, Outcome.SKIPPED, why.value)
        elif turn.is_said:
            self._herald.ended(turn, Outcome.FINISHED)
        elif isinstance(result, RetryableError):
            self._retry_later(turn, result)
        else:
            self._go_on_later(turn)

    def _go_on_later(self, turn: Turn) -> None:
        """Keep what has to make way for a moment, or for the end of the program's run."""
        if turn.interruption is Interruption.PREEMPT:
            self._herald.preempted(turn)
        entry = turn.resumed()
        self._herald.remember(turn)
        if self._add(entry):
            self._must_wait(entry)
        self.zone.changed()

    def _heard_first(self) -> None:
        if self._turn is not None and self._turn.first_sound_s is None:
            self._turn.first_sound_s = self._clock.now().monotonic_s
            self._herald.started(self._turn)

    def _told_source(self) -> None:
        if self._turn is not None:
            self._herald.started(self._turn)

    def _add(self, entry: Entry) -> bool:
        """Let an entry wait, and end those that cannot wait beside it; False if that is itself."""
        for old, newer in self._waiting.add(entry):
            if newer is None:
                self._herald.ended_waiting(old, Outcome.SKIPPED, "queue full")
            else:
                by = f"replaced by {newer.announcement.id}"
                self._herald.ended_waiting(old, Outcome.REPLACED, by)
        return entry in self._waiting

    def _must_wait(self, entry: Entry) -> None:
        """Say that an entry arrived and does not have the floor, and keep it safe."""
        self._herald.queued(entry)
        self._keeping.watch(entry)

    def _those_beside_must_wait(self) -> None:
        """What arrived when nothing spoke, in the same moment as the one that has the floor now."""
        for announcement_id in self._herald.untold:
            if (entry := self._waiting.get(announcement_id, self.zone.name)) is not None:
                self._must_wait(entry)

    def _set_deadline(self, entry: Entry) -> None:
        """Have it told if a critical one is not heard in time, counted from its arrival."""
        announcement = entry.announcement
        if announcement.priority is Priority.CRITICAL:
            age_s = self._clock.now().monotonic_s - announcement.received.monotonic_s
            left_s = self._rules[announcement.priority].first_sound_s - age_s
            asyncio.get_running_loop().call_later(max(0.0, left_s), self._escalate, entry)

    def _escalate(self, entry: Entry) -> None:
        """Tell that a critical one is not heard yet, though its deadline has passed."""
        if self._turn is not None and self._turn.entry.key == entry.key:
            first_sound_ms = self._turn.first_sound_ms
        elif self._waiting.get(*entry.key) is not None:
            first_sound_ms = self._herald.past(entry).first_sound_ms
        else:
            return
        if first_sound_ms is None:
            self._herald.escalated(entry)

    # --- later ------------------------------------------------------------------------------

    def _retry_later(self, turn: Turn, error: RetryableError) -> None:
        entry, now_s = turn.resumed(), self._clock.now().monotonic_s
        retry_at_s = now_s + retry_wait_s(error, entry.attempts)
        if isinstance(error, DeviceError):
            # All wait for the same card: due in the same moment, they come in their order.
            if self._card_retry_at_s <= now_s:
                self._card_retry_at_s = retry_at_s
            retry_at_s = self._card_retry_at_s
        self._herald.remember(turn)
        self._defer(entry, str(error), retry_at_s)

    def _defer(self, entry: Entry, reason: str, retry_at_s: float) -> None:
        """Put an entry back until `retry_at_s` (monotonic s), and say so."""
        entry = replace(entry, reason=reason, retry_at_s=retry_at_s)
        now = self._clock.now()
        if is_expired(entry, now):
            self._herald.ended_waiting(entry, Outcome.EXPIRED, reason)
            return
        if self._add(entry):
            self._herald.deferred(entry, now)
            self._keeping.watch(entry)

    def _release(self, matches: Callable[[Entry], bool]) -> None:
        for entry in self._waiting.remove(matches):
            self._waiting.add(replace(entry, retry_at_s=0.0, reason=""))

    # --- small questions ----------------------------------------------------------------------

    def _may_begin_at_once(self, entry: Entry) -> bool:
        """Whether nobody is to be asked: nothing speaks or waits, and nothing holds it back."""
        if self._turn is not None or len(self._waiting) or self._held(entry):
            return False
        now = self._clock.now()
        return is_due(entry, now) and not is_expired(entry, now)

    def _held(self, entry: Entry) -> bool:
        announcement = entry.announcement
        return self._switches.stops(announcement) or self._switches.holds(announcement)

    def _is_next(self, entry: Entry) -> bool:
        first = self._waiting.peek(self._clock.now())
        return first is not None and first.key == entry.key

    def _preempt_for(self, entry: Entry) -> None:
        """Cut what speaks, if it has to make way for `entry` and that could be spoken now."""
        speaking, announcement, now = self.speaking, entry.announcement, self._clock.now()
        if (
            speaking is not None
            and announcement.priority.rank < speaking.priority.rank
            and (announcement.priority.preempts or announcement.preempt)
            and not (self._held(entry) or self._switches.silences(announcement))
            and is_due(entry, now)
            and not is_expired(entry, now)
        ):
            self.interrupt(Interruption.PREEMPT)

    def _percent(self, turn: Turn) -> float:
        if self._switches.silences(turn.entry.announcement):
            return 0.0  # muted in the middle: it goes on unheard, and comes back when unmuted
        wish = turn.entry.announcement.volume
        return self.zone.volume if wish is None else wish.applied_to(self.zone.volume)

    def _delivery_now(self) -> Delivery:
        chime = self._switches.chime
        usual = self.zone.chime if chime is None else chime
        if usual is True:
            usual = self._delivery.default_chime
        wanted = self._switches.language, self._switches.voice, usual or None
        known = self._last_delivery
        if (known.language, known.voice, known.chime) != wanted:
            language, voice, chime = wanted
            known = replace(self._delivery, language=language, voice=voice, chime=chime)
            self._last_delivery = known
        return known
