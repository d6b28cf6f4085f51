"""The account of a soak: what was published, what was told of it, and what was heard."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.house import OUTCOMES
from tests.recital import Heard

SLACK_S = 0.7
"""Sound, event and fault are seen by different clocks and threads."""
REPEATING = frozenset({"daemon killed", "daemon told to end"})
"""After these what was being said may be said again."""
RESUMING = REPEATING | {"card unplugged", "card busy", "card stalls"}
"""After these the sentence that was cut begins again."""
BREAKING = RESUMING | {"sound breaks off", "cloud gone", "cloud stalls", "cloud cuts off"}
"""Under these not every sound is heard whole."""
FORGETFUL = frozenset({"broker killed"})
"""These may lose news on the way to us; the queue's own history has it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A fault, and when it was (s, wall clock)."""

    fault: str
    began_s: float
    ended_s: float

    def touches(self, began_s: float, ended_s: float) -> bool:
        """Whether it can have had to do with that time."""
        return self.began_s - SLACK_S <= ended_s and began_s <= self.ended_s + SLACK_S


@dataclass(slots=True)
class Said:
    """An announcement, and all that is known of it."""

    text: str
    priority: str
    published_s: float
    is_acknowledged: bool = False
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [step for step in self.steps if step["event_type"] in OUTCOMES]

    @property
    def began_s(self) -> float:
        """When it was first heard of as started; without that, when it was published."""
        starts = [moment(step) for step in self.steps if step["event_type"] == "started"]
        return min(starts, default=self.published_s)

    @property
    def ended_s(self) -> float:
        return max((moment(end) for end in self.ends), default=time.time())


class Books:
    """Everything, by id."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}
        self.windows: list[Window] = []

    def take_event(self, payload: bytes) -> None:
        """Note what the bridge tells; a repeat of the broker is no news."""
        step = json.loads(payload)
        known = self.said.get(step["id"])
        if known is not None and step not in known.steps:
            known.steps.append(step)

    @property
    def outstanding(self) -> list[str]:
        """Ids the bridge still owes an outcome."""
        return [name for name, said in self.said.items() if not said.ends]

    def look_up(self, queue: Path) -> int:
        """Find outcomes in the history that we were not told of; how many those are."""
        connection = sqlite3.connect(f"file:{queue}?mode=ro", uri=True)
        rows = connection.execute("SELECT id, outcome, details, at_wall_s FROM history").fetchall()
        connection.close()
        found = 0
        for name, outcome, details, at_s in rows:
            said = self.said.get(name)
            forgetful = any(window.fault in FORGETFUL for window in self.windows)
            if said is not None and not said.ends and forgetful:
                about = json.loads(details) | {"event_type": outcome, "at_s": at_s}
                said.steps.append(about)
                found += 1
        return found

    def faults_of(self, said: Said, kinds: frozenset[str], since_s: float) -> list[Window]:
        """The faults of these kinds that can have touched it."""
        return [w for w in self.windows if w.fault in kinds and w.touches(since_s, said.ended_s)]

    def complaints(self, heard: list[Heard]) -> list[str]:
        """Every promise that was broken, in words; empty when all were kept."""
        found = [f"{name} was never acknowledged" for name, said in self.said.items()
                 if not said.is_acknowledged]  # fmt: skip
        found += self._about_outcomes()
        found += self._about_sound(heard)
        found += self._about_order(heard)
        return found

    def _about_outcomes(self) -> Iterable[str]:
        for name, said in self.said.items():
            repeats = len(self.faults_of(said, REPEATING, said.published_s))
            if not said.ends:
                yield f"{name} has no outcome: {said}"
            elif len(said.ends) > 1 + repeats:
                yield f"{name} has {len(said.ends)} outcomes: {said}"
            for end in said.ends:
                if end["event_type"] != "finished":
                    yield f"{name} ended otherwise: {end}"

    def _about_sound(self, heard: list[Heard]) -> Iterable[str]:
        begun = Counter(h.text for h in heard)
        whole = Counter(h.text for h in heard if h.part == 1.0)
        owed: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for said in self.said.values():
            broken = self.faults_of(said, BREAKING, said.began_s)
            if any(end.get("source") in ("cloud", "cache") for end in said.ends) and not broken:
                owed[said.text] += 1
            cut = sum(step["event_type"] == "preempted" for step in said.steps)
            most[said.text] += 1 + cut + len(self.faults_of(said, RESUMING, said.published_s))
        for text in most:
            if whole[text] < owed[text]:
                yield f"{text!r} was heard whole {whole[text]} times, not {owed[text]}"
            if begun[text] > most[text]:
                yield f"{text!r} was heard {begun[text]} times, not {most[text]} at most"

    def _about_order(self, heard: list[Heard]) -> Iterable[str]:
        """Of those that nothing came in the way of, the earlier one is heard first."""
        once = Counter(said.text for said in self.said.values())
        place: dict[str, int] = {}
        for number, sound in enumerate(heard):
            place.setdefault(sound.text, number)
        lines: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for name, said in self.said.items():
            if once[said.text] > 1 or said.text not in place:
                continue
            if not self.faults_of(said, RESUMING, said.published_s):
                lines[said.priority].append((place[said.text], name))
        for line in lines.values():
            for one, other in itertools.pairwise(line):
                if other < one:
                    yield f"{other[1]} was heard before {one[1]}"

    def summary(self) -> dict[str, Any]:
        """Figures of it all."""
        sources = Counter(end.get("source") for said in self.said.values() for end in said.ends)
        return {
            "announcements": len(self.said),
            "outcomes": Counter(e["event_type"] for s in self.said.values() for e in s.ends),
            "sources": {str(source): count for source, count in sources.items()},
            "said_again": sum(len(s.ends) > 1 for s in self.said.values()),
            "faults": Counter(window.fault for window in self.windows),
        }


def moment(step: dict[str, Any]) -> float:
    """When a step was (s, wall clock)."""
    if "at_s" in step:
        return float(step["at_s"])
    return datetime.fromisoformat(step["at"]).timestamp()
