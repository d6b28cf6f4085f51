"""A make-believe sound card for tests: orders, event log, what was heard.

The card is an ALSA plugin in C (tests/simcard/), so the whole way through alsa-lib is real: it
plays at the pace of the clock, records every frame, and misbehaves on demand.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parent / "simcard"


class Event(NamedTuple):
    """One line of the card's log."""

    at_s: float
    """On the clock of `time.monotonic`."""
    frames: int
    """Played since the card was opened."""
    name: str
    values: dict[str, str]


class SimCard:
    """One card; point ALSA at it with `environment`, then play on `sim`, `sim48`, `default`…"""

    def __init__(self, folder: Path, library: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out = folder / "heard.raw"
        self.log = folder / "events.log"
        self.orders = folder / "orders"
        self.library = library

    def environment(self) -> dict[str, str]:
        """Variables that alsa-lib reads at each open."""
        return {
            "ALSA_CONFIG_PATH": str(SOURCES / "asound-simcard.conf"),
            "SIMCARD_LIB": str(self.library),
            "SIMCARD_OUT": str(self.out),
            "SIMCARD_LOG": str(self.log),
            "SIMCARD_CTL": str(self.orders),
        }

    def order(self, text: str) -> None:
        """Have it misbehave, as told at the top of pcm_simcard.c; never seen half written."""
        draft = self.orders.with_suffix(".new")
        draft.write_text(text + "\n")
        draft.replace(self.orders)

    def heal(self) -> None:
        """Take the order back."""
        self.orders.unlink(missing_ok=True)

    def wait_fired(self, timeout_s: float = 5.0) -> bool:
        """True once a one-shot order has fired (the card deletes it then)."""
        return _wait_for(lambda: not self.orders.exists(), timeout_s)

    def wait_event(self, name: str, timeout_s: float = 5.0) -> bool:
        """True once the log holds such an event."""
        return _wait_for(lambda: bool(self.events(name)), timeout_s)

    def heard(self) -> bytes:
        """Everything that was played, frame for frame, up to the last call into the card."""
        return self.out.read_bytes() if self.out.exists() else b""

    def events(self, name: str | None = None) -> list[Event]:
        """The log, or one kind of event in it."""
        if not self.log.exists():
            return []
        found = []
        for line in self.log.read_text().splitlines():
            at, frames, what, *rest = line.split()
            if name in (None, what):
                values = {key: value for key, _, value in (r.partition("=") for r in rest)}
                found.append(Event(int(at) / 1e9, int(frames), what, values))
        return found

    def first_sound(self) -> float | None:
        """When it first started with something to play (s, clock of `time.monotonic`)."""
        for event in self.events("start"):
            if int(event.values["queued"]):
                return event.at_s
        return None

    def interruptions(self) -> list[tuple[float, float]]:
        """(when, how long) from each underrun or fault until sound went on, in seconds."""
        gaps: list[tuple[float, float]] = []
        since: float | None = None
        for event in self.events():
            if event.name in ("xrun", "fault") and since is None:
                since = event.at_s
            elif event.name == "start" and since is not None:
                gaps.append((since, event.at_s - since))
                since = None
        return gaps


def built_simcard(folder: Path) -> Path:
    """The card's library, built into `folder`: well under a second; needs cc, libasound2-dev."""
    answer = subprocess.run(
        ["sh", str(SOURCES / "build.sh"), str(folder)], check=True, capture_output=True, text=True
    )
    return Path(answer.stdout.strip())


def _wait_for(happened: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
