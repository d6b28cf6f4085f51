"""What the bridge tells about itself: the objects of `state`, `info` and `health`."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kugel_bridge import __version__
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.model.status import AudioStatus, PlayState
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError

if TYPE_CHECKING:  # checked in a child process, see settings/plain.py
    from kugel_bridge.settings.tree import Settings

_BUSIEST = (PlayState.SPEAKING, PlayState.SYNTHESIZING, PlayState.PAUSED, PlayState.IDLE)
_WORST = (AudioStatus.MISSING, AudioStatus.BUSY, AudioStatus.OK)


def busiest(states: list[PlayState]) -> PlayState:
    """One word for several zones: the most that any of them does."""
    return min(states, key=_BUSIEST.index)


def worst(statuses: list[AudioStatus]) -> AudioStatus:
    """One word for several sound cards: the worst of them."""
    return min(statuses, key=_WORST.index)


def last_outcome(report: Report) -> dict[str, Any]:
    """The `last` field of the state: how the last announcement ended."""
    facts = {
        "id": report.announcement.id,
        "outcome": report.event.value,
        "zone": report.zone,
        "text": report.announcement.text[:200],
        "reason": report.reason or None,
        "source": report.source.value if report.source else None,
        "first_sound_ms": report.first_sound_ms,
    }
    return {name: value for name, value in facts.items() if value is not None}


def last_refusal(refusal: RefusedAnnouncementError, default_zone: str) -> dict[str, Any]:
    """The same for what could not even be read."""
    return {
        "id": refusal.id,
        "outcome": Outcome.REJECTED.value,
        "zone": ",".join(refusal.zones) or default_zone,
        "text": refusal.text,
        "reason": str(refusal),
    }


def info(settings: Settings) -> dict[str, Any]:
    """Version and effective configuration, without secrets."""
    return {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "name": settings.device_name,
        "config": settings.shown,
    }


def process_figures() -> dict[str, Any]:
    """Memory and open files of this process, and the machine's load."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    process: dict[str, Any] = {"cpu_s": round(own.ru_utime + own.ru_stime, 1)}
    # Without a descriptor left, these cannot be read.
    with contextlib.suppress(OSError):
        process["memory_used_mb"] = round(resident_mb(), 1)
        process["open_files"] = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return {"process": process, "os": {"load_average": [round(n, 2) for n in os.getloadavg()]}}


def resident_mb() -> float:
    """Memory this process occupies now (MB)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
