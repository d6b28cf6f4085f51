"""What people ask of a running bridge: the settings of `set/<name>` and the verbs of `request`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kugel_bridge.audio.chime import CHIMES
from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.conductor.intake import Intake
from kugel_bridge.conductor.rules import Switches
from kugel_bridge.conductor.turn import Interruption
from kugel_bridge.model.announcement import Announcement, Priority, Volume
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import RejectedError

logger = logging.getLogger(__name__)

REMEMBERED_TEXTS = 50
"""How many announcements `replay` can find again."""
LISTED = 100
"""Rows that `queue` and `history` answer with unless asked for another number."""
MAX_LISTED = 1_000
MAX_NAMED = 8
"""Unknown arguments named in a refusal; more would only make it long."""

Arguments = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verb:
    """One request that can be made."""

    carry_out: Callable[[Arguments], Awaitable[Answer]]
    takes: tuple[str, ...] = ()
    """Names of its arguments; `value` is what came as plain text, `values` as a plain list."""

    async def __call__(self, arguments: Arguments) -> Answer:
        """The answer; raises RejectedError or another BridgeError with the reason."""
        if unknown := [name for name in arguments if name not in self.takes]:
            # What was meant cannot be told: without it, "stop" would be more than was asked for.
            named = ", ".join(_PLAIN.get(name, repr(name)[:80]) for name in unknown[:MAX_NAMED])
            known = ", ".join(_PLAIN.get(name, name) for name in self.takes) or "nothing"
            raise RejectedError(f"not known here: {named}; the request takes {known}")
        return await self.carry_out(arguments)


_PLAIN = {"value": "a plain text", "values": "a plain list"}


@dataclass(slots=True)
class Wishes:
    """What a request names to choose announcements by; all that are given must fit."""

    id: str | None = None
    tag: str | None = None
    priority: Priority | None = None

    @classmethod
    def of(cls, arguments: Arguments) -> Wishes:
        """The wishes in a request; a plain text is an id."""
        return cls(
            id=arguments.get("id", arguments.get("value")),
            tag=arguments.get("tag"),
            priority=arguments.get("priority"),
        )

    @property
    def named(self) -> bool:
        """Whether anything was named at all."""
        return not (self.id is None and self.tag is None and self.priority is None)

    def fit(self, announcement: Announcement) -> bool:
        """Whether an announcement is meant."""
        return (
            self.id in (None, announcement.id)
            and self.tag in (None, announcement.tag)
            and self.priority in (None, announcement.priority)
        )


class Controls:
    """Carries out settings and the verbs that concern speaking."""

    def __init__(
        self,
        conductors: Sequence[Conductor],
        intake: Intake,
        switches: Switches,
        clock: Clock,
        *,
        language: str,
        on_log_level: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        self._conductors, self._intake, self._switches = conductors, intake, switches
        self._clock, self._language = clock, language
        self._on_log_level, self._on_change = on_log_level, on_change
        self._remembered: dict[str, Announcement] = {}
        self._replays = 0

    def remember(self, announcement: Announcement) -> None:
        """Keep an announcement for `replay`."""
        self._remembered.pop(announcement.id, None)
        self._remembered[announcement.id] = announcement
        while len(self._remembered) > REMEMBERED_TEXTS:
            del self._remembered[next(iter(self._remembered))]

    def set(self, name: str, value: bool | str | Volume | None) -> None:
        """Change one setting; raises RejectedError for what cannot be."""
        match name, value:
            case "volume", Volume() as volume:
                for conductor in self._conductors:
                    conductor.zone.volume = volume.applied_to(conductor.zone.volume)
            case (("muted" | "quiet" | "paused"), bool()):
                setattr(self._switches, name, value)
            case "voice", (str() | None) as voice:
                self._switches.voice = voice
            case "language", (str() | None) as language:
                self._switches.language = language or self._language
            case "chime", (str() | bool() | None) as chime:
                if isinstance(chime, str) and chime not in CHIMES:
                    raise RejectedError(f"no chime {chime!r}; there are: {', '.join(CHIMES)}")
                self._switches.chime = chime
            case "log_level", str() as level:
                self._on_log_level(level)
            case _:
                raise RejectedError(f"{name} cannot be {value!r}")
        for conductor in self._conductors:
            conductor.switched()
        self._on_change()

    def verbs(self) -> dict[str, Verb]:
        """The verbs carried out here, by name."""
        return {
            "stop": Verb(self._stop, ("zone",)),
            "skip": Verb(self._skip, ("id", "value", "tag", "priority", "zone")),
            "clear": Verb(self._clear, ("zone",)),
            "pause": Verb(self._pause),
            "resume": Verb(self._resume),
            "replay": Verb(self._replay, ("id", "value")),
            "queue": Verb(self._queue, ("zone", "limit")),
        }

    async def _stop(self, arguments: Arguments) -> Answer:
        chosen = self._chosen(arguments)
        return {"stopped": sum(c.interrupt(Interruption.STOP) for c in chosen)}

    async def _skip(self, arguments: Arguments) -> Answer:
        wishes, chosen = Wishes.of(arguments), self._chosen(arguments)
        if not wishes.named:
            # As a button without further words: what speaks now makes room for the next.
            return {"skipped": sum(c.interrupt(Interruption.SKIP) for c in chosen)}
        return {"skipped": sum(c.skip(wishes.fit) for c in chosen)}

    async def _clear(self, arguments: Arguments) -> Answer:
        return {"cleared": sum(c.clear() for c in self._chosen(arguments))}

    async def _pause(self, arguments: Arguments) -> Answer:
        self.set("paused", value=True)
        return {"paused": True}

    async def _resume(self, arguments: Arguments) -> Answer:
        self.set("paused", value=False)
        return {"paused": False}

    async def _replay(self, arguments: Arguments) -> Answer:
        wanted: str | None = arguments.get("id", arguments.get("value"))
        if wanted is None and self._remembered:
            wanted = next(reversed(self._remembered))
        found = self._remembered.get(wanted or "")
        if found is None:
            raise RejectedError(
                f"no announcement {wanted!r} is remembered" if wanted else "nothing was said yet"
            )
        self._replays += 1
        now = self._clock.now()
        again = replace(
            found,
            id=f"{found.id}-replay-{round(now.wall_s)}-{self._replays}",
            received=now,
            expires_at_s=None,
            not_before_s=None,
            dedupe_s=0.0,
            tag=None,
            reply_to=(),
            delivery="",
            redelivered=False,
        )
        self._intake.accept(again)
        return {"id": again.id, "text": again.text}

    async def _queue(self, arguments: Arguments) -> Answer:
        limit = limit_of(arguments)
        rows: list[Answer] = []
        waiting = 0
        for conductor in self._chosen(arguments):
            if (speaking := conductor.speaking) is not None:
                rows.append(_row(speaking, conductor.zone.name, conductor.state.value))
            for entry in conductor.waiting:
                waiting += 1
                if len(rows) < limit:
                    state = "deferred" if entry.retry_at_s > 0 else "waiting"
                    row = _row(entry.announcement, entry.zone, state)
                    rows.append(row | ({"reason": entry.reason} if entry.reason else {}))
        return {"waiting": waiting, "announcements": rows[:limit]}

    def _chosen(self, arguments: Arguments) -> list[Conductor]:
        """The zones a request names; all of them if it names none."""
        name = arguments.get("zone")
        chosen = [c for c in self._conductors if name in (None, "all", c.zone.name)]
        if not chosen:
            known = ", ".join(c.zone.name for c in self._conductors)
            raise RejectedError(f"no zone {name!r} here; there are: {known}")
        return chosen


def limit_of(arguments: Arguments) -> int:
    """The number of rows a request wants; raises RejectedError."""
    given = arguments.get("limit", LISTED)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_LISTED:
        raise RejectedError(f"limit is {given!r}; give a number from 1 to {MAX_LISTED}")
    return given


def _row(announcement: Announcement, zone: str, state: str) -> Answer:
    return {
        "id": announcement.id,
        "zone": zone,
        "state": state,
        "priority": announcement.priority.value,
        "text": announcement.text[:200],
    }
