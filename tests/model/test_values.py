from __future__ import annotations

import time

import pytest

from kugel_bridge.model import errors
from kugel_bridge.model.announcement import Announcement, TextSegment
from kugel_bridge.model.clock import Clock, Instant, SystemClock
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.model.utterance import Utterance
from tests.clock import ManualClock


def test_the_system_clock_tells_both_times() -> None:
    before = Instant(time.time(), time.monotonic())
    now = SystemClock().now()
    assert before.monotonic_s <= now.monotonic_s <= time.monotonic()
    assert abs(now.wall_s - before.wall_s) < 60


def test_a_jump_of_the_wall_clock_leaves_the_monotonic_clock_alone() -> None:
    manual = ManualClock()
    clock: Clock = manual
    start = clock.now()
    manual.jump_wall(-3600)
    assert clock.now() == Instant(start.wall_s - 3600, start.monotonic_s)
    manual.advance(2)
    assert clock.now() == Instant(start.wall_s - 3598, start.monotonic_s + 2)


@pytest.mark.parametrize("event", [*Step, *Outcome])
def test_only_an_outcome_ends_an_announcement(event: Step | Outcome) -> None:
    announcement = Announcement(id="a", segments=(TextSegment("x"),), received=Instant(0.0, 0.0))
    report = Report(event=event, announcement=announcement, zone="hall", at=Instant(0.0, 0.0))
    assert report.is_outcome == (event in list(Outcome))


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_utterance_needs_a_text(text: str) -> None:
    with pytest.raises(ValueError, match="needs a text"):
        Utterance(text=text, language="de")


def test_every_error_says_whether_a_repeat_is_worth_it() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BridgeError)
    ]
    undecided = {errors.BridgeError, errors.ConfigurationError}
    for kind in set(kinds) - undecided:
        assert issubclass(kind, errors.RetryableError) != issubclass(kind, errors.PermanentError)


def test_a_retryable_error_carries_the_wish_of_the_other_side() -> None:
    assert errors.RateLimitedError("slow down", retry_after_s=3.0).retry_after_s == 3.0
    assert errors.RateLimitedError("slow down").retry_after_s is None
