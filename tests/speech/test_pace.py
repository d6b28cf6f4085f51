"""A service that has kept pace is relied on; one slip, and it has to prove itself again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.jitter import JitterBuffer, Play
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.speech.pace import KEPT, MARGIN_S, PROOF, Pace

PIECE_S = 0.2


class Service:
    """Answers on a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pace = Pace(lambda: self.now_s)

    def answer(self, gaps_s: Sequence[float], *, breaks_off: bool = False) -> None:
        """One piece, and one more after each gap."""
        watch = self.pace.watch()
        watch.heard(PIECE_S)
        for gap_s in gaps_s:
            self.now_s += gap_s
            watch.heard(PIECE_S)
        watch.fail() if breaks_off else watch.end()
        self.now_s += 60


QUICK = (0.02, 0.02, 0.02)
LATE = (0.02, 0.5, 0.02)


def test_a_service_that_nobody_knows_is_not_relied_on() -> None:
    service = Service()
    assert service.pace.head_start_s is None
    service.answer(QUICK)
    assert service.pace.head_start_s is None


def test_one_that_kept_pace_is_relied_on_from_its_first_piece() -> None:
    service = Service()
    for _ in range(PROOF):
        service.answer(QUICK)
    assert service.pace.head_start_s == PIECE_S


@pytest.mark.parametrize("breaks_off", [True, False])
def test_after_a_slip_it_has_to_prove_itself_again(breaks_off: bool) -> None:
    service = Service()
    for _ in range(KEPT):
        service.answer(QUICK)
    service.answer(QUICK if breaks_off else LATE, breaks_off=breaks_off)
    for _ in range(KEPT - 1):
        service.answer(QUICK)
        assert service.pace.head_start_s is None
    service.answer(QUICK)
    assert service.pace.head_start_s == PIECE_S


def test_answers_of_a_single_piece_tell_nothing() -> None:
    service = Service()
    for _ in range(KEPT):
        service.answer(())
    assert service.pace.head_start_s is None


@given(st.lists(st.floats(0.0, 0.4), min_size=1, max_size=12))
def test_who_is_relied_on_would_have_left_no_gap(gaps_s: list[float]) -> None:
    service = Service()
    for _ in range(PROOF):
        service.answer(gaps_s)
    arrivals = [sum(gaps_s[: n + 1]) for n in range(len(gaps_s))]
    on_time = all(at <= PIECE_S * (n + 1) - MARGIN_S for n, at in enumerate(arrivals))
    # Sums of floats differ in their last digit, depending on their order.
    edge = any(abs(at - PIECE_S * (n + 1) + MARGIN_S) < 1e-9 for n, at in enumerate(arrivals))
    assert edge or (service.pace.head_start_s is not None) == on_time


def test_playing_begins_with_the_first_piece_of_a_service_that_keeps_pace() -> None:
    first = PcmChunk(SPEECH_FORMAT, bytes(SPEECH_FORMAT.frames_in(PIECE_S) * 2))
    for head_start_s, begins in ((None, False), (PIECE_S, True), (PIECE_S + 0.02, False)):
        buffer = JitterBuffer(head_start_s=head_start_s)
        buffer.push(first, 0.0)
        assert isinstance(buffer.next(0.0, 0.0), Play) is begins
