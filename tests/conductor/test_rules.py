"""What people may switch, and how long to wait before another try."""

from __future__ import annotations

import pytest

from kugel_bridge.conductor.rules import RETRY_LEAST_S, RETRY_MAX_S, Switches, retry_wait_s
from kugel_bridge.model.announcement import Priority
from kugel_bridge.model.errors import RateLimitedError, ServiceUnavailableError
from tests.queue.entries import entry


@pytest.mark.parametrize(
    ("level", "held", "silenced"),
    [
        (Priority.CRITICAL, False, False),
        (Priority.HIGH, False, True),
        (Priority.NORMAL, True, True),
        (Priority.LOW, True, True),
        (Priority.STATUS, True, True),
    ],
)
def test_what_passes_quiet_hours_and_mute(level: Priority, held: bool, silenced: bool) -> None:
    announcement = entry(1, priority=level).announcement
    switches = Switches(language="en")
    assert not switches.holds(announcement)
    assert not switches.silences(announcement)
    switches.quiet = switches.muted = True
    assert switches.holds(announcement) is held
    assert switches.silences(announcement) is silenced


def test_waits_double_up_to_a_minute() -> None:
    error = ServiceUnavailableError("away")
    for attempts, usual_s in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)):
        waits = [retry_wait_s(error, attempts) for _ in range(20)]
        assert all(0.8 * usual_s <= wait <= 1.2 * usual_s for wait in waits)
        assert len(set(waits)) > 1
    assert RETRY_MAX_S == 60


@pytest.mark.parametrize(("asked_s", "wait_s"), [(30.0, 30.0), (0.0, RETRY_LEAST_S), (-5, 0.2)])
def test_a_wish_is_honoured_but_never_without_rest(asked_s: float, wait_s: float) -> None:
    error = RateLimitedError("slow down", retry_after_s=asked_s)
    assert retry_wait_s(error, 5) == wait_s
